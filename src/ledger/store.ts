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

/** Inserts attempts, and moves the sums and sessions by those really inserted: a row that is already there changes nothing. */
export async function insertSettledAttempts(tx: Tx, rows: readonly SettledRow[]): Promise<void> {
  // One parameter whatever the number of rows, so that the plan is one too.
  const json = JSON.stringify(rows)
  await sql`
    with inserted as (
      insert into attempts
      select * from jsonb_populate_recordset(null::attempts, ${json}::jsonb)
      on conflict do nothing
      returning attempts
    )
    insert into usage_daily
    select sums.* from sum_attempts((select array_agg(inserted.attempts) from inserted)) as sums
    on conflict (organization_id, day, user_id, api_key_id, persona_id, persona_version, model) do update set
      request_count = usage_daily.request_count + excluded.request_count,
      success_count = usage_daily.success_count + excluded.success_count,
      failure_count = usage_daily.failure_count + excluded.failure_count,
      estimated_count = usage_daily.estimated_count + excluded.estimated_count,
      unpriced_count = usage_daily.unpriced_count + excluded.unpriced_count,
      input_tokens = usage_daily.input_tokens + excluded.input_tokens,
      cached_tokens = usage_daily.cached_tokens + excluded.cached_tokens,
      cache_write_tokens = usage_daily.cache_write_tokens + excluded.cache_write_tokens,
      output_tokens = usage_daily.output_tokens + excluded.output_tokens,
      reasoning_tokens = usage_daily.reasoning_tokens + excluded.reasoning_tokens,
      cost_nano_usd = usage_daily.cost_nano_usd + excluded.cost_nano_usd,
      duration_ms = usage_daily.duration_ms + excluded.duration_ms`.execute(tx)
  await sql`
    insert into sessions (organization_id, owner_id, session_id, user_id, started_at, last_request_at)
    select organization_id, coalesce(user_id, api_key_id), session_id, user_id, min(opened_at), max(opened_at)
    from jsonb_populate_recordset(null::attempts, ${json}::jsonb)
    group by 1, 2, 3, 4
    order by 1, 2, 3
    on conflict (organization_id, owner_id, session_id) do update
    set last_request_at = greatest(sessions.last_request_at, excluded.last_request_at)`.execute(tx)
}

/** Groups of sums that are not what their rows add up to; none, ever. */
export async function findWrongSums(tx: Tx) {
  const { rows } = await sql<{
    organization_id: string
    day: string
    model: string
    summed: string | null
    recorded: string | null
  }>`
    with summed as (
      select sums.* from (
        select organization_id, array_agg(attempts) as rows from attempts group by organization_id
      ) as tenants, sum_attempts(tenants.rows) as sums
    )
    select
      coalesce(summed.organization_id, recorded.organization_id) as organization_id,
      coalesce(summed.day, recorded.day)::text as day,
      coalesce(summed.model, recorded.model) as model,
      to_jsonb(summed)::text as summed,
      to_jsonb(recorded)::text as recorded
    from summed full join usage_daily as recorded
      using (organization_id, day, user_id, api_key_id, persona_id, persona_version, model)
    where to_jsonb(summed) is distinct from to_jsonb(recorded)
    limit 100`.execute(tx)
  return rows
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
