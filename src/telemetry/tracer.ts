import { randomBytes } from 'node:crypto'
import type { RequestRecord } from '../http/request-record.ts'
import type { Settlement } from '../ledger/ledger.ts'
import { readUsage } from '../ledger/usage.ts'
import { formatTraceParent, parseTraceParent, type TraceParent } from './trace-context.ts'

/** Makes a trace of each relayed request: a span for the request, and one below it for each call upstream. Never its content. */
export interface Tracer {
  /** @param traceparent of the caller; what is not valid is as good as none. */
  begin(traceparent: string | undefined): RequestTrace
}

export interface RequestTrace {
  begin(call: UpstreamCall): CallSpan
  end(record: RequestRecord, outcome: string, status: number | null): void
}

interface UpstreamCall {
  endpoint: string
  model: string | null
  baseUrl: string
}

export interface CallSpan {
  /** What OpenAI is told, so that its side of the trace hangs below ours. */
  readonly traceparent: string
  end(settlement: Settlement): void
}

export type Attributes = Record<string, string | number | boolean | string[]>

/** A finished span, as an exporter wants it. Times are milliseconds since 1970, with fractions. */
export interface Span {
  traceId: string
  spanId: string
  parentSpanId: string | undefined
  name: string
  kind: 'server' | 'client'
  startMs: number
  endMs: number
  attributes: Attributes
  isError: boolean
}

/** @param ratio of the traces that begin here; what a caller has decided holds for its own. */
export function openTracer(options: { ratio: number; onSpan: (span: Span) => void; random?: () => number }): Tracer {
  const random = options.random ?? Math.random

  return {
    begin(header) {
      const parent = parseTraceParent(header)
      const traceId = parent?.traceId ?? newId(16)
      const isSampled = parent?.isSampled ?? random() < options.ratio
      const own: TraceParent = { traceId, spanId: newId(8), isSampled }
      const startMs = nowMs()
      const finish = (span: Omit<Span, 'traceId' | 'endMs'>) => {
        if (isSampled) options.onSpan({ ...span, traceId, endMs: nowMs() })
      }
      return {
        begin(call) {
          const spanId = newId(8)
          const callStartMs = nowMs()
          return {
            traceparent: formatTraceParent({ traceId, spanId, isSampled }),
            end(settlement) {
              const operation = operationOf(call.endpoint)
              finish({
                spanId,
                parentSpanId: own.spanId,
                name: call.model === null ? operation : `${operation} ${call.model}`,
                kind: 'client',
                startMs: callStartMs,
                attributes: { 'gen_ai.operation.name': operation, ...callAttributes(call, settlement) },
                isError: settlement.ending === 'failed' || settlement.ending === 'upstream_error',
              })
            },
          }
        },
        end(record, outcome, status) {
          finish({
            spanId: own.spanId,
            parentSpanId: parent?.spanId,
            name: record.endpoint,
            kind: 'server',
            startMs,
            attributes: requestAttributes(record, outcome, status),
            isError: (status ?? 500) >= 500,
          })
        },
      }
    },
  }
}

function newId(bytes: number): string {
  return randomBytes(bytes).toString('hex')
}

function nowMs(): number {
  return performance.timeOrigin + performance.now()
}

/** The well-known names where there is one. */
function operationOf(endpoint: string): string {
  if (/^(responses|chat)\b/.test(endpoint)) return 'chat'
  if (/^embeddings\b/.test(endpoint)) return 'embeddings'
  return /^completions\b/.test(endpoint) ? 'text_completion' : endpoint
}

/** @see https://opentelemetry.io/docs/specs/semconv/gen-ai/openai/ */
function callAttributes(call: UpstreamCall, settlement: Settlement): Attributes {
  const { usage, errorCode, httpStatus } = settlement
  const { hostname, port, protocol } = new URL(call.baseUrl)
  const reported = usage.source === 'reported' ? readUsage(usage.raw) : undefined
  return withoutEmpty({
    'gen_ai.provider.name': 'openai',
    'gen_ai.request.model': call.model,
    'gen_ai.response.model': settlement.modelUsed,
    'gen_ai.response.id': settlement.responseId,
    'gen_ai.response.finish_reasons': [settlement.ending],
    'gen_ai.usage.input_tokens': reported?.inputTokens,
    'gen_ai.usage.cache_read.input_tokens': reported?.cachedTokens,
    'gen_ai.usage.output_tokens': reported?.outputTokens,
    'openai.response.service_tier': settlement.serviceTier,
    'server.address': hostname,
    'server.port': Number(port || (protocol === 'https:' ? 443 : 80)),
    'http.response.status_code': httpStatus,
    'error.type': errorCode ?? ((httpStatus ?? 0) >= 400 ? String(httpStatus) : undefined),
  })
}

function requestAttributes(record: RequestRecord, outcome: string, status: number | null): Attributes {
  return withoutEmpty({
    'openai_proxy.request.id': record.requestId,
    'openai_proxy.organization.id': record.organizationId,
    'openai_proxy.outcome': outcome,
    'http.response.status_code': status,
    'error.type': record.errorCode,
  })
}

const TEXT_MAX = 255

function withoutEmpty(attributes: Record<string, Attributes[string] | null | undefined>): Attributes {
  const kept: Attributes = {}
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) kept[name] = typeof value === 'string' ? value.slice(0, TEXT_MAX) : value
  }
  return kept
}
