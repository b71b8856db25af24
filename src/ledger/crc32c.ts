/**
 * CRC-32C (Castagnoli; RFC 3720, appendix B.4): finds every burst of up to 32 flipped bits. Four bytes a step: a record of the journal
 * takes a third of the time of one byte a step.
 */
export function crc32c(bytes: Uint8Array): number {
  let crc = -1
  let at = 0
  for (const whole = bytes.length - 3; at < whole; at += 4) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    crc =
      (TABLES[768 + (crc & 0xff)] as number) ^
      (TABLES[512 + ((crc >>> 8) & 0xff)] as number) ^
      (TABLES[256 + ((crc >>> 16) & 0xff)] as number) ^
      (TABLES[crc >>> 24] as number)
  }
  for (; at < bytes.length; at += 1) crc = (TABLES[(crc ^ (bytes[at] as number)) & 0xff] as number) ^ (crc >>> 8)
  return (crc ^ -1) >>> 0
}

const POLYNOMIAL_REVERSED = 0x82f63b78

/** Four tables in one: what a byte becomes when none, one, two and three bytes follow it. */
const TABLES = new Int32Array(1024)
for (let byte = 0; byte < 256; byte += 1) {
  let value = byte
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL_REVERSED : value >>> 1
  TABLES[byte] = value
}
for (let at = 256; at < 1024; at += 1) {
  const before = TABLES[at - 256] as number
  TABLES[at] = (TABLES[before & 0xff] as number) ^ (before >>> 8)
}
