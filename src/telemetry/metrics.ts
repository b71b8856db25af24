import type { RequestRecord } from '../http/request-record.ts'
import { formatDecimal } from '../ledger/money.ts'
import { OTHER, Registry, type Sample } from './registry.ts'

/** What is counted as it happens. What others keep anyway is asked for when somebody wants to see it (see `gauges.ts`). */
export interface Metrics {
  readonly registry: Registry
  requestEnded(record: RequestRecord, outcome: string): void
  /** The first piece of a streamed answer is about to reach the client, this long after the request began. */
  firstEvent(seconds: number): void
  /** The proxy's own share of the time until the head of an answer. */
  overhead(seconds: number): void
  upstreamError(kind: string): void
  settled(attempt: SettledAttempt): void
  /** A batch of records reached the database, this long after the oldest of them came. */
  shipped(seconds: number): void
}

/** What is counted of an attempt's row in the ledger. */
export interface SettledAttempt {
  model_used: string | null
  usage_source: string
  input_tokens: number | null
  cached_tokens: number | null
  cache_write_tokens: number | null
  output_tokens: number | null
  reasoning_tokens: number | null
  cost_nano_usd: string | null
}

/** @param modelLabel the name of a model that has a price, or undefined: names that clients make up are no labels. */
export function openMetrics(modelLabel: (model: string) => string | undefined): Metrics {
  const registry = new Registry()
  const requests = registry.counter(
    'openai_proxy_requests_total',
    'Requests by endpoint and by how they ended.',
    'endpoint',
    'outcome',
  )
  const refusals = registry.counter(
    'openai_proxy_refusals_total',
    "Requests refused with an error of the proxy's own.",
    'code',
  )
  const duration = registry.histogram(
    'openai_proxy_request_duration_seconds',
    'Relayed requests from their first byte to the last of the answer.',
    DURATIONS,
  )
  const firstEvent = registry.histogram(
    'openai_proxy_time_to_first_event_seconds',
    'Streams from the first byte of the request to the first of the answer.',
    DURATIONS,
  )
  const overhead = registry.histogram(
    'openai_proxy_overhead_seconds',
    "The proxy's own share of the time until the head of an answer; receiving the request and OpenAI's time are not in it.",
    SHARES,
  )
  const upstreamErrors = registry.counter(
    'openai_proxy_upstream_errors_total',
    'Calls that OpenAI answered with an error, or not.',
    'kind',
  )
  const tokens = registry.counter('openai_proxy_tokens_total', 'Tokens of settled calls.', 'kind')
  const unpriced = registry.counter('openai_proxy_unpriced_requests_total', 'Settled calls whose cost is not known.')
  const usage = registry.counter(
    'openai_proxy_settled_calls_total',
    'Settled calls, by where their usage comes from.',
    'usage',
  )
  const shipDelay = registry.histogram(
    'openai_proxy_ship_delay_seconds',
    'From the settlement of a call to its row in the database; the oldest of each batch.',
    DURATIONS,
  )
  const costs = new Map<string, bigint>()
  registry.observe('counter', 'openai_proxy_cost_usd_total', 'Cost of settled calls, exact to the nano-dollar.', () =>
    [...costs].map(([model, nanoUsd]): Sample => ({ labels: { model }, value: formatDecimal(nanoUsd, 9, 0) })),
  )

  function addCost(model: string | null, nanoUsd: bigint): void {
    const known = model === null ? undefined : modelLabel(model)
    const label = known !== undefined && (costs.has(known) || costs.size < MODELS_MAX) ? known : OTHER
    costs.set(label, (costs.get(label) ?? 0n) + nanoUsd)
  }

  return {
    registry,
    requestEnded(record, outcome) {
      requests.add(1, record.endpoint, outcome)
      if (outcome === 'refused' && record.errorCode !== undefined) refusals.add(1, record.errorCode)
      if (record.ending !== undefined) duration.observe((performance.now() - record.startedAt) / 1000)
    },
    firstEvent: (seconds) => firstEvent.observe(seconds),
    overhead: (seconds) => overhead.observe(seconds),
    upstreamError: (kind) => upstreamErrors.add(1, kind),
    settled(attempt) {
      usage.add(1, attempt.usage_source)
      tokens.add(attempt.input_tokens ?? 0, 'input')
      tokens.add(attempt.cached_tokens ?? 0, 'cached')
      tokens.add(attempt.cache_write_tokens ?? 0, 'cache_write')
      tokens.add(attempt.output_tokens ?? 0, 'output')
      tokens.add(attempt.reasoning_tokens ?? 0, 'reasoning')
      if (attempt.cost_nano_usd === null) unpriced.add(1)
      else addCost(attempt.model_used, BigInt(attempt.cost_nano_usd))
    },
    shipped: (seconds) => shipDelay.observe(seconds),
  }
}

const DURATIONS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600]
const SHARES = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5]
/** Beyond them cost is under `other`. */
const MODELS_MAX = 50
