import { sql } from 'kysely'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'

/**
 * Does `work` while no other process changes keys: two at once would seal under each other's.
 * @throws {AppError} `conflict` when another one does.
 */
export async function withRotationLock<T>(db: Db, work: () => Promise<T>): Promise<T> {
  // A transaction that does nothing but hold the lock; it ends with this process, however that ends.
  return db.forOwner(async (tx) => {
    const { rows } = await sql<{ isFree: boolean }>`
      select pg_try_advisory_xact_lock(hashtext('openai_proxy.rotation')) as "isFree"`.execute(tx)
    if (!rows[0]?.isFree) throw new AppError('conflict', 'Another process is changing keys: wait until it is done.')
    return work()
  })
}
