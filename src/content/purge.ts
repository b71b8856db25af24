import type { Db } from '../db/database.ts'
import { startPeriodic } from '../periodic.ts'
import { deleteContentsBefore, deleteContentsOfErasedInAny, deleteContentsOfUser, deleteExpiredInAny } from './store.ts'

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

/**
 * Purges at once and every minute: what has reached its deadline, and what calls under way have added to users whose contents were
 * erased.
 */
export function startContentPurge(deps: {
  db: Db
  onPurged: (deletedCount: number) => void
  onFault: (error: Error) => void
}): AsyncDisposable {
  return startPeriodic({
    async work(signal) {
      const deletedCount = (await purgeExpiredContent(deps, signal)) + (await purgeContentOfErased(deps, signal))
      if (deletedCount > 0) deps.onPurged(deletedCount)
    },
    intervalMs: 60_000,
    retryMs: 60_000,
    onFault: deps.onFault,
  })
}

async function purgeContentOfErased({ db }: { db: Db }, signal: AbortSignal): Promise<number> {
  let deleted = 0
  while (!signal.aborted) {
    const count = await db.forOperator((tx) => deleteContentsOfErasedInAny(tx, BATCH_MAX), BATCH_TIMEOUT_MS)
    deleted += count
    if (count < BATCH_MAX) break
  }
  return deleted
}

/** Deletes what is kept of a user's calls. */
export async function deleteContentOfUser({ db }: { db: Db }, organizationId: string, userId: string): Promise<number> {
  let deleted = 0
  for (;;) {
    const count = await db.forOrganization(
      organizationId,
      (tx) => deleteContentsOfUser(tx, organizationId, userId, BATCH_MAX),
      BATCH_TIMEOUT_MS,
    )
    deleted += count
    if (count < BATCH_MAX) return deleted
  }
}

/** Deletes what an organization keeps of calls before a day: content does not outlive the rows that say whose it is. */
export async function deleteContentBefore({ db }: { db: Db }, organizationId: string, day: string): Promise<number> {
  let deleted = 0
  for (;;) {
    const count = await db.forOrganization(
      organizationId,
      (tx) => deleteContentsBefore(tx, organizationId, day, BATCH_MAX),
      BATCH_TIMEOUT_MS,
    )
    deleted += count
    if (count < BATCH_MAX) return deleted
  }
}

/** Bodies are up to a mebibyte: as many of them as a database deletes well within its time. */
const BATCH_MAX = 200
const BATCH_TIMEOUT_MS = 5000
