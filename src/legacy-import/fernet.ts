import { createDecipheriv, createHmac, timingSafeEqual } from 'node:crypto'

/** Opens one Fernet token; undefined for any other text, and for one made with another key. */
export type OpenFernet = (token: string) => string | undefined

/**
 * A key of Fernet: 32 bytes in base64url, half for the signature and half for the cipher.
 * @returns undefined when the text is no such key.
 * @see https://github.com/fernet/spec/blob/master/Spec.md
 */
export function readFernetKey(text: string): OpenFernet | undefined {
  if (!/^[\w-]{43}=?$/.test(text)) return undefined
  const key = Buffer.from(text, 'base64url')
  if (key.length !== 32) return undefined
  return (token) => open(key.subarray(0, 16), key.subarray(16), token)
}

function open(signingKey: Buffer, encryptionKey: Buffer, token: string): string | undefined {
  if (!/^[\w-]+={0,2}$/.test(token)) return undefined
  // Version, time, initialization vector, cipher text in whole blocks, signature.
  const bytes = Buffer.from(token, 'base64url')
  const cipherLength = bytes.length - HEAD_BYTES - SIGNATURE_BYTES
  if (bytes[0] !== VERSION || cipherLength < BLOCK_BYTES || cipherLength % BLOCK_BYTES !== 0) return undefined
  const signed = bytes.subarray(0, -SIGNATURE_BYTES)
  const signature = createHmac('sha256', signingKey).update(signed).digest()
  if (!timingSafeEqual(signature, bytes.subarray(-SIGNATURE_BYTES))) return undefined
  const decipher = createDecipheriv('aes-128-cbc', encryptionKey, signed.subarray(HEAD_BYTES - BLOCK_BYTES, HEAD_BYTES))
  try {
    return Buffer.concat([decipher.update(signed.subarray(HEAD_BYTES)), decipher.final()]).toString()
  } catch {
    return undefined
  }
}

const VERSION = 0x80
const BLOCK_BYTES = 16
const HEAD_BYTES = 1 + 8 + BLOCK_BYTES
const SIGNATURE_BYTES = 32
