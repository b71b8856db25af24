/** The closed list of what can go wrong, with the HTTP status each becomes. A code without a status does not compile. */
const STATUS_BY_CODE = {
  invalid_request: 400,
  invalid_json: 400,
  missing_user_id: 400,
  model_unpriced: 400,
  invalid_authentication: 401,
  forbidden: 403,
  insufficient_scope: 403,
  user_mismatch: 403,
  no_api_key: 403,
  not_found: 404,
  model_not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  body_too_large: 413,
  unsupported_media_type: 415,
  upgrade_required: 426,
  rate_limited: 429,
  too_many_concurrent_requests: 429,
  headers_too_large: 431,
  internal_error: 500,
  not_implemented: 501,
  upstream_unauthorized: 502,
  upstream_unreachable: 502,
  upstream_redirected: 502,
  overloaded: 503,
  shutting_down: 503,
  storage_full: 503,
  encryption_key_missing: 503,
  database_unavailable: 503,
  upstream_connect_timeout: 504,
  upstream_timeout: 504,
} as const

export type ErrorCode = keyof typeof STATUS_BY_CODE

/** An answer the caller can act on: a whole sentence, a code of the closed list, and the parameter at fault if there is one. */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly param: string | null
  /** Seconds after which it makes sense to try again; becomes `Retry-After`. */
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, message: string, options: { param?: string; retryAfterSeconds?: number } = {}) {
    super(message)
    this.name = 'AppError'
    this.code = code
    this.param = options.param ?? null
    this.retryAfterSeconds = options.retryAfterSeconds
  }

  get status(): number {
    return STATUS_BY_CODE[this.code]
  }
}

/**
 * The one error body: OpenAI's shape, so that its SDKs raise the right class, and `detail` for clients of the earlier system.
 * @see https://platform.openai.com/docs/guides/error-codes
 */
export function toErrorBody(error: AppError): {
  error: { message: string; type: string; param: string | null; code: string }
  detail: string
} {
  return {
    error: { message: error.message, type: errorType(error.status), param: error.param, code: error.code },
    detail: error.message,
  }
}

function errorType(status: number): string {
  if (status === 401) return 'authentication_error'
  if (status === 403) return 'permission_error'
  if (status === 404) return 'not_found_error'
  if (status === 429) return 'rate_limit_error'
  return status >= 500 ? 'server_error' : 'invalid_request_error'
}
