import type { Db } from '../db/database.ts'
import { deleteExpiredInAny } from './store.ts'

/**
 * Deletes all content that has reached its deadline, a little at a time; several servers share the work.
 * @returns how many bodies were deleted.
 */
export async function purgeExpiredContent({ db }: { db: Db }, signal?: AbortSignal): Promise<number> {
  let deleted = 0
  while (!signal?.aborted) {
    const count = await db.forOperator((tx) => deleteExpiredInAny(tx, BATCH_MAX), BATCH_TIMEOUT_MS)
    deleted += count
    if (count < BATCH_MAX) break
  }
  return deleted
}

/** Purges at once and every hour; what could not be purged is tried again within a minute. */
export function startContentPurge(deps: {
  db: Db
  onPurged: (deletedCount: number) => void
  onFault: (error: Error) => void
}): AsyncDisposable {
  const closing = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let running = turn()

  async function turn(): Promise<void> {
    let waitMs = INTERVAL_MS
    try {
      const deletedCount = await purgeExpiredContent(deps, closing.signal)
      if (deletedCount > 0) deps.onPurged(deletedCount)
    } catch (error) {
      deps.onFault(error as Error)
      waitMs = RETRY_MS
    }
    if (closing.signal.aborted) return
    timer = setTimeout(() => {
      running = turn()
    }, waitMs)
    timer.unref()
  }

  return {
    async [Symbol.asyncDispose]() {
      closing.abort()
      clearTimeout(timer)
      await running
    },
  }
}

/** Bodies are up to a mebibyte: as many of them as a database deletes well within its time. */
const BATCH_MAX = 200
const BATCH_TIMEOUT_MS = 5000
const INTERVAL_MS = 3_600_000
const RETRY_MS = 60_000
