import { randomBytes } from 'node:crypto'

/** `req_` and 32 hexadecimal digits: 128 random bits. */
export function newRequestId(): string {
  return `req_${randomBytes(16).toString('hex')}`
}

/** `sess_` and 32 hexadecimal digits. */
export function newSessionId(): string {
  return `sess_${randomBytes(16).toString('hex')}`
}

/** A UUID of version 7 (RFC 9562, section 5.7) whose time part is `atMs`, so that ids sort by when they were made. */
export function newAttemptId(atMs: number): string {
  const bytes = randomBytes(16)
  bytes.writeUIntBE(atMs, 0, 6)
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f)
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f)
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text)
}
