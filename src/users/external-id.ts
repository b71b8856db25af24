import { AppError } from '../errors.ts'

/**
 * The id by which a client's own system knows a user.
 * @throws {AppError} `missing_user_id` for an empty one or the word "null", which is what a client sends that has lost its user.
 */
export function parseExternalId(text: string, param: string): string {
  const id = text.trim()
  if (id === '' || id.toLowerCase() === 'null') {
    throw new AppError('missing_user_id', `${param} must name a user; it is empty or "null".`, { param })
  }
  if (id.length > EXTERNAL_ID_MAX || CONTROL.test(id)) {
    throw new AppError(
      'invalid_request',
      `${param} has up to ${EXTERNAL_ID_MAX} characters and no control characters.`,
      { param },
    )
  }
  return id
}

export const EXTERNAL_ID_MAX = 255

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const CONTROL = /[\u0000-\u001f\u007f\ud800-\udfff]/u
