import { AppError } from '../errors.ts'

/** A place in a list that is ordered by a time and some ids, as clients carry it from page to page. Opaque to them. */
export function writePageCursor(at: Date, ...ids: string[]): string {
  return Buffer.from(JSON.stringify([at.toISOString(), ...ids])).toString('base64url')
}

/**
 * @param isId one check for each id, in order.
 * @throws {AppError} `invalid_request` for what is no cursor of this list.
 */
export function readPageCursor(text: string, isId: readonly ((id: string) => boolean)[]): { at: Date; ids: string[] } {
  try {
    const [at, ...ids] = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[]
    const isSound =
      typeof at === 'string' &&
      /^2\d{3}-/.test(at) &&
      ids.length === isId.length &&
      ids.every((id, index) => typeof id === 'string' && isId[index]?.(id))
    const time = new Date(String(at))
    if (isSound && !Number.isNaN(time.getTime())) return { at: time, ids: ids as string[] }
  } catch {
    // Answered below.
  }
  throw new AppError('invalid_request', 'cursor is not one of this list: send next_cursor as it came.', {
    param: 'cursor',
  })
}

export function isStorableText(text: string): boolean {
  return text.length <= 255 && !text.includes('\0') && text.isWellFormed()
}
