import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'
import type { AttemptsTable } from '../db/schema.ts'

/** A row of `attempts` as JSON carries it: times as ISO text, money as decimal digits. */
export type SettledRow = {
  [Column in keyof AttemptsTable]: Column extends 'usage'
    ? unknown
    : Column extends 'cost_nano_usd'
      ? string | null
      : AttemptsTable[Column] extends Date
        ? string
        : AttemptsTable[Column] extends bigint | null
          ? number | null
          : AttemptsTable[Column]
}

/** Inserts attempts and moves their sessions; a row that is already there changes nothing. */
export async function insertSettledAttempts(tx: Tx, rows: readonly SettledRow[]): Promise<void> {
  // One parameter whatever the number of rows, so that the plan is one too.
  const json = JSON.stringify(rows)
  await sql`
    insert into attempts
    select * from jsonb_populate_recordset(null::attempts, ${json}::jsonb)
    on conflict do nothing`.execute(tx)
  await sql`
    insert into sessions (organization_id, owner_id, session_id, user_id, started_at, last_request_at)
    select organization_id, coalesce(user_id, api_key_id), session_id, user_id, min(opened_at), max(opened_at)
    from jsonb_populate_recordset(null::attempts, ${json}::jsonb)
    group by 1, 2, 3, 4
    order by 1, 2, 3
    on conflict (organization_id, owner_id, session_id) do update
    set last_request_at = greatest(sessions.last_request_at, excluded.last_request_at)`.execute(tx)
}

/** The attempt that answered a request or made a response, in this organization. */
export async function findAttempt(tx: Tx, organizationId: string, requestOrResponseId: string) {
  return tx
    .selectFrom('attempts')
    .select(['request_id', 'response_id'])
    .where('organization_id', '=', organizationId)
    .where((eb) => eb.or([eb('request_id', '=', requestOrResponseId), eb('response_id', '=', requestOrResponseId)]))
    .orderBy('opened_at', 'desc')
    .limit(1)
    .executeTakeFirst()
}

export async function listAttempts(tx: Tx, organizationId: string, limit: number) {
  return tx
    .selectFrom('attempts')
    .selectAll()
    .where('organization_id', '=', organizationId)
    .orderBy('opened_at', 'desc')
    .limit(limit)
    .execute()
}
