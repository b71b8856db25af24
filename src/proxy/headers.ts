import type { IncomingHttpHeaders } from 'node:http'

/** What crosses to OpenAI, by allow-list; credentials, cookies and the choice of project are never in it. */
export function upstreamHeaders(
  rawHeaders: readonly string[],
  call: { upstreamKey: string; bodyBytes: number | undefined; requestId: string },
): string[] {
  const headers = [
    'authorization',
    `Bearer ${call.upstreamKey}`,
    // Compressed answers could not be read in passing.
    'accept-encoding',
    'identity',
  ]
  const connectionOnly = namedByConnection(rawHeaders)
  if (call.bodyBytes !== undefined) {
    headers.push('content-type', 'application/json', 'content-length', String(call.bodyBytes))
  }
  let hasClientRequestId = false
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase()
    if (!isForwarded(name) || connectionOnly.has(name)) continue
    headers.push(name, rawHeaders[at + 1] as string)
    hasClientRequestId ||= name === CLIENT_REQUEST_ID
  }
  // OpenAI's support finds a call by this id; without one of the client's own it is the one in our answer and our ledger.
  if (!hasClientRequestId) headers.push(CLIENT_REQUEST_ID, call.requestId)
  return headers
}

/**
 * What comes back to the client, by allow-list; framing is Node's own.
 * @param body one that is edited has another length than OpenAI says.
 */
export function clientHeaders(headers: IncomingHttpHeaders, body: 'as it came' | 'edited' = 'as it came'): string[] {
  const kept: string[] = []
  for (const name in headers) {
    if (!isReturned(name) || (body === 'edited' && name === 'content-length')) continue
    const value = headers[name]
    if (typeof value === 'string') kept.push(name, value)
    else if (Array.isArray(value)) for (const one of value) kept.push(name, one)
  }
  return kept
}

/** Headers that their sender meant for this connection alone (RFC 9110, section 7.6.1). */
function namedByConnection(rawHeaders: readonly string[]): ReadonlySet<string> {
  let names: Set<string> | undefined
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if ((rawHeaders[at] as string).toLowerCase() !== 'connection') continue
    const value = (rawHeaders[at + 1] as string).toLowerCase()
    if (value === 'keep-alive' || value === 'close') continue
    names ??= new Set()
    for (const name of value.split(',')) names.add(name.trim())
  }
  return names ?? NONE
}

const NONE: ReadonlySet<string> = new Set()

const CLIENT_REQUEST_ID = 'x-client-request-id'

const FORWARDED = new Set([
  'accept',
  'accept-language',
  'openai-beta',
  'user-agent',
  CLIENT_REQUEST_ID,
  'idempotency-key',
  'traceparent',
  'tracestate',
  // Codex and the Agents SDK.
  'originator',
  'session-id',
  'thread-id',
  'version',
])

function isForwarded(name: string): boolean {
  return FORWARDED.has(name) || name.startsWith('x-stainless-') || name.startsWith('x-codex-')
}

const RETURNED = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  'content-disposition',
  'cache-control',
  'retry-after',
  'retry-after-ms',
  'x-should-retry',
  'openai-processing-ms',
  'openai-version',
  'openai-model',
])

function isReturned(name: string): boolean {
  return RETURNED.has(name) || name.startsWith('x-ratelimit-')
}
