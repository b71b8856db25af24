import { request } from 'undici'
import type { Secret } from '../secret.ts'
import { VERSION } from '../version.ts'
import type { Attributes, Span } from './tracer.ts'

/** Sends spans to a collector, in batches and behind everybody's back. What it does not take in time is dropped and counted. */
export interface SpanExporter {
  add(span: Span): void
  /** Spans that reached no collector since this process started. */
  readonly droppedCount: number
  /** Sends what is left, for a bounded time. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * OTLP over HTTP, as JSON.
 * @see https://opentelemetry.io/docs/specs/otlp/#otlphttp
 */
export function openOtlpExporter(options: {
  endpoint: URL
  headers: Secret | undefined
  serviceName: string
  instanceId: string
  onFault: (error: Error) => void
}): SpanExporter {
  const url = `${options.endpoint.href.replace(/\/+$/, '')}/v1/traces`
  const headers = { 'content-type': 'application/json', ...parseHeaders(options.headers?.reveal() ?? '') }
  let pending: Span[] = []
  let droppedCount = 0
  let timer: NodeJS.Timeout | undefined
  let sending: Promise<void> | undefined

  async function send(): Promise<void> {
    const batch = pending.slice(0, BATCH_MAX)
    pending = pending.slice(batch.length)
    try {
      const answer = await request(url, {
        method: 'POST',
        headers,
        body: JSON.stringify(toPayload(batch, options)),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
      await answer.body.dump()
      if (answer.statusCode >= 300) throw new Error(`The collector answered with status ${answer.statusCode}.`)
    } catch (error) {
      droppedCount += batch.length
      options.onFault(error as Error)
    }
  }

  function schedule(): void {
    if (timer || sending || pending.length === 0) return
    timer = setTimeout(sendNow, INTERVAL_MS)
    timer.unref()
  }

  function sendNow(): Promise<void> {
    clearTimeout(timer)
    timer = undefined
    sending ??= send().finally(() => {
      sending = undefined
      schedule()
    })
    return sending
  }

  return {
    add(span) {
      if (pending.length >= PENDING_MAX) {
        droppedCount += 1
        return
      }
      pending.push(span)
      schedule()
    },
    get droppedCount() {
      return droppedCount
    },
    async [Symbol.asyncDispose]() {
      const giveUpAt = performance.now() + CLOSE_TIMEOUT_MS
      while (pending.length > 0 && performance.now() < giveUpAt) await sendNow()
      await sending
      clearTimeout(timer)
    },
  }
}

const INTERVAL_MS = 1000
const BATCH_MAX = 512
const PENDING_MAX = 4096
const TIMEOUT_MS = 5000
const CLOSE_TIMEOUT_MS = 2000

/** `name=value,name=value`, values percent-encoded, as the specification of the variable has it. */
function parseHeaders(text: string): Record<string, string> {
  const pairs = text.split(',').flatMap((pair) => {
    const at = pair.indexOf('=')
    return at > 0 ? [[pair.slice(0, at).trim().toLowerCase(), decodeURIComponent(pair.slice(at + 1).trim())]] : []
  })
  return Object.fromEntries(pairs)
}

function toPayload(spans: readonly Span[], { serviceName, instanceId }: { serviceName: string; instanceId: string }) {
  const resource = { 'service.name': serviceName, 'service.version': VERSION, 'service.instance.id': instanceId }
  return {
    resourceSpans: [
      {
        resource: { attributes: toAttributes(resource) },
        scopeSpans: [{ scope: { name: 'openai-inference-proxy', version: VERSION }, spans: spans.map(toSpan) }],
      },
    ],
  }
}

function toSpan(span: Span) {
  const { traceId, spanId, parentSpanId, name, startMs, endMs } = span
  return {
    traceId,
    spanId,
    ...(parentSpanId === undefined ? {} : { parentSpanId }),
    name,
    kind: span.kind === 'server' ? 2 : 3,
    startTimeUnixNano: toNanoseconds(startMs),
    endTimeUnixNano: toNanoseconds(endMs),
    attributes: toAttributes(span.attributes),
    status: span.isError ? { code: 2 } : {},
  }
}

function toNanoseconds(ms: number): string {
  return String(BigInt(Math.round(ms * 1000)) * 1000n)
}

function toAttributes(attributes: Attributes) {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: toValue(value) }))
}

function toValue(value: Attributes[string]): Record<string, unknown> {
  if (Array.isArray(value)) return { arrayValue: { values: value.map(toValue) } }
  if (typeof value === 'boolean') return { boolValue: value }
  // Whole numbers are text in the JSON of Protocol Buffers.
  if (typeof value === 'number') return { intValue: String(Math.round(value)) }
  return { stringValue: value }
}
