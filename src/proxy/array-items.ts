import {
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COMMA,
  CR,
  countBackslashesBefore,
  LF,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
  SPACE,
  TAB,
} from './json-bytes.ts'

/** Where an element of a JSON array stands: from its first byte to behind its last. */
export interface ItemSpan {
  start: number
  end: number
}

/**
 * Finds the elements of a JSON array whose text is known to be valid in structure. Between steps, of which none is long, it gives the
 * place it has come to: whoever walks a large array can let others have their turn.
 * @param start of the opening bracket.
 */
export function* walkItems(bytes: Buffer, start: number, end: number): Generator<ItemSpan | number> {
  let depth = 0
  let itemStart = -1
  let itemEnd = -1
  let pauseAt = start + STEP_BYTES
  for (let at = start; at < end; at += 1) {
    if (at >= pauseAt) {
      pauseAt = at + STEP_BYTES
      yield at
    }
    const byte = bytes[at] as number
    if (byte === SPACE || byte === LF || byte === CR || byte === TAB) continue
    if ((byte === COMMA && depth === 1) || (byte === CLOSE_ARRAY && depth === 1)) {
      if (itemStart !== -1) yield { start: itemStart, end: itemEnd }
      itemStart = -1
      if (byte === CLOSE_ARRAY) return
      continue
    }
    if (depth === 1 && itemStart === -1) itemStart = at
    if (byte === QUOTE) at = endOfString(bytes, at + 1, end)
    else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth += 1
    else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) depth -= 1
    itemEnd = at + 1
  }
}

const STEP_BYTES = 32 * 1024

/** The place of the closing quote. */
function endOfString(bytes: Buffer, from: number, end: number): number {
  let at = from
  for (;;) {
    const quote = bytes.indexOf(QUOTE, at)
    if (quote === -1 || quote >= end) return end
    if (countBackslashesBefore(bytes, quote, from) % 2 === 0) return quote
    at = quote + 1
  }
}
