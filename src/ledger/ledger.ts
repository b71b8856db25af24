import { type BatchWriter, openBatchWriter } from '../db/batch-writer.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { newAttemptId } from '../ids.ts'
import type { PriceTable } from './pricing.ts'
import { insertSettledAttempts, type SettledRow } from './store.ts'
import { readUsage, type Usage } from './usage.ts'

/** What is known of a call upstream before it is made. */
export interface Opening {
  requestId: string
  organizationId: string
  userId: string | null
  apiKeyId: string
  sessionId: string
  endpoint: string
  modelRequested: string | null
  isStream: boolean
}

export type Ending =
  | 'completed'
  | 'incomplete'
  | 'failed'
  | 'cancelled'
  | 'client_closed'
  | 'upstream_error'
  | 'interrupted'

/** How a call upstream ended. */
export interface Settlement {
  ending: Ending
  httpStatus: number | null
  errorCode: string | null
  responseId: string | null
  upstreamRequestId: string | null
  /** The model and the tier that answered. */
  modelUsed: string | null
  serviceTier: string | null
  usage: SettledUsage
  firstByteMs: number | null
}

/** `reported`: as OpenAI sent it. `none`: OpenAI answered with an error and charged nothing. */
export type SettledUsage =
  | { source: 'reported'; raw: unknown; webSearchCalls: number }
  | { source: 'none' }
  | { source: 'estimated'; inputTokens: number; outputTokens: number }
  | { source: 'unknown' }

/** One call upstream. It is settled exactly once; whoever comes second changes nothing. */
export interface Attempt {
  readonly id: string
  settle(settlement: Settlement): void
}

/**
 * The record of every call upstream. Opening and settling never wait for the database: rows are shipped in batches, and sent
 * again until they are in, keyed by attempt so that twice is once.
 */
export interface Ledger {
  /** @throws {AppError} `database_unavailable` when more rows wait than may be lost sight of. */
  open(opening: Opening): Attempt
  /** Attempts that are open or not yet in the database. */
  readonly pendingCount: number
  /** Resolves when what is settled by now can be read from the database. */
  flush(signal?: AbortSignal): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export function openLedger(deps: {
  db: Db
  prices: PriceTable
  onFault: (error: Error, pendingCount: number) => void
  onRefused: (attemptId: string, error: Error) => void
  closeTimeoutMs: number
}): Ledger {
  const writer: BatchWriter<SettledRow> = openBatchWriter({
    write: (rows) => deps.db.forOperator((tx) => insertSettledAttempts(tx, rows)),
    intervalMs: SHIP_INTERVAL_MS,
    batchMax: BATCH_MAX,
    pendingMax: PENDING_MAX,
    closeTimeoutMs: deps.closeTimeoutMs,
    onFault: deps.onFault,
    onRefused: (row, error) => deps.onRefused(row.attempt_id, error),
  })
  let openCount = 0

  return {
    open(opening) {
      if (writer.isFull) {
        throw new AppError('database_unavailable', 'Too many requests wait to be recorded; try again shortly.', {
          retryAfterSeconds: 5,
        })
      }
      const openedAt = new Date()
      const startedAt = performance.now()
      const id = newAttemptId(openedAt.getTime())
      let isSettled = false
      openCount += 1
      return {
        id,
        settle(settlement) {
          if (isSettled) return
          isSettled = true
          openCount -= 1
          const durationMs = Math.round(performance.now() - startedAt)
          writer.add(toRow(deps.prices, opening, settlement, { id, openedAt, durationMs }))
        },
      }
    },
    get pendingCount() {
      return openCount + writer.pendingCount
    },
    flush: (signal) => writer.flush(signal),
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  }
}

const SHIP_INTERVAL_MS = 100
const BATCH_MAX = 500
/** About 100 MB of rows. */
const PENDING_MAX = 100_000

function toRow(
  prices: PriceTable,
  opening: Opening,
  settlement: Settlement,
  attempt: { id: string; openedAt: Date; durationMs: number },
): SettledRow {
  const usage = readSettledUsage(settlement.usage)
  const priced = priceOf(prices, settlement, usage, attempt.openedAt)
  return {
    organization_id: opening.organizationId,
    attempt_id: attempt.id,
    opened_at: attempt.openedAt.toISOString(),
    settled_at: new Date().toISOString(),
    request_id: opening.requestId,
    attempt_number: 1,
    endpoint: opening.endpoint,
    user_id: opening.userId,
    api_key_id: opening.apiKeyId,
    persona_id: null,
    persona_version: null,
    session_id: opening.sessionId,
    model_requested: storable(opening.modelRequested),
    model_used: storable(settlement.modelUsed),
    service_tier: storable(settlement.serviceTier),
    is_stream: opening.isStream,
    status: settlement.ending,
    http_status: settlement.httpStatus,
    error_code: storable(settlement.errorCode),
    response_id: storable(settlement.responseId),
    upstream_request_id: storable(settlement.upstreamRequestId),
    usage_source: usageSource(settlement.usage, usage),
    input_tokens: usage?.inputTokens ?? null,
    cached_tokens: usage?.cachedTokens ?? null,
    cache_write_tokens: usage ? usage.cacheWrite30mTokens + usage.cacheWrite12hTokens : null,
    output_tokens: usage?.outputTokens ?? null,
    reasoning_tokens: usage?.reasoningTokens ?? null,
    total_tokens: usage?.totalTokens ?? null,
    usage: settlement.usage.source === 'reported' ? storableJson(settlement.usage.raw) : null,
    cost_nano_usd: priced.costNanoUsd === null ? null : String(priced.costNanoUsd),
    price_version: priced.version,
    first_byte_ms: settlement.firstByteMs,
    duration_ms: attempt.durationMs,
  }
}

function readSettledUsage(settled: SettledUsage): Usage | undefined {
  if (settled.source === 'reported') return readUsage(settled.raw)
  if (settled.source === 'none') return readUsage({ input_tokens: 0, output_tokens: 0 })
  if (settled.source === 'unknown') return undefined
  return readUsage({ input_tokens: settled.inputTokens, output_tokens: settled.outputTokens })
}

/** A usage object that makes no sense is not a report. */
function usageSource(settled: SettledUsage, usage: Usage | undefined): 'reported' | 'estimated' | 'unknown' {
  if (settled.source === 'estimated') return 'estimated'
  return usage === undefined ? 'unknown' : 'reported'
}

function priceOf(prices: PriceTable, settlement: Settlement, usage: Usage | undefined, at: Date) {
  if (settlement.usage.source === 'none') return { costNanoUsd: 0n, version: null }
  const tools =
    settlement.usage.source === 'reported'
      ? { webSearchCalls: settlement.usage.webSearchCalls, fileSearchCalls: 0 }
      : undefined
  const priced = prices.price({ model: settlement.modelUsed, serviceTier: settlement.serviceTier, usage, tools, at })
  return priced.kind === 'priced'
    ? { costNanoUsd: priced.costNanoUsd, version: priced.priceVersion }
    : { costNanoUsd: null, version: null }
}

const TEXT_MAX = 255

/** Text of clients and of OpenAI as Postgres takes it: no NUL, no lone surrogates, not endless. */
function storable(text: string | null): string | null {
  return text === null ? null : text.slice(0, TEXT_MAX).replaceAll('\0', '').toWellFormed()
}

const USAGE_BYTES_MAX = 16 * 1024

function storableJson(value: unknown): unknown {
  const text = JSON.stringify(value)
  if (text === undefined || text.length > USAGE_BYTES_MAX) return null
  return JSON.parse(
    text
      .toWellFormed()
      .replaceAll('\\u0000', '')
      .replace(/\\ud[89a-f][0-9a-f]{2}/gi, ''),
  )
}
