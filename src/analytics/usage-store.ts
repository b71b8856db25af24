import { type RawBuilder, sql } from 'kysely'
import type { Tx } from '../db/database.ts'
import type { Period } from './period.ts'
import { type Column, type Interval, type Source, sourcesOf } from './sources.ts'

/** Which usage to look at; what is not named is not filtered by. */
export interface UsageFilter {
  /** Internal ids: an external id may have been several users' over time. */
  userIds?: readonly string[] | undefined
  apiKeyId?: string | undefined
  personaId?: string | undefined
  personaVersion?: number | undefined
  model?: string | undefined
  sessionId?: string | undefined
}

/** What a group used. Money is nano-dollars; requests without a price are in `unpriced_count` and in no sum of money. */
export interface Counters {
  request_count: bigint
  success_count: bigint
  failure_count: bigint
  estimated_count: bigint
  unpriced_count: bigint
  input_tokens: bigint
  cached_tokens: bigint
  cache_write_tokens: bigint
  output_tokens: bigint
  reasoning_tokens: bigint
  cost_nano_usd: bigint
  duration_ms: bigint
}

export const COUNTERS: readonly (keyof Counters)[] = [
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

export const NOBODY = '00000000-0000-0000-0000-000000000000'

/** `sum(x)::bigint as x` for every counter: Postgres makes sums of bigint numeric. */
export const SUMS = sql.raw(COUNTERS.map((name) => `sum(${name})::bigint as ${name}`).join(', '))

/** Groups in which something was used: an attempt that never left, and whose request is counted elsewhere, is none. */
export const USED = sql`having sum(request_count) <> 0 or sum(cost_nano_usd) <> 0 or sum(input_tokens + output_tokens) <> 0`

/**
 * Usage of one organization in a period as a derived table, in as few rows as give exact sums: `columns`, `bucket`, the counters and
 * `last_request_at`. To be summed by whoever asks.
 */
export function usageIn(
  organizationId: string,
  period: Period,
  columns: readonly Column[],
  filter: UsageFilter = {},
  interval: Interval = 'total',
): RawBuilder<unknown> {
  const needed = new Set([...columns, ...filteredColumns(filter)])
  const parts = sourcesOf(period, needed, interval).map((source) =>
    selectFrom(organizationId, source, columns, filter, { interval, timeZone: period.timeZone }),
  )
  return sql`(${sql.join(parts, sql` union all `)})`
}

/** Text, so that it goes into a cursor and back: the local start of days and months, the moment at which an hour begins. */
function bucketOf(at: RawBuilder<unknown>, interval: Interval, timeZone: string): RawBuilder<string> {
  if (interval === 'total') return sql`''::text`
  if (interval === 'hour') return sql`date_trunc('hour', ${at}, ${timeZone}::text)`
  return sql`date_trunc(${interval}::text, ${at} at time zone ${timeZone}::text)`
}

function selectFrom(
  organizationId: string,
  source: Source,
  columns: readonly Column[],
  filter: UsageFilter,
  { interval, timeZone }: { interval: Interval; timeZone: string },
): RawBuilder<unknown> {
  const { at, where, from } = placeOf(organizationId, source)
  const conditions = [where, ...conditionsOf(filter, source.table)]
  const isByQuarter = source.table === 'usage_slices' && source.by === 'quarter' && interval !== 'total'
  const selected = [
    sql`${isByQuarter ? sql`quarters.bucket` : bucketOf(at, interval, timeZone)} as bucket`,
    ...columns.map((column) => sql.ref(`usage.${column}`)),
    ...COUNTERS.map((name) => sql.ref(`usage.${name}`)),
    source.table === 'attempts' ? sql`usage.opened_at as last_request_at` : sql`usage.last_request_at`,
  ]
  // Which bucket a quarter of an hour belongs to is asked once for each quarter, not once for each row: time zones are slow.
  const quarters = isByQuarter
    ? sql`join (
        select quarter, ${bucketOf(sql`quarter`, interval, timeZone)} as bucket
        from generate_series(${source.from}::timestamptz, ${source.to}::timestamptz, interval '15 minutes') as quarter
      ) as quarters on quarters.quarter = usage.starts_at`
    : sql``
  return sql`select ${sql.join(selected)} from ${from} ${quarters} where ${sql.join(conditions, sql` and `)}`
}

function placeOf(organizationId: string, source: Source) {
  const { from, to } = source
  if (source.table === 'attempts') {
    return {
      at: sql`attempts.opened_at`,
      from: sql`attempts cross join lateral usage_of(attempts) as usage`,
      where: sql`attempts.organization_id = ${organizationId}
        and attempts.opened_at >= ${from} and attempts.opened_at < ${to}`,
    }
  }
  if (source.table === 'usage_daily') {
    return {
      at: sql`(usage.day::timestamp at time zone 'UTC')`,
      from: sql`usage_daily as usage`,
      where: sql`usage.organization_id = ${organizationId}
        and usage.day >= ${from.toISOString().slice(0, 10)}::date and usage.day < ${to.toISOString().slice(0, 10)}::date`,
    }
  }
  return {
    at: sql`usage.starts_at`,
    from: sql`usage_slices as usage`,
    // The slice as a literal, for the planner to know that the index by user holds it.
    where: sql`usage.organization_id = ${organizationId} and usage.slice = ${sql.lit(source.slice)}
      and usage.starts_at >= ${from} and usage.starts_at < ${to}`,
  }
}

/** On the rows themselves in the words of their indexes. */
function conditionsOf(filter: UsageFilter, table: Source['table']): RawBuilder<unknown>[] {
  const isRows = table === 'attempts'
  const column = (name: string) => sql.ref(`${isRows ? 'attempts' : 'usage'}.${name}`)
  const conditions: RawBuilder<unknown>[] = []
  if (filter.userIds) conditions.push(sql`${column('user_id')} = any(${[...filter.userIds]}::uuid[])`)
  if (filter.apiKeyId !== undefined) conditions.push(sql`${column('api_key_id')} = ${filter.apiKeyId}`)
  if (filter.personaId !== undefined) conditions.push(sql`${column('persona_id')} = ${filter.personaId}`)
  if (filter.personaVersion !== undefined) {
    conditions.push(sql`${column('persona_version')} = ${filter.personaVersion}`)
  }
  if (filter.model !== undefined) conditions.push(sql`usage.model = ${filter.model}`)
  if (filter.sessionId !== undefined) conditions.push(sql`${column('session_id')} = ${filter.sessionId}`)
  return conditions
}

function filteredColumns(filter: UsageFilter): Column[] {
  const columns: [unknown, Column][] = [
    [filter.userIds, 'user_id'],
    [filter.apiKeyId, 'api_key_id'],
    [filter.personaId, 'persona_id'],
    [filter.personaVersion, 'persona_version'],
    [filter.model, 'model'],
    [filter.sessionId, 'session_id'],
  ]
  return columns.flatMap(([value, column]) => (value === undefined ? [] : [column]))
}

export interface SeriesRow extends Counters {
  bucket: string
  /** When the bucket begins; null for the whole period. */
  starts_at: Date | null
  /** The bucket in words of its zone: `2026-11-24T13:00`, `2026-11-24`, `2026-11`; null for the whole period. */
  label: string | null
  /** Of each column, as text, in order. */
  keys: string[]
}

/** One page of a series, by bucket and then by the columns; `after` is the last row of the page before. */
export async function sumSeries(
  tx: Tx,
  organizationId: string,
  query: {
    period: Period
    interval: Interval
    columns: readonly Column[]
    filter: UsageFilter
    after: { bucket: string; keys: readonly string[] } | undefined
    limit: number
  },
): Promise<SeriesRow[]> {
  const { period, interval, columns, after } = query
  const names = columns.map((column) => sql.ref(column))
  const order = sql.join([sql`bucket`, ...names])
  const type = sql.raw(BUCKET_TYPES[interval])
  const seen = after
    ? sql`where (${order}) > (${sql.join([sql`${after.bucket}::${type}`, ...after.keys.map((key, at) => sql`${key}::${sql.raw(COLUMN_TYPES[columns[at] ?? 'model'])}`)])})`
    : sql``
  const { rows } = await sql<SeriesRow>`
    select bucket::text as bucket, ${startOf(interval, period.timeZone)} as starts_at,
      ${labelOf(interval, period.timeZone)} as label,
      array[${sql.join(names.map((name) => sql`${name}::text`))}]::text[] as keys, ${COUNTER_NAMES}
    from (
      select ${order}, ${SUMS}
      from ${usageIn(organizationId, period, columns, query.filter, interval)} as usage
      group by ${order} ${USED}
    ) as sums
    ${seen}
    order by ${order}
    limit ${query.limit}`.execute(tx)
  return rows
}

/** The last bucket to begin in a period cut short after `span`, or the period's end if that comes first. */
export async function cutAfter(tx: Tx, period: Period, interval: Interval, spanMs: number): Promise<Date> {
  const rough = new Date(period.start.getTime() + spanMs)
  if (interval === 'total' || rough >= period.end) return period.end
  const bucket = bucketOf(sql`${rough}::timestamptz`, interval, period.timeZone)
  const { rows } = await sql<{ at: Date }>`
    select ${startOf(interval, period.timeZone)} as at from (select ${bucket} as bucket) as cut`.execute(tx)
  const at = rows[0]?.at
  return at && at > period.start ? at : period.end
}

const COUNTER_NAMES = sql.raw(COUNTERS.join(', '))

const BUCKET_TYPES: Record<Interval, string> = {
  hour: 'timestamptz',
  day: 'timestamp',
  month: 'timestamp',
  total: 'text',
}

const COLUMN_TYPES: Record<Column, string> = {
  user_id: 'uuid',
  api_key_id: 'uuid',
  persona_id: 'uuid',
  persona_version: 'integer',
  model: 'text',
  owner_id: 'uuid',
  session_id: 'text',
}

function startOf(interval: Interval, timeZone: string): RawBuilder<Date | null> {
  if (interval === 'total') return sql`null::timestamptz`
  return interval === 'hour' ? sql`bucket` : sql`first_moment_of(bucket, ${timeZone})`
}

function labelOf(interval: Interval, timeZone: string): RawBuilder<string | null> {
  if (interval === 'total') return sql`null::text`
  if (interval === 'hour') return sql`to_char(bucket at time zone ${timeZone}::text, 'YYYY-MM-DD"T"HH24:00')`
  return sql`to_char(bucket, ${interval === 'day' ? 'YYYY-MM-DD' : 'YYYY-MM'})`
}
