import { hash } from 'node:crypto'
import { ApiError } from './api-error.ts'

/**
 * Whose stored objects a key sees. All keys share the project `default`, but for keys that contain `proj-<name>-`
 * (`sk-proj-acme-1234`), which belong to the project `<name>`.
 */
export type Credentials = { keyHash: string; project: string; refusal: ApiError | undefined }

const KNOWN_MAX = 10_000
const known = new Map<string, Credentials>()

/** Reads an `Authorization` header. A key is refused when it is missing or contains `invalid`. */
export function readCredentials(authorization: string | undefined): Credentials | undefined {
  if (authorization === undefined) return undefined
  const remembered = known.get(authorization)
  if (remembered) return remembered
  const key = /^Bearer\s+(\S+)\s*$/i.exec(authorization)?.[1]
  if (key === undefined) return undefined
  const credentials = {
    keyHash: hash('sha256', key),
    project: /proj-([A-Za-z0-9]+)-/.exec(key)?.[1] ?? 'default',
    refusal: key.includes('invalid') ? incorrectKey(key) : undefined,
  }
  if (known.size >= KNOWN_MAX) known.clear()
  known.set(authorization, credentials)
  return credentials
}

/** A key that was made here, with the project of the key that made it. */
export function shareProject(key: string, project: string): void {
  known.set(`Bearer ${key}`, { keyHash: hash('sha256', key), project, refusal: undefined })
}

export function missingKey(): ApiError {
  return new ApiError(
    401,
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth " +
      '(i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from https://platform.openai.com/account/api-keys.',
  )
}

function incorrectKey(key: string): ApiError {
  return new ApiError(
    401,
    `Incorrect API key provided: ${key.slice(0, 6)}...${key.slice(-4)}. ` +
      'You can find your API key at https://platform.openai.com/account/api-keys.',
    { code: 'invalid_api_key' },
  )
}
