import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

export interface ReplicaRow {
  id: string
  version: string
  name: string | null
  unshipped_records: number
  journal_bytes: number
}

/** Says that a replica lives. @returns the database's time. */
export async function upsertReplica(tx: Tx, row: ReplicaRow): Promise<Date> {
  const values = {
    ...row,
    unshipped_records: BigInt(row.unshipped_records),
    journal_bytes: BigInt(row.journal_bytes),
    last_seen_at: sql<Date>`clock_timestamp()`,
  }
  const { last_seen_at } = await tx
    .insertInto('replicas')
    .values(values)
    .onConflict((conflict) => conflict.column('id').doUpdateSet(values))
    .returning('last_seen_at')
    .executeTakeFirstOrThrow()
  return last_seen_at
}

export async function deleteReplica(tx: Tx, id: string): Promise<void> {
  await tx.deleteFrom('replicas').where('id', '=', id).execute()
}

export async function deleteReplicasNotSeenFor(tx: Tx, seconds: number): Promise<void> {
  await tx
    .deleteFrom('replicas')
    .where('last_seen_at', '<', sql<Date>`clock_timestamp() - ${seconds} * interval '1 second'`)
    .execute()
}

/** Those seen lately; none on a schema that does not know of replicas yet. */
export async function listReplicasSeenWithin(tx: Tx, seconds: number) {
  const { rows } = await sql<{ is_there: boolean }>`select to_regclass('replicas') is not null as is_there`.execute(tx)
  if (!rows[0]?.is_there) return []
  return tx
    .selectFrom('replicas')
    .selectAll()
    .where('last_seen_at', '>=', sql<Date>`clock_timestamp() - ${seconds} * interval '1 second'`)
    .orderBy('started_at')
    .orderBy('id')
    .execute()
}
