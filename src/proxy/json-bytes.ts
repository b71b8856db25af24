/** The bytes that give a JSON text its shape (RFC 8259), and what every reader of passing text does with its strings. */
export const TAB = 0x09
export const LF = 0x0a
export const CR = 0x0d
export const SPACE = 0x20
export const QUOTE = 0x22
export const COMMA = 0x2c
export const COLON = 0x3a
export const OPEN_ARRAY = 0x5b
export const CLOSE_ARRAY = 0x5d
export const OPEN_OBJECT = 0x7b
export const CLOSE_OBJECT = 0x7d

const BACKSLASH = 0x5c

/** An odd number of them escapes what stands at `end`. */
export function countBackslashesBefore(bytes: Uint8Array, end: number, from: number): number {
  let count = 0
  while (end - 1 - count >= from && bytes[end - 1 - count] === BACKSLASH) count += 1
  return count
}

/**
 * What stands between the quotes, as it is meant: `\u006dodel` is `model`, to us as to whoever reads it next. Undefined when an escape
 * is broken.
 */
export function decodeString(text: string): string | undefined {
  if (!text.includes('\\')) return text
  try {
    return JSON.parse(`"${text}"`) as string
  } catch {
    return undefined
  }
}
