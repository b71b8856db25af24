import type { IncomingHttpHeaders } from 'node:http'

/** A body on its way to OpenAI. */
export interface Outgoing {
  contentType: string
  /** Its length, where that is known. */
  bytes: number | undefined
  content: Buffer | AsyncIterable<Buffer>
}

/** What crosses to OpenAI, by allow-list; credentials, cookies and the choice of project are never in it. */
export function upstreamHeaders(
  rawHeaders: readonly string[],
  call: {
    upstreamKey: string
    body: Pick<Outgoing, 'contentType' | 'bytes'> | undefined
    requestId: string
    /** Valid, and the caller's own or ours below it. */
    traceparent: string | undefined
    namespace: (value: string) => string
  },
): string[] {
  const headers = [
    'authorization',
    `Bearer ${call.upstreamKey}`,
    // Compressed answers could not be read in passing.
    'accept-encoding',
    'identity',
  ]
  const connectionOnly = namedByConnection(rawHeaders)
  if (call.body) headers.push('content-type', call.body.contentType)
  // Without a length it goes in chunks.
  if (call.body?.bytes !== undefined) headers.push('content-length', String(call.body.bytes))
  let hasClientRequestId = false
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase()
    if (!isForwarded(name) || connectionOnly.has(name)) continue
    // It says more about the trace, and nothing without one.
    if (name === 'tracestate' && call.traceparent === undefined) continue
    const value = rawHeaders[at + 1] as string
    // Tenants of one OpenAI key must not get each other's answers by choosing the same one.
    headers.push(name, name === IDEMPOTENCY_KEY ? call.namespace(value) : value)
    hasClientRequestId ||= name === CLIENT_REQUEST_ID
  }
  if (call.traceparent !== undefined) headers.push('traceparent', call.traceparent)
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
const IDEMPOTENCY_KEY = 'idempotency-key'

const FORWARDED = new Set([
  'accept',
  'accept-language',
  'openai-beta',
  'user-agent',
  CLIENT_REQUEST_ID,
  IDEMPOTENCY_KEY,
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
