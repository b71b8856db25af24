import type { ServerResponse } from 'node:http'
import type { RequestRecord } from '../http/request-record.ts'
import type { Settlement } from '../ledger/ledger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { CallSpan } from '../telemetry/tracer.ts'

/** What is told of one call upstream to whoever operates the proxy: timing, metrics, trace. Nothing of it decides anything. */
export class CallWatch {
  readonly #record: RequestRecord
  readonly #response: ServerResponse | undefined
  readonly #metrics: Metrics
  readonly #span: CallSpan | undefined
  #isSettled = false
  #hasBegun = false

  /** @param deps no response for what is answered over a WebSocket. */
  constructor(deps: {
    record: RequestRecord
    response?: ServerResponse
    metrics: Metrics
    span: CallSpan | undefined
  }) {
    this.#record = deps.record
    this.#response = deps.response
    this.#metrics = deps.metrics
    this.#span = deps.span
  }

  /** What OpenAI is told of the trace, when there is one. */
  get traceparent(): string | undefined {
    return this.#span?.traceparent
  }

  /** The head of OpenAI's answer has come; the client's has not been sent. */
  head(upstreamMs: number): void {
    const { startedAt, receiveMs } = this.#record
    const proxyMs = Math.max(0, performance.now() - startedAt - receiveMs - upstreamMs)
    this.#metrics.overhead(proxyMs / 1000)
    this.#response?.setHeader(
      'server-timing',
      `receive;dur=${receiveMs.toFixed(2)}, proxy;dur=${proxyMs.toFixed(2)}, upstream;dur=${upstreamMs.toFixed(2)}`,
    )
  }

  /** The first piece of a streamed answer is about to be written. */
  piece(): void {
    if (this.#hasBegun) return
    this.#hasBegun = true
    this.#metrics.firstEvent((performance.now() - this.#record.startedAt) / 1000)
  }

  /** Told as often as the attempt is settled; the first time counts, as it does there. */
  settled(settlement: Settlement): void {
    if (this.#isSettled) return
    this.#isSettled = true
    this.#record.ending = settlement.ending
    const error = upstreamErrorKind(settlement)
    if (error !== undefined) this.#metrics.upstreamError(error)
    this.#span?.end(settlement)
  }
}

/** A word of a closed list for what OpenAI, or the way there, did wrong. */
function upstreamErrorKind({ httpStatus, errorCode }: Settlement): string | undefined {
  if (errorCode !== null && FAULTS.has(errorCode)) return errorCode.replace('upstream_', '')
  if (httpStatus === null || httpStatus < 300) return undefined
  if (httpStatus === 429) return '429'
  return `${Math.floor(httpStatus / 100)}xx`
}

const FAULTS = new Set(['upstream_connect_timeout', 'upstream_timeout', 'upstream_unreachable'])
