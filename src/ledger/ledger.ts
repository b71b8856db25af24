import { type BatchWriter, openBatchWriter } from '../db/batch-writer.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { newAttemptId } from '../ids.ts'
import { estimateInputTokens, type InputMeasure } from './estimate.ts'
import type { Journal, Position } from './journal.ts'
import type { PriceTable, ToolCalls } from './pricing.ts'
import type { Recovered } from './recovery.ts'
import { hastenDeferred, insertDeferred, insertSettledAttempts, type SettledRow } from './store.ts'
import { openTokenizer } from './tokenizer.ts'
import { readUsage, type Usage } from './usage.ts'
import { readPart, type StoredPart, type UsagePart } from './usage-parts.ts'

/** What is known of a call upstream before it is made. */
export interface Opening {
  requestId: string
  /** 1, or more when the call was made again because it could not leave. */
  attemptNumber: number
  organizationId: string
  userId: string | null
  apiKeyId: string
  sessionId: string
  endpoint: string
  modelRequested: string | null
  isStream: boolean
  /** What the input will cost in tokens, should nobody ever report it; null where that cannot be told, as of images and sound. */
  inputTokensEstimate: number | null
  /** A background response goes on at OpenAI whatever becomes of this call. */
  isBackground: boolean
  /** Absent in journals of earlier versions, as where there is none. */
  personaId?: string | undefined
  personaVersion?: number | undefined
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

/** `reported`: as OpenAI sent it; with `parts` when not all of it has one price. `none`: nothing is charged for it. */
export type SettledUsage =
  | { source: 'reported'; raw: unknown; toolCalls?: ToolCalls; parts?: readonly UsagePart[] }
  | { source: 'none' }
  /** Cut before its end: the input is counted by the ledger, the output is what was seen. */
  | { source: 'estimated'; outputTokens: number }
  | { source: 'unknown' }

/** One call upstream. It is settled exactly once; whoever comes second changes nothing. */
export interface Attempt {
  readonly id: string
  settle(settlement: Settlement): void
  /** Instead of settling: the answer goes on in the background, and its end has to be asked for. */
  defer(responseId: string): void
  /** Records how far the answer has come without waiting for the next time that everybody is asked. */
  recordProgress(): void
}

/** An attempt whose end has to be asked for. */
export interface DeferredRecord {
  opened: OpenedRecord
  responseId: string
}

/** How far an answer has come: what is known of it should this process die now. */
export interface Progress {
  outputTokens: number
  modelUsed: string | null
  serviceTier: string | null
  responseId: string | null
}

/**
 * The record of every call upstream. An attempt is in the journal before the call is made, and its settlement before the client sees
 * the end; rows are shipped to the database in batches, and sent again until they are in, keyed by attempt so that twice is once.
 */
export interface Ledger {
  /**
   * @param input kept in memory for an estimate; its text never reaches the journal.
   * @param observe asked now and then while the attempt is open.
   * @throws {AppError} `storage_full` or `database_unavailable` when its settlement could not be kept safe.
   */
  open(opening: Opening, input: InputMeasure, observe: () => Progress): Attempt
  /** Attempts that are open or not yet in the database. */
  readonly pendingCount: number
  /** For how long the oldest record has waited to be shipped; 0 when none waits. */
  readonly oldestUnshippedMs: number
  /** Resolves when what is settled by now can be read from the database. */
  flush(signal?: AbortSignal): Promise<void>
  /** Settles an attempt that was deferred, by this process or another; of several settlements one is recorded. */
  settleDeferred(opened: OpenedRecord, settlement: Settlement): void
  /** A background response has probably ended: its end is asked for now rather than when its turn comes. */
  expectEnd(organizationId: string, responseId: string): void
  /** Ships what a dead process left in its journal. Doing it twice changes nothing. */
  restore(recovered: Recovered): Promise<{ settled: number; interrupted: number }>
  [Symbol.asyncDispose](): Promise<void>
}

/** What the journal holds of an attempt that is open. */
export interface OpenedRecord {
  id: string
  openedAt: string
  opening: Opening
}

export interface ProgressRecord extends Progress {
  id: string
  at: string
}

export function openLedger(deps: {
  db: Db
  journal: Journal
  prices: PriceTable
  onFault: (error: Error, pendingCount: number) => void
  onRefused: (attemptId: string, error: Error) => void
  /** A row was made by this process, and is in its journal. */
  onSettled: (row: SettledRow) => void
  /** A batch is in the database, this long after the oldest of it came. */
  onShipped: (delayMs: number) => void
  closeTimeoutMs: number
}): Ledger {
  const { db, journal, prices } = deps
  const writer: BatchWriter<Shippable> = openBatchWriter({
    async write(items) {
      const rows = items.flatMap((item) => item.row ?? [])
      const deferred = items.flatMap((item) => item.deferred ?? [])
      await db.forOperator(async (tx) => {
        if (deferred.length > 0) await insertDeferred(tx, deferred)
        if (rows.length > 0) await insertSettledAttempts(tx, rows)
      }, SHIP_TIMEOUT_MS)
      if (items[0]) deps.onShipped(performance.now() - items[0].addedAt)
      const last = items.findLast(({ position }) => position !== undefined)?.position
      if (last) journal.shipped(last)
    },
    intervalMs: SHIP_INTERVAL_MS,
    batchMax: BATCH_MAX,
    pendingMax: PENDING_MAX,
    closeTimeoutMs: deps.closeTimeoutMs,
    onFault: deps.onFault,
    onRefused: ({ row, deferred }, error) => deps.onRefused(row?.attempt_id ?? deferred?.opened.id ?? '', error),
  })
  function ship(item: Omit<Shippable, 'addedAt'>): void {
    if (item.row && item.position) deps.onSettled(item.row)
    writer.add({ ...item, addedAt: performance.now() })
  }

  const open = new Map<string, OpenAttempt>()
  const tokenizer = openTokenizer()
  const estimates = new Pending()
  const progressTimer = setInterval(() => recordProgress(journal, open), PROGRESS_INTERVAL_MS)
  progressTimer.unref()

  return {
    open(opening, input, observe) {
      if (journal.isFull) throw storageFull()
      if (writer.isFull) {
        throw new AppError('database_unavailable', 'Too many requests wait to be recorded; try again shortly.', {
          retryAfterSeconds: 5,
        })
      }
      const openedAt = new Date()
      const startedAt = performance.now()
      const id = newAttemptId(openedAt.getTime())
      const record: OpenedRecord = { id, openedAt: openedAt.toISOString(), opening }
      const { segment } = appendOpened(journal, record)
      journal.hold(segment)
      open.set(id, { observe, outputTokens: 0 })
      return {
        id,
        settle(settlement) {
          if (!open.delete(id)) return
          const times = { settledAt: new Date(), durationMs: Math.round(performance.now() - startedAt) }
          const settleWith = (inputTokens: number | null) => {
            const row = toRow(prices, record, settlement, inputTokens, times)
            const position = journal.appendWithReserve({ settled: row })
            journal.release(segment)
            ship({ row, position })
          }
          if (settlement.usage.source === 'estimated' && opening.inputTokensEstimate !== null)
            estimates.add(tokenizer.count(input.sample), (tokens) => settleWith(estimateInputTokens(input, tokens)))
          else settleWith(opening.inputTokensEstimate)
        },
        defer(responseId) {
          if (!open.delete(id)) return
          const deferred: DeferredRecord = { opened: record, responseId }
          const position = journal.appendWithReserve({ deferred })
          journal.release(segment)
          ship({ deferred, position })
        },
        recordProgress() {
          journal.appendWithReserve({ progress: { id, at: new Date().toISOString(), ...observe() } })
        },
      }
    },
    settleDeferred(opened, settlement) {
      const settledAt = new Date()
      const durationMs = settledAt.getTime() - new Date(opened.openedAt).getTime()
      const row = toRow(prices, opened, settlement, opened.opening.inputTokensEstimate, { settledAt, durationMs })
      ship({ row, position: journal.appendWithReserve({ settled: row }) })
    },
    expectEnd(organizationId, responseId) {
      db.forOrganization(organizationId, (tx) => hastenDeferred(tx, organizationId, responseId)).catch(() => {
        // Its turn comes all the same.
      })
    },
    get pendingCount() {
      return open.size + estimates.size + writer.pendingCount
    },
    get oldestUnshippedMs() {
      return writer.oldest ? performance.now() - writer.oldest.addedAt : 0
    },
    async flush(signal) {
      await estimates.settled()
      await writer.flush(signal)
    },
    async restore(recovered) {
      const { rows, deferred, interruptedCount } = recoveredItems(prices, recovered)
      for (const row of rows) ship({ row, position: undefined })
      for (const one of deferred) ship({ deferred: one, position: undefined })
      await writer.flush()
      return { settled: recovered.settled.length, interrupted: interruptedCount }
    },
    async [Symbol.asyncDispose]() {
      clearInterval(progressTimer)
      await estimates.settled()
      await tokenizer[Symbol.asyncDispose]()
      await writer[Symbol.asyncDispose]()
    },
  }
}

interface Shippable {
  row?: SettledRow
  deferred?: DeferredRecord
  /** Undefined for rows of another process's journal. */
  position: Position | undefined
  /** As `performance.now()` tells time. */
  addedAt: number
}

interface OpenAttempt {
  observe: () => Progress
  /** As last recorded. */
  outputTokens: number
}

/** What is being waited for, so that nobody closes the door on it. */
class Pending {
  readonly #all = new Set<Promise<void>>()

  add<T>(awaited: Promise<T>, then: (value: T) => void): void {
    const one = awaited.then(then).finally(() => this.#all.delete(one))
    this.#all.add(one)
  }

  get size(): number {
    return this.#all.size
  }

  async settled(): Promise<void> {
    await Promise.all(this.#all)
  }
}

const SHIP_INTERVAL_MS = 100
/** Longer than a request may wait: nobody waits for this. */
const SHIP_TIMEOUT_MS = 5000
const BATCH_MAX = 500
/** About 100 MB of rows. */
const PENDING_MAX = 100_000
const PROGRESS_INTERVAL_MS = 2000

function appendOpened(journal: Journal, opened: OpenedRecord): Position {
  try {
    return journal.append({ opened })
  } catch {
    throw storageFull()
  }
}

function storageFull(): AppError {
  return new AppError(
    'storage_full',
    'The proxy has no room left to record requests; ask its operator to free disk space.',
    {
      retryAfterSeconds: 10,
    },
  )
}

/** Streams that moved since the last time; should the process die, their estimate is at most this old. */
function recordProgress(journal: Journal, open: Map<string, OpenAttempt>): void {
  for (const [id, attempt] of open) {
    const progress = attempt.observe()
    if (progress.outputTokens === attempt.outputTokens) continue
    attempt.outputTokens = progress.outputTokens
    const record: ProgressRecord = { id, at: new Date().toISOString(), ...progress }
    try {
      journal.append({ progress: record })
    } catch {
      // Only an estimate gets older; a full disk is told by what matters more.
      return
    }
  }
}

/** What a dead process's journal becomes: rows, and attempts whose end can still be asked for. */
export function recoveredItems(prices: PriceTable, { settled, deferred, unsettled }: Recovered) {
  const rows = [...settled]
  const askedFor = [...deferred]
  for (const { opened, progress } of unsettled) {
    const responseId = opened.opening.isBackground ? progress?.responseId : undefined
    if (responseId) askedFor.push({ opened, responseId })
    else rows.push(interruptedRow(prices, opened, progress))
  }
  return { rows, deferred: askedFor, interruptedCount: rows.length - settled.length }
}

/** The row of an attempt whose process died: what went in, and what had come out when it was last seen. */
function interruptedRow(prices: PriceTable, opened: OpenedRecord, progress: ProgressRecord | undefined): SettledRow {
  const settledAt = new Date(progress?.at ?? opened.openedAt)
  const settlement: Settlement = {
    ending: 'interrupted',
    httpStatus: null,
    errorCode: 'proxy_died',
    responseId: progress?.responseId ?? null,
    upstreamRequestId: null,
    modelUsed: progress?.modelUsed ?? opened.opening.modelRequested,
    serviceTier: progress?.serviceTier ?? null,
    usage: { source: 'estimated', outputTokens: progress?.outputTokens ?? 0 },
    firstByteMs: null,
  }
  const durationMs = Math.max(0, settledAt.getTime() - new Date(opened.openedAt).getTime())
  return toRow(prices, opened, settlement, opened.opening.inputTokensEstimate, { settledAt, durationMs })
}

function toRow(
  prices: PriceTable,
  { id, openedAt, opening }: OpenedRecord,
  settlement: Settlement,
  inputTokensEstimate: number | null,
  { settledAt, durationMs }: { settledAt: Date; durationMs: number },
): SettledRow {
  const usage = readSettledUsage(settlement.usage, inputTokensEstimate)
  const reported = settlement.usage.source === 'reported' ? settlement.usage : undefined
  const parts = reported?.parts?.map((part) => toStoredPart(part, settlement)) ?? null
  const priced = priceOf(prices, settlement, usage, parts, new Date(openedAt))
  return {
    organization_id: opening.organizationId,
    attempt_id: id,
    opened_at: openedAt,
    settled_at: settledAt.toISOString(),
    request_id: opening.requestId,
    attempt_number: opening.attemptNumber,
    endpoint: opening.endpoint,
    user_id: opening.userId,
    api_key_id: opening.apiKeyId,
    persona_id: opening.personaId ?? null,
    persona_version: opening.personaVersion ?? null,
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
    usage: reported ? storableJson(reported.raw) : null,
    usage_parts: parts,
    web_search_calls: reported?.toolCalls?.webSearchCalls ?? 0,
    file_search_calls: reported?.toolCalls?.fileSearchCalls ?? 0,
    cost_nano_usd: priced.costNanoUsd === null ? null : String(priced.costNanoUsd),
    price_version: priced.version,
    first_byte_ms: settlement.firstByteMs,
    duration_ms: durationMs,
  }
}

function readSettledUsage(settled: SettledUsage, inputTokensEstimate: number | null): Usage | undefined {
  if (settled.source === 'reported') return readUsage(settled.raw)
  if (settled.source === 'none') return readUsage({ input_tokens: 0, output_tokens: 0 })
  if (settled.source === 'unknown' || inputTokensEstimate === null) return undefined
  return readUsage({ input_tokens: inputTokensEstimate, output_tokens: settled.outputTokens })
}

/** A usage object that makes no sense is not a report. */
function usageSource(settled: SettledUsage, usage: Usage | undefined): 'reported' | 'estimated' | 'unknown' {
  if (usage === undefined) return 'unknown'
  return settled.source === 'estimated' ? 'estimated' : 'reported'
}

function toStoredPart(part: UsagePart, { modelUsed, serviceTier }: Settlement): StoredPart {
  return {
    model: storable(part.model === undefined ? modelUsed : part.model),
    service_tier: storable(part.serviceTier === undefined ? serviceTier : part.serviceTier),
    usage: storableJson(part.usage),
  }
}

function priceOf(
  prices: PriceTable,
  settlement: Settlement,
  usage: Usage | undefined,
  parts: readonly StoredPart[] | null,
  at: Date,
) {
  if (settlement.usage.source === 'none') return { costNanoUsd: 0n, version: null }
  const tools = settlement.usage.source === 'reported' ? settlement.usage.toolCalls : undefined
  const priced = prices.price({
    model: settlement.modelUsed,
    serviceTier: settlement.serviceTier,
    usage,
    parts: parts?.map(readPart),
    tools,
    at,
  })
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
  const whole = JSON.stringify(value)
  if (whole === undefined || whole.length > USAGE_BYTES_MAX) return null
  return UNSTORABLE.test(whole) ? mended(value) : value
}

/** What stands for a NUL or half a surrogate pair in JSON text. */
const UNSTORABLE = /\\u(?:0000|d[89a-f])/i

function mended(value: unknown): unknown {
  const text = JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'string' ? inner.replaceAll('\0', '').toWellFormed() : inner,
  )
  // Names of fields go through as they are; one that Postgres cannot keep makes the object not worth keeping.
  return UNSTORABLE.test(text) ? null : JSON.parse(text)
}
