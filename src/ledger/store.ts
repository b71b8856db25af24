import { type Selectable, sql } from 'kysely'
import type { Tx } from '../db/database.ts'
import type { AttemptsTable } from '../db/schema.ts'
import type { DeferredRecord, OpenedRecord } from './ledger.ts'

/** A row of `attempts` as JSON carries it: times as ISO text, money as decimal digits. */
export type SettledRow = {
  [Column in Exclude<keyof AttemptsTable, 'is_superseded'>]: Column extends 'usage' | 'usage_parts'
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

/** Inserts attempts; a row that is already there changes nothing. Triggers move the sums and sessions by those really inserted. */
export async function insertSettledAttempts(tx: Tx, rows: readonly SettledRow[]): Promise<void> {
  // One parameter whatever the number of rows, so that the plan is one too.
  const json = JSON.stringify(rows)
  await sql`
    insert into attempts (${ATTEMPT_COLUMNS})
    select ${ATTEMPT_COLUMNS} from jsonb_populate_recordset(null::attempts, ${json}::jsonb)
    on conflict do nothing`.execute(tx)
  await sql`
    delete from background_attempts using jsonb_populate_recordset(null::attempts, ${json}::jsonb) as settled
    where background_attempts.organization_id = settled.organization_id
      and background_attempts.attempt_id = settled.attempt_id`.execute(tx)
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
  /** Of what: the table, and the keys of the group in it. */
  sum: string
  summed: string | null
  recorded: string | null
}

/** One day's sums, and those of the sessions that began on it, that are not what their rows add up to; none, ever. */
export async function findWrongSums(tx: Tx, organizationId: string, day: string): Promise<WrongSum[]> {
  const from = sql`${day}::date::timestamp at time zone 'UTC'`
  const to = sql`(${day}::date + 1)::timestamp at time zone 'UTC'`
  const { rows } = await sql<WrongSum>`
    with usage as materialized (
      select usage.* from attempts cross join lateral usage_of(attempts) as usage
      where attempts.organization_id = ${organizationId} and attempts.opened_at >= ${from} and attempts.opened_at < ${to}
    ), begun as materialized (
      select * from sessions
      where organization_id = ${organizationId} and started_at >= ${from} and started_at < ${to}
    ), summed as (
      select 'usage_daily' as sums, concat_ws(' ', user_id, api_key_id, persona_id, persona_version, model) as keys,
        jsonb_build_object(${COUNTER_SUMS}, 'last_request_at', max(opened_at)) as counters
      from usage group by 1, 2
      union all
      select 'usage_slices', concat_ws(' ', slice, since, user_of, key_of, persona_of, version_of, model_of),
        jsonb_build_object(${COUNTER_SUMS}, 'last_request_at', max(opened_at))
      from usage
      cross join lateral (
        select date_bin('15 minutes', opened_at, 'epoch') as quarter, date_trunc('day', opened_at, 'UTC') as day
      ) as times
      cross join lateral (
        values
          ('all', quarter, ${NOBODY}, ${NOBODY}, ${NOBODY}, 0, ''),
          ('key', quarter, ${NOBODY}, api_key_id, ${NOBODY}, 0, ''),
          ('persona', quarter, ${NOBODY}, ${NOBODY}, persona_id, persona_version, ''),
          ('model', quarter, ${NOBODY}, ${NOBODY}, ${NOBODY}, 0, model),
          ('user', day, user_id, ${NOBODY}, ${NOBODY}, 0, ''),
          ('user_model', day, user_id, ${NOBODY}, ${NOBODY}, 0, model),
          ('persona_model', day, ${NOBODY}, ${NOBODY}, persona_id, 0, model),
          ('persona_user', day, user_id, ${NOBODY}, persona_id, 0, '')
      ) as slices (slice, since, user_of, key_of, persona_of, version_of, model_of)
      group by 1, 2
      union all
      select 'sessions', concat_ws(' ', usage.owner_id, usage.session_id), jsonb_build_object(${SESSION_COUNTER_SUMS})
      from begun
      join attempts on attempts.organization_id = ${organizationId} and attempts.session_id = begun.session_id
      cross join lateral usage_of(attempts) as usage
      where usage.owner_id = begun.owner_id
      group by 1, 2
      union all
      select distinct 'sessions', concat_ws(' ', owner_id, session_id), '"rows of no session"'::jsonb
      from usage where not exists (
        select from sessions
        where sessions.organization_id = ${organizationId}
          and sessions.owner_id = usage.owner_id and sessions.session_id = usage.session_id
      )
    ), recorded as (
      select 'usage_daily' as sums, concat_ws(' ', user_id, api_key_id, persona_id, persona_version, model) as keys,
        jsonb_build_object(${COUNTER_VALUES}, 'last_request_at', last_request_at) as counters
      from usage_daily where organization_id = ${organizationId} and day = ${day}::date
      union all
      select 'usage_slices', concat_ws(' ', slice, starts_at, user_id, api_key_id, persona_id, persona_version, model),
        jsonb_build_object(${COUNTER_VALUES}, 'last_request_at', last_request_at)
      from usage_slices
      where organization_id = ${organizationId} and starts_at >= ${from} and starts_at < ${to}
      union all
      select 'sessions', concat_ws(' ', owner_id, session_id), jsonb_build_object(${SESSION_COUNTER_VALUES}) from begun
    )
    select ${organizationId} as organization_id, ${day} as day, concat_ws(' ', sums, keys) as sum,
      summed.counters::text as summed, recorded.counters::text as recorded
    from summed full join recorded using (sums, keys)
    where summed.counters is distinct from recorded.counters`.execute(tx)
  return rows
}

const COUNTERS = [
  'request_count',
  'success_count',
  'failure_count',
  'estimated_count',
  'unpriced_count',
  'input_tokens',
  'cached_tokens',
  'cache_write_tokens',
  'output_tokens',
  'reasoning_tokens',
  'cost_nano_usd',
  'duration_ms',
]
const SESSION_COUNTERS = [
  'request_count',
  'success_count',
  'failure_count',
  'unpriced_count',
  'input_tokens',
  'output_tokens',
  'cost_nano_usd',
]
const [COUNTER_SUMS, SESSION_COUNTER_SUMS] = [COUNTERS, SESSION_COUNTERS].map((names) =>
  sql.raw(names.map((name) => `'${name}', sum(usage.${name})`).join(', ')),
)
const [COUNTER_VALUES, SESSION_COUNTER_VALUES] = [COUNTERS, SESSION_COUNTERS].map((names) =>
  sql.raw(names.map((name) => `'${name}', ${name}`).join(', ')),
)
const NOBODY = sql.raw("'00000000-0000-0000-0000-000000000000'::uuid")

/** Every organization and day (UTC) that has rows or sums. */
export async function listLedgerDays(tx: Tx): Promise<{ organization_id: string; day: string }[]> {
  const { rows } = await sql<{ organization_id: string; day: string }>`
    select organization_id, day::text from usage_daily
    union
    select organization_id, (starts_at at time zone 'UTC')::date::text from usage_slices where slice = 'all'
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

/** Writes new prices into rows; triggers move the sums by the difference. */
export async function applyPriceChanges(tx: Tx, changes: readonly PriceChange[]): Promise<void> {
  await sql`
    update attempts set cost_nano_usd = changes.new_cost, price_version = changes.price_version
    from jsonb_to_recordset(${JSON.stringify(changes)}::jsonb) as changes (
      organization_id uuid, attempt_id uuid, opened_at timestamptz, new_cost bigint, price_version text
    )
    where attempts.organization_id = changes.organization_id
      and attempts.attempt_id = changes.attempt_id
      and attempts.opened_at = changes.opened_at`.execute(tx)
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
