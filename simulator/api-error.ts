/** An error as OpenAI words it: a status and the four fields of the error object. */
export class ApiError extends Error {
  readonly status: number
  readonly type: string
  readonly param: string | null
  readonly code: string | null

  constructor(status: number, message: string, fields: { type?: string; param?: string; code?: string } = {}) {
    super(message)
    this.name = 'ApiError'
    this.status = status
    this.type = fields.type ?? (status >= 500 ? 'server_error' : 'invalid_request_error')
    this.param = fields.param ?? null
    this.code = fields.code ?? null
  }
}

/** @see https://platform.openai.com/docs/guides/error-codes */
export function errorBody({ message, type, param, code }: ApiError): string {
  return JSON.stringify({ error: { message, type, param, code } }, undefined, 2)
}

/** The error OpenAI usually means by a status. */
export function typicalError(status: number, code?: string): ApiError {
  const [message, type, usualCode] = TYPICAL[status] ?? [
    status >= 500 ? 'The server had an error while processing your request.' : 'The request could not be served.',
    status >= 500 ? 'server_error' : 'invalid_request_error',
    undefined,
  ]
  if (code === 'insufficient_quota') {
    return new ApiError(status, 'You exceeded your current quota, please check your plan and billing details.', {
      type: code,
      code,
    })
  }
  const named = code ?? usualCode
  return new ApiError(status, message, named === undefined ? { type } : { type, code: named })
}

const TYPICAL: Record<number, [message: string, type: string, code?: string]> = {
  401: ['Incorrect API key provided.', 'invalid_request_error', 'invalid_api_key'],
  403: [
    'You are not allowed to do this with this key.',
    'invalid_request_error',
    'unsupported_country_region_territory',
  ],
  404: ['The requested resource was not found.', 'invalid_request_error'],
  408: ['The request timed out.', 'timeout'],
  409: ['The resource was changed by another request.', 'conflict_error'],
  429: [
    'Rate limit reached for requests in organization org-sim. Please try again in 1s.',
    'requests',
    'rate_limit_exceeded',
  ],
  500: ['The server had an error while processing your request. Sorry about that!', 'server_error', 'server_error'],
  503: ['The engine is currently overloaded, please try again later.', 'service_unavailable', 'server_is_overloaded'],
}
