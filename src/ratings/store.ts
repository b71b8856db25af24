import { type RawBuilder, sql } from 'kysely'
import type { Tx } from '../db/database.ts'

export interface NewRating {
  requestId: string
  attemptId: string
  rating: number
  feedback: string | null
  ratedBy: string
  ratedByUserId: string | null
}

/** The last rating of a request wins; every one is kept. What it is about is copied from the attempt. */
export async function insertRating(tx: Tx, organizationId: string, rating: NewRating): Promise<Date> {
  const { rows } = await sql<{ rated_at: Date }>`
    with rated as (
      insert into ratings (
        organization_id, request_id, response_id, rating, feedback, rated_at, rated_by, rated_by_user_id,
        attempt_id, opened_at, user_id, api_key_id, persona_id, persona_version, session_id, model, cost_nano_usd
      )
      select organization_id, request_id, response_id, ${rating.rating}, ${rating.feedback}, ${new Date()}, ${rating.ratedBy},
        ${rating.ratedByUserId}::uuid, attempt_id, opened_at, user_id, api_key_id, persona_id, persona_version, session_id,
        coalesce(model_used, model_requested, ''), cost_nano_usd
      from attempts where organization_id = ${organizationId} and attempt_id = ${rating.attemptId}
      on conflict (organization_id, request_id) do update set
        (response_id, rating, feedback, rated_at, rated_by, rated_by_user_id, attempt_id, opened_at, user_id, api_key_id,
          persona_id, persona_version, session_id, model, cost_nano_usd) =
        (excluded.response_id, excluded.rating, excluded.feedback, excluded.rated_at, excluded.rated_by,
          excluded.rated_by_user_id, excluded.attempt_id, excluded.opened_at, excluded.user_id, excluded.api_key_id,
          excluded.persona_id, excluded.persona_version, excluded.session_id, excluded.model, excluded.cost_nano_usd),
        revision = ratings.revision + 1
      returning *
    )
    insert into rating_history (
      organization_id, request_id, revision, rating, feedback, rated_at, rated_by, rated_by_user_id
    )
    select organization_id, request_id, revision, rating, feedback, rated_at, rated_by, rated_by_user_id from rated
    returning rated_at`.execute(tx)
  const [row] = rows
  if (!row) throw new Error('A request vanished between finding and rating it.')
  return row.rated_at
}

export interface HistoryRow {
  rating: number
  feedback: string | null
  rated_at: Date
  rated_by: string | null
  rater: string | null
}

/** Every rating of a request, the oldest first. */
export async function listHistory(tx: Tx, organizationId: string, requestId: string, limit: number) {
  const { rows } = await sql<HistoryRow>`
    select history.rating, history.feedback, history.rated_at, history.rated_by, users.external_id as rater
    from (
      select * from rating_history where organization_id = ${organizationId} and request_id = ${requestId}
      order by revision desc limit ${limit}
    ) as history
    left join users on users.organization_id = ${organizationId} and users.id = history.rated_by_user_id
    order by history.revision`.execute(tx)
  return rows
}

/** Ratings of requests made in a period. */
export interface RatingFilter {
  start: Date
  end: Date
  rating?: number | undefined
  userIds?: readonly string[] | undefined
  sessionId?: string | undefined
  personaId?: string | undefined
}

export interface RatedRow {
  request_id: string
  response_id: string | null
  attempt_id: string
  external_id: string | null
  user_id: string | null
  model: string
  persona_id: string | null
  persona_version: number | null
  session_id: string
  rating: number
  feedback: string | null
  rated_at: Date
  rated_by: string | null
  rater: string | null
  cost_nano_usd: bigint | null
  opened_at: Date
  settled_at: Date | null
}

/** The newest rating first. */
export async function listRated(
  tx: Tx,
  organizationId: string,
  filter: RatingFilter,
  page: { limit: number; offset: number; after: { ratedAt: Date; requestId: string } | undefined },
): Promise<RatedRow[]> {
  const { after } = page
  const rest = after
    ? sql`and (ratings.rated_at, ratings.request_id) < (${after.ratedAt}::timestamptz, ${after.requestId})`
    : sql``
  const { rows } = await sql<RatedRow>`
    select rated.*, users.external_id, raters.external_id as rater, attempts.settled_at
    from (
      select * from ratings where ${matching(organizationId, filter)} ${rest}
      order by ratings.rated_at desc, ratings.request_id desc limit ${page.limit} offset ${page.offset}
    ) as rated
    left join users on users.organization_id = ${organizationId} and users.id = rated.user_id
    left join users as raters on raters.organization_id = ${organizationId} and raters.id = rated.rated_by_user_id
    left join attempts on attempts.organization_id = ${organizationId}
      and attempts.attempt_id = rated.attempt_id and attempts.opened_at = rated.opened_at
    order by rated.rated_at desc, rated.request_id desc`.execute(tx)
  return rows
}

export type RatingColumn = 'persona_id' | 'persona_version' | 'model' | 'user_id'

export interface SatisfactionRow {
  /** Of each column, as text. */
  keys: (string | null)[]
  rating_count: bigint
  satisfied_count: bigint
  /** Rated answers whose price is not known; in none of the figures below. */
  unpriced_count: bigint
  priced_satisfied_count: bigint
  cost_nano_usd: bigint
}

/** Counts and costs of rated answers by some columns; the most rated group first. */
export async function sumRatings(
  tx: Tx,
  organizationId: string,
  filter: RatingFilter,
  columns: readonly RatingColumn[],
  limit: number,
): Promise<SatisfactionRow[]> {
  const names = columns.map((column) => sql.ref(`ratings.${column}`))
  const { rows } = await sql<SatisfactionRow>`
    select array[${sql.join(names.map((name) => sql`${name}::text`))}]::text[] as keys,
      count(*) as rating_count,
      count(*) filter (where rating = 1) as satisfied_count,
      count(*) filter (where cost_nano_usd is null) as unpriced_count,
      count(*) filter (where rating = 1 and cost_nano_usd is not null) as priced_satisfied_count,
      coalesce(sum(cost_nano_usd), 0)::bigint as cost_nano_usd
    from ratings where ${matching(organizationId, filter)}
    group by ${names.length === 0 ? sql`()` : sql.join(names)}
    order by rating_count desc, keys limit ${limit}`.execute(tx)
  return rows
}

function matching(organizationId: string, filter: RatingFilter): RawBuilder<unknown> {
  const conditions = [
    sql`ratings.organization_id = ${organizationId} and ratings.opened_at >= ${filter.start} and ratings.opened_at < ${filter.end}`,
  ]
  if (filter.rating !== undefined) conditions.push(sql`ratings.rating = ${filter.rating}`)
  if (filter.userIds) conditions.push(sql`ratings.user_id = any(${[...filter.userIds]}::uuid[])`)
  if (filter.sessionId !== undefined) conditions.push(sql`ratings.session_id = ${filter.sessionId}`)
  if (filter.personaId !== undefined) conditions.push(sql`ratings.persona_id = ${filter.personaId}`)
  return sql.join(conditions, sql` and `)
}
