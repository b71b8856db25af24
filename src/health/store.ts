import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

/** What time it is there, to the moment. */
export async function readClock(tx: Tx): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(tx)
  if (!rows[0]) throw new Error('A clock has one time.')
  return rows[0].now
}
