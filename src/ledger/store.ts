import { type Selectable, sql } from 'kysely'
import type { Tx } from '../db/database.ts'
import type { AttemptsTable } from '../db/schema.ts'
import type { DeferredRecord, OpenedRecord } from './ledger.ts'

/** A row of `attempts` as JSON carries it: times as ISO text, money as decimal digits. */
export type SettledRow = {
  [Column in keyof AttemptsTable]: Column extends 'usage' | 'usage_parts'
    ? unknown
    : Column extends 'web_search_calls' | 'file_search_calls'
      ? number
      : Column extends 'cost_nano_usd'
        ? string | null
        : AttemptsTable[Column] extends Date
          ? string
          : AttemptsTable[Column] extends bigint | null
            ? number | null
            : AttemptsTable[Column]
}

/** By name: a newer version may have added columns, whose defaults then hold for the rows of this one. */
const ATTEMPT_COLUMNS = sql.raw(
  [
    'organization_id, attempt_id, opened_at, settled_at, request_id, attempt_number, endpoint, user_id, api_key_id',
    'persona_id, persona_version, session_id, model_requested, model_used, service_tier, is_stream, status, http_status',
    'error_code, response_id, upstream_request_id, usage_source, input_tokens, cached_tokens, cache_write_tokens',
    'output_tokens, reasoning_tokens, total_tokens, usage, usage_parts, web_search_calls, file_search_calls, cost_nano_usd',
    'price_version, first_byte_ms, duration_ms',
  ].join(', '),
)

/** Inserts attempts, and moves the sums and sessions by those really inserted: a row that is already there changes nothing. */
export async function insertSettledAttempts(tx: Tx, rows: readonly SettledRow[]): Promise<void> {
  // One parameter whatever the number of rows, so that the plan is one too.
  const json = JSON.stringify(rows)
  await sql`
    with inserted as (
      insert into attempts (${ATTEMPT_COLUMNS})
      select ${ATTEMPT_COLUMNS} from jsonb_populate_recordset(null::attempts, ${json}::jsonb)
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

export async function hastenDeferred(tx: Tx, organizationId: string, responseId: string): Promise<void> {
  await sql`
    update background_attempts set next_poll_at = now()
    where organization_id = ${organizationId} and response_id = ${responseId}`.execute(tx)
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

export interface WrongSum {
  organization_id: string
  day: string
  model: string
  summed: string | null
  recorded: string | null
}

/** Groups of one day's sums that are not what their rows add up to; none, ever. */
export async function findWrongSums(tx: Tx, organizationId: string, day: string): Promise<WrongSum[]> {
  const { rows } = await sql<WrongSum>`
    with summed as (
      select sums.* from sum_attempts((
        select array_agg(attempts) from attempts
        where organization_id = ${organizationId}
          and opened_at >= ${day}::date::timestamp at time zone 'UTC'
          and opened_at < (${day}::date + 1)::timestamp at time zone 'UTC'
      )) as sums
    ), recorded as (
      select * from usage_daily where organization_id = ${organizationId} and day = ${day}::date
    )
    select ${organizationId} as organization_id, ${day} as day, coalesce(summed.model, recorded.model) as model,
      to_jsonb(summed)::text as summed, to_jsonb(recorded)::text as recorded
    from summed full join recorded
      using (organization_id, day, user_id, api_key_id, persona_id, persona_version, model)
    where to_jsonb(summed) is distinct from to_jsonb(recorded)`.execute(tx)
  return rows
}

/** Every organization and day (UTC) that has rows or sums. */
export async function listLedgerDays(tx: Tx): Promise<{ organization_id: string; day: string }[]> {
  const { rows } = await sql<{ organization_id: string; day: string }>`
    select organization_id, day::text from usage_daily
    union
    select organization_id, (opened_at at time zone 'UTC')::date::text from attempts
    order by 2, 1`.execute(tx)
  return rows
}

export type PricedRow = Pick<
  Selectable<AttemptsTable>,
  | 'organization_id'
  | 'attempt_id'
  | 'opened_at'
  | 'model_used'
  | 'service_tier'
  | 'usage_source'
  | 'usage'
  | 'usage_parts'
  | 'input_tokens'
  | 'output_tokens'
  | 'web_search_calls'
  | 'file_search_calls'
  | 'cost_nano_usd'
  | 'price_version'
>

/** Rows to be priced again, in the order of their ids, locked until the transaction ends. */
export async function lockRowsToPrice(
  tx: Tx,
  range: { from: Date; to: Date; after: { openedAt: Date; attemptId: string } | undefined; limit: number },
): Promise<PricedRow[]> {
  let query = tx
    .selectFrom('attempts')
    .select([
      'organization_id',
      'attempt_id',
      'opened_at',
      'model_used',
      'service_tier',
      'usage_source',
      'usage',
      'usage_parts',
      'input_tokens',
      'output_tokens',
      'web_search_calls',
      'file_search_calls',
      'cost_nano_usd',
      'price_version',
    ])
    .where('opened_at', '>=', range.from)
    .where('opened_at', '<', range.to)
    .where('usage_source', '<>', 'unknown')
  const { after } = range
  if (after) {
    query = query.where((eb) =>
      eb(eb.refTuple('opened_at', 'attempt_id'), '>', eb.tuple(after.openedAt, after.attemptId)),
    )
  }
  return query.orderBy('opened_at').orderBy('attempt_id').limit(range.limit).forUpdate().execute()
}

export interface PriceChange {
  organization_id: string
  attempt_id: string
  opened_at: string
  old_cost: string | null
  new_cost: string | null
  price_version: string | null
}

/** Writes new prices into rows and moves the sums by the difference. */
export async function applyPriceChanges(tx: Tx, changes: readonly PriceChange[]): Promise<void> {
  await sql`
    with changes as (
      select * from jsonb_to_recordset(${JSON.stringify(changes)}::jsonb) as change (
        organization_id uuid, attempt_id uuid, opened_at timestamptz, old_cost bigint, new_cost bigint, price_version text
      )
    ), updated as (
      update attempts set cost_nano_usd = changes.new_cost, price_version = changes.price_version
      from changes
      where attempts.organization_id = changes.organization_id
        and attempts.attempt_id = changes.attempt_id
        and attempts.opened_at = changes.opened_at
      returning attempts, changes.old_cost
    ), sums as (
      select organization_id, day, user_id, api_key_id, persona_id, persona_version, model,
        sum(difference)::bigint as cost_nano_usd, sum(unpriced)::bigint as unpriced_count
      from (
        select (sum_attempts(array[updated.attempts])).*,
          coalesce((updated.attempts).cost_nano_usd, 0) - coalesce(updated.old_cost, 0) as difference,
          ((updated.attempts).cost_nano_usd is null)::int - (updated.old_cost is null)::int as unpriced
        from updated
      ) as moved (
        organization_id, day, user_id, api_key_id, persona_id, persona_version, model, c1, c2, c3, c4, c5, c6, c7, c8, c9,
        c10, c11, c12, difference, unpriced
      )
      group by 1, 2, 3, 4, 5, 6, 7
    )
    update usage_daily set
      cost_nano_usd = usage_daily.cost_nano_usd + sums.cost_nano_usd,
      unpriced_count = usage_daily.unpriced_count + sums.unpriced_count
    from sums
    where usage_daily.organization_id = sums.organization_id
      and usage_daily.day = sums.day
      and usage_daily.user_id = sums.user_id
      and usage_daily.api_key_id = sums.api_key_id
      and usage_daily.persona_id = sums.persona_id
      and usage_daily.persona_version = sums.persona_version
      and usage_daily.model = sums.model`.execute(tx)
}

/** Of these attempts, those that have a row. */
export async function findRecorded(tx: Tx, attemptIds: readonly string[]): Promise<Set<string>> {
  const { rows } = await sql<{ attempt_id: string }>`
    select attempt_id from attempts where attempt_id = any(${[...attemptIds]}::uuid[])
    union
    select attempt_id from background_attempts where attempt_id = any(${[...attemptIds]}::uuid[])`.execute(tx)
  return new Set(rows.map((row) => row.attempt_id))
}

/** The attempt that answered a request or made a response, in this organization. */
export async function findAttempt(tx: Tx, organizationId: string, requestOrResponseId: string) {
  return tx
    .selectFrom('attempts')
    .select(['request_id', 'attempt_id', 'response_id', 'user_id'])
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
