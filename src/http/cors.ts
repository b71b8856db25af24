import type { IncomingMessage, ServerResponse } from 'node:http'

/**
 * Lets browsers on the allowed origins read answers (Fetch standard, section 3.2). Credentials travel in `Authorization`, never in
 * cookies, so none are allowed here.
 * @returns false when a preflight was answered and nothing is left to do.
 */
export function applyCors(
  request: IncomingMessage,
  response: ServerResponse,
  allowedOrigins: readonly string[],
): boolean {
  const { origin } = request.headers
  if (origin === undefined) return true
  response.setHeader('vary', 'origin')
  const isAllowed = allowedOrigins.includes('*') || allowedOrigins.includes(origin)
  if (isAllowed) {
    response.setHeader('access-control-allow-origin', origin)
    response.setHeader('access-control-expose-headers', EXPOSED)
  }
  const isPreflight = request.method === 'OPTIONS' && request.headers['access-control-request-method'] !== undefined
  if (!isPreflight) return true
  if (isAllowed) {
    response.setHeader('access-control-allow-methods', 'GET, POST, PUT, DELETE, OPTIONS')
    // OpenAI's SDKs send a dozen x-stainless-* headers of their own: whatever is asked for is allowed, as none grants anything.
    response.setHeader('access-control-allow-headers', request.headers['access-control-request-headers'] ?? '*')
    response.setHeader('access-control-max-age', '600')
  }
  response.writeHead(isAllowed ? 204 : 403).end()
  return false
}

const EXPOSED = [
  'X-Request-ID',
  'X-Session-ID',
  'Retry-After',
  'Server-Timing',
  'X-RateLimit-Limit-Requests',
  'X-RateLimit-Limit-Tokens',
  'X-RateLimit-Remaining-Requests',
  'X-RateLimit-Remaining-Tokens',
  'X-RateLimit-Reset-Requests',
  'X-RateLimit-Reset-Tokens',
  'OpenAI-Processing-Ms',
].join(', ')
