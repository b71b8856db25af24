import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '../errors.ts'

/** Writes behind the caller's back: what is added is written soon, in order, in batches, again and again until it is. */
export interface BatchWriter<T> {
  /** Never waits and never fails; ask `isFull` before beginning what must be recorded. */
  add(item: T): void
  readonly isFull: boolean
  readonly pendingCount: number
  /** What has waited longest. */
  readonly oldest: T | undefined
  /** Resolves when everything added so far is written. Gives up, rejecting, when the signal says so. */
  flush(signal?: AbortSignal): Promise<void>
  /** Writes what is left, for as long as it takes or `closeTimeoutMs`. */
  [Symbol.asyncDispose](): Promise<void>
}

export interface BatchWriterOptions<T> {
  /** One transaction that may be repeated: its outcome can be unknown. */
  write(items: readonly T[]): Promise<void>
  intervalMs: number
  batchMax: number
  pendingMax: number
  closeTimeoutMs: number
  /** The database was away; the batch is kept and tried again. */
  onFault(error: Error, pendingCount: number): void
  /** A single item that the database refuses for what it is; it must not hold up all others for ever. */
  onRefused(item: T, error: Error): void
}

export function openBatchWriter<T>(options: BatchWriterOptions<T>): BatchWriter<T> {
  let pending: T[] = []
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> | undefined
  let isClosed = false

  function schedule(delayMs: number): void {
    if (timer || running) return
    timer = setTimeout(() => {
      timer = undefined
      start()
    }, delayMs)
  }

  function start(): Promise<void> {
    running ??= drain().finally(() => {
      running = undefined
      if (pending.length > 0 && !isClosed) schedule(options.intervalMs)
    })
    return running
  }

  async function drain(): Promise<void> {
    let retryMs = RETRY_MIN_MS
    while (pending.length > 0) {
      const batch = pending.slice(0, options.batchMax)
      try {
        await writeOrSplit(batch)
        pending = pending.slice(batch.length)
        retryMs = RETRY_MIN_MS
      } catch (error) {
        options.onFault(error as Error, pending.length)
        if (isClosed && performance.now() > closeBy) return
        await sleep(retryMs)
        retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)
      }
    }
  }

  /** A batch that is refused, with the database at hand, is halved until the one item at fault stands alone. */
  async function writeOrSplit(items: readonly T[]): Promise<void> {
    try {
      await options.write(items)
    } catch (error) {
      if (error instanceof AppError && error.code === 'database_unavailable') throw error
      if (items.length === 1) {
        options.onRefused(items[0] as T, error as Error)
        return
      }
      const middle = items.length >> 1
      await writeOrSplit(items.slice(0, middle))
      await writeOrSplit(items.slice(middle))
    }
  }

  async function writeRest(): Promise<void> {
    if (running) await running
    if (pending.length > 0) await start()
  }

  let closeBy = Number.POSITIVE_INFINITY
  return {
    add(item) {
      pending.push(item)
      schedule(options.intervalMs)
    },
    get isFull() {
      return pending.length >= options.pendingMax
    },
    get pendingCount() {
      return pending.length
    },
    get oldest() {
      return pending[0]
    },
    async flush(signal) {
      if (pending.length === 0 && !running) return
      clearTimeout(timer)
      timer = undefined
      const written = (running ?? Promise.resolve()).then(() => (pending.length > 0 ? start() : undefined))
      await (signal ? Promise.race([written, rejection(signal)]) : written)
    },
    async [Symbol.asyncDispose]() {
      isClosed = true
      closeBy = performance.now() + options.closeTimeoutMs
      clearTimeout(timer)
      timer = undefined
      const deadline = Promise.withResolvers<void>()
      const deadlineTimer = setTimeout(deadline.resolve, options.closeTimeoutMs)
      await Promise.race([writeRest(), deadline.promise])
      clearTimeout(deadlineTimer)
    },
  }
}

const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 2000

function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error)
    else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}
