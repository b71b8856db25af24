import { isUtf8 } from 'node:buffer'
import { AppError } from '../errors.ts'

/** The headers of a request that decide who it is from; each may come once. */
export interface IdentityHeaders {
  authorization: string | undefined
  userId: string | undefined
  sessionId: string | undefined
  personaId: string | undefined
}

/**
 * Reads the identity headers from the raw list: Node's own object joins or drops repeated ones, and then two parties could
 * read two different callers from one request.
 * @throws {AppError} `invalid_request` when one is repeated or is not text.
 */
export function readIdentityHeaders(rawHeaders: readonly string[]): IdentityHeaders {
  const found: Partial<Record<string, string>> = {}
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase()
    if (!IDENTITY.has(name)) continue
    if (found[name] !== undefined) {
      throw new AppError('invalid_request', `The header ${name} came more than once.`, { param: name })
    }
    found[name] = decodeHeaderText(rawHeaders[at + 1] as string, name)
  }
  return {
    authorization: found.authorization,
    userId: found['x-user-id'],
    sessionId: readSessionId(found['x-session-id']),
    personaId: found['x-persona-id'],
  }
}

const IDENTITY = new Set(['authorization', 'x-user-id', 'x-session-id', 'x-persona-id'])

/** A header's value as its sender meant it: values arrive as Latin-1, and people write UTF-8. */
export function decodeHeaderText<T extends string | undefined>(value: T, name: string): T {
  if (value === undefined) return value
  const bytes = Buffer.from(value, 'latin1')
  if (!isUtf8(bytes)) throw new AppError('invalid_request', `The header ${name} is not valid UTF-8.`, { param: name })
  return bytes.toString() as T
}

function readSessionId(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined
  if (text.length <= SESSION_ID_MAX && /^[\x20-\x7e]+$/.test(text)) return text
  throw new AppError('invalid_request', `X-Session-ID has up to ${SESSION_ID_MAX} printable ASCII characters.`, {
    param: 'x-session-id',
  })
}

const SESSION_ID_MAX = 255
