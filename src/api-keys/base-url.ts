import { AppError } from '../errors.ts'

/** `*.api.openai.com` are OpenAI's own regional hosts. */
const OPENAI_HOST = /^([a-z0-9-]+\.)?api\.openai\.com$/

/**
 * A key's own base URL. The OpenAI key travels there, so it must be a place the operator trusts: OpenAI itself, the origin of
 * OPENAI_API_BASE_URL, or one listed in OPENAI_ALLOWED_ORIGINS. Nothing is allowed by default.
 */
export function parseBaseUrl(text: string, trusted: { openaiBaseUrl: URL; openaiAllowedOrigins: string[] }): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || url.username || url.password || url.search || url.hash) {
    throw new AppError('invalid_request', 'A base URL looks like https://eu.api.openai.com/v1.', { param: 'base_url' })
  }
  if (!isTrustedOrigin(url, trusted)) {
    throw new AppError(
      'invalid_request',
      `The origin ${url.origin} is not trusted with OpenAI keys: add it to OPENAI_ALLOWED_ORIGINS first.`,
      { param: 'base_url' },
    )
  }
  return url.href.replace(/\/+$/, '')
}

/** Asked when a base URL is stored and again before each new connection. */
export function isTrustedOrigin(url: URL, trusted: { openaiBaseUrl: URL; openaiAllowedOrigins: string[] }): boolean {
  if (url.origin === trusted.openaiBaseUrl.origin || trusted.openaiAllowedOrigins.includes(url.origin)) return true
  return url.protocol === 'https:' && url.port === '' && OPENAI_HOST.test(url.hostname)
}
