import { randomFillSync } from 'node:crypto'

/** `req_` and 32 hexadecimal digits: 128 random bits. */
export function newRequestId(): string {
  return `req_${random16().toString('hex')}`
}

/** `sess_` and 32 hexadecimal digits. */
export function newSessionId(): string {
  return `sess_${random16().toString('hex')}`
}

/** A UUID of version 7 (RFC 9562, section 5.7) whose time part is `atMs`, so that ids sort by when they were made. */
export function newAttemptId(atMs: number): string {
  const bytes = random16()
  bytes.writeUIntBE(atMs, 0, 6)
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f)
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f)
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** 16 random bytes for the moment: asking the system for a few hundred ids at once costs no more than asking for one. */
function random16(): Buffer {
  if (poolAt === POOL.length) {
    randomFillSync(POOL)
    poolAt = 0
  }
  poolAt += 16
  return POOL.subarray(poolAt - 16, poolAt)
}

const POOL = Buffer.allocUnsafeSlow(16 * 256)
let poolAt = POOL.length

export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text)
}
