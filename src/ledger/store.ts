import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'
import type { AttemptsTable } from '../db/schema.ts'
import type { DeferredRecord, OpenedRecord } from './ledger.ts'

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
    delete from background_attempts using jsonb_populate_recordset(null::attempts, ${json}::jsonb) as settled
    where background_attempts.organization_id = settled.organization_id
      and background_attempts.attempt_id = settled.attempt_id`.execute(tx)
  await sql`
    insert into sessions (organization_id, owner_id, session_id, user_id, started_at, last_request_at)
    select organization_id, coalesce(user_id, api_key_id), session_id, user_id, min(opened_at), max(opened_at)
    from jsonb_populate_recordset(null::attempts, ${json}::jsonb)
    group by 1, 2, 3, 4
    order by 1, 2, 3
    on conflict (organization_id, owner_id, session_id) do update
    set last_request_at = greatest(sessions.last_request_at, excluded.last_request_at)`.execute(tx)
}

/** Attempts whose end has to be asked for; one that was settled meanwhile stays settled. */
export async function insertDeferred(tx: Tx, deferred: readonly DeferredRecord[]): Promise<void> {
  const rows = deferred.map(({ opened, responseId }) => ({
    organization_id: opened.opening.organizationId,
    attempt_id: opened.id,
    response_id: responseId,
    api_key_id: opened.opening.apiKeyId,
    opened,
  }))
  await sql`
    insert into background_attempts (organization_id, attempt_id, response_id, api_key_id, opened)
    select organization_id, attempt_id, response_id, api_key_id, opened
    from jsonb_populate_recordset(null::background_attempts, ${JSON.stringify(rows)}::jsonb) as deferred
    where not exists (
      select from attempts
      where attempts.organization_id = deferred.organization_id and attempts.attempt_id = deferred.attempt_id
        and attempts.opened_at = (deferred.opened ->> 'openedAt')::timestamptz
    )
    on conflict do nothing`.execute(tx)
}

/** Takes attempts whose end is due to be asked for, so that no other server asks at the same time. */
export async function claimDeferred(tx: Tx, limit: number): Promise<ClaimedAttempt[]> {
  const { rows } = await sql<ClaimedAttempt>`
    update background_attempts set
      polls = polls + 1,
      next_poll_at = now() + least(power(2, least(polls, 10)), ${POLL_SECONDS_MAX}) * interval '1 second'
    where (organization_id, attempt_id) in (
      select organization_id, attempt_id from background_attempts
      where next_poll_at <= now()
      order by next_poll_at
      limit ${limit}
      for update skip locked
    )
    returning organization_id, attempt_id, response_id, api_key_id, opened, created_at`.execute(tx)
  return rows
}

export interface ClaimedAttempt {
  organization_id: string
  attempt_id: string
  response_id: string
  api_key_id: string
  opened: OpenedRecord
  created_at: Date
}

const POLL_SECONDS_MAX = 60

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
