import type { Secret } from '../../secret.ts'

/** How the server of a self-test is called: over its front door, as any application would. */
export interface SelftestClient {
  call(method: string, path: string, options?: CallOptions): Promise<Answer>
}

export interface CallOptions {
  /** Of `X-User-ID`. */
  user?: string | undefined
  /** As JSON, or as it is when a string. */
  body?: unknown
  /** In place of the token; null sends none. */
  credential?: string | null
}

export interface Answer {
  status: number
  headers: Headers
  text: string
  /** Of an error in the one shape; empty otherwise. */
  code: string
  message: string
  /** A field of a JSON object, if that is what came. */
  field(name: string): unknown
}

/** The call could not be made, or had no whole answer. */
export class NoAnswer extends Error {}

export function openClient(target: {
  url: string
  adminUrl: string
  token: Secret
  signal: AbortSignal
}): SelftestClient {
  return {
    async call(method, path, { user, body, credential = target.token.reveal() } = {}) {
      const isAdmin = path.startsWith('/v1/api/')
      const url = `${isAdmin ? target.adminUrl : target.url}${path}`
      try {
        const response = await fetch(url, {
          method,
          headers: {
            ...(credential === null ? {} : { authorization: `Bearer ${credential}` }),
            ...(user === undefined ? {} : { 'x-user-id': Buffer.from(user).toString('latin1') }),
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
          // Elsewhere is not where the token was meant for.
          redirect: 'manual',
          signal: AbortSignal.any([target.signal, AbortSignal.timeout(TIMEOUT_MS)]),
        })
        return toAnswer(response, await response.text())
      } catch (error) {
        if (target.signal.aborted) throw new NoAnswer('Interrupted.')
        const isTimeout = error instanceof Error && error.name === 'TimeoutError'
        throw new NoAnswer(
          isTimeout
            ? `${url} did not answer within ${TIMEOUT_MS / 1000} seconds: look into the server's log.`
            : `${url} cannot be reached (${causeOf(error)}): check that the server runs there and that nothing is in between.`,
        )
      }
    },
  }
}

const TIMEOUT_MS = 120_000

function toAnswer({ status, headers }: Response, text: string): Answer {
  const body = parseObject(text)
  const error = body.error
  const fields = typeof error === 'object' && error !== null ? (error as Record<string, unknown>) : {}
  return {
    status,
    headers,
    text,
    code: String(fields.code ?? ''),
    message: String(fields.message ?? ''),
    field: (name) => body[name],
  }
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return cause instanceof Error && 'code' in cause ? String(cause.code) : 'no connection'
}
