import { randomInt } from 'node:crypto'
import { crc32 } from 'node:zlib'

/**
 * What clients hold: `sk-proxy-`, 32 random characters of [0-9A-Za-z] (190 bits), and 6 that are their CRC-32, so that a
 * mistyped key is refused without asking the database.
 */
export function newSyntheticKey(): string {
  const body = Array.from({ length: BODY_LENGTH }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')
  return `${PREFIX}${body}${checksum(body)}`
}

export function isSyntheticKey(text: string): boolean {
  if (!FORM.test(text)) return false
  const body = text.slice(PREFIX.length, PREFIX.length + BODY_LENGTH)
  return text.endsWith(checksum(body))
}

/**
 * A key of the earlier system, which used them as labels only and showed them to everybody with a token: it names an imported key to
 * operators, and lets nobody in.
 */
export function isLegacySyntheticKey(text: string): boolean {
  return LEGACY_FORM.test(text)
}

/** The two ends that people may see: enough to tell keys apart, far too little to use one. */
export function displayParts(key: string): { prefix: string; last4: string } {
  return { prefix: key.slice(0, PREFIX.length + DISPLAY_LENGTH), last4: key.slice(-4) }
}

export const PREFIX = 'sk-proxy-'
const BODY_LENGTH = 32
const CHECKSUM_LENGTH = 6
const DISPLAY_LENGTH = 8
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const FORM = new RegExp(`^${PREFIX}[0-9A-Za-z]{${BODY_LENGTH + CHECKSUM_LENGTH}}$`)
const LEGACY_FORM = new RegExp(`^${PREFIX}[0-9A-Za-z]{48}$`)

function checksum(body: string): string {
  let rest = crc32(body)
  let text = ''
  for (let place = 0; place < CHECKSUM_LENGTH; place += 1) {
    text = `${ALPHABET[rest % ALPHABET.length]}${text}`
    rest = Math.floor(rest / ALPHABET.length)
  }
  return text
}
