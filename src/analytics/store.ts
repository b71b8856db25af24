import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'
import type { Period } from './period.ts'
import { COUNTERS, type Counters, NOBODY, SUMS, USED, type UsageFilter, usageIn } from './usage-store.ts'

/** Over everything that matches, on whichever page a row is. */
export interface Totals {
  all_rows: bigint
  all_requests: bigint
  all_unpriced: bigint
  all_cost_nano_usd: bigint
}

export interface Page {
  limit: number
  offset: number
}

/** Every user who ever had this external id: a deleted one's requests stay on record. */
export async function findUserIds(tx: Tx, organizationId: string, externalId: string): Promise<string[]> {
  const rows = await tx
    .selectFrom('users')
    .select('id')
    .where('organization_id', '=', organizationId)
    .where('external_id', '=', externalId)
    .execute()
  return rows.map(({ id }) => id)
}

/** What things are called, as far as they are known; deleted ones keep their names. */
export async function findNames(
  tx: Tx,
  organizationId: string,
  ids: { users: string[]; keys: string[]; personas: string[] },
): Promise<ReadonlyMap<string, string>> {
  const { rows } = await sql<{ id: string; name: string }>`
    select id, external_id as name from users
    where organization_id = ${organizationId} and id = any(${ids.users}::uuid[])
    union all
    select id, coalesce(name, key_prefix) from api_keys
    where organization_id = ${organizationId} and id = any(${ids.keys}::uuid[])
    union all
    select id, name from personas
    where organization_id = ${organizationId} and id = any(${ids.personas}::uuid[])`.execute(tx)
  return new Map(rows.map(({ id, name }) => [id, name]))
}

export async function sumByModel(tx: Tx, organizationId: string, period: Period, limit: number) {
  const { rows } = await sql<Counters & Totals & { model: string }>`
    with models as (
      select model, ${SUMS} from ${usageIn(organizationId, period, ['model'])} as usage group by model ${USED}
    )
    select models.*, ${totalsOf('models')} from models order by request_count desc, model limit ${limit}`.execute(tx)
  return rows
}

export type UserUsageRow = Counters &
  Totals & { user_id: string; external_id: string | null; last_request_at: Date | null }

/** Users with what they used, the busiest first: everybody there is, and whoever is deleted but used something. */
export async function sumByUser(
  tx: Tx,
  organizationId: string,
  period: Period,
  filter: UsageFilter,
  page: Page,
): Promise<UserUsageRow[]> {
  const isAsked = filter.userIds ? sql`and users.id = any(${[...filter.userIds]}::uuid[])` : sql``
  const { rows } = await sql<UserUsageRow>`
    with used as (
      select user_id, ${SUMS}, max(last_request_at) as last_request_at
      from ${usageIn(organizationId, period, ['user_id'], filter)} as usage
      group by user_id ${USED}
    ), listed as (
      select coalesce(users.id, used.user_id) as user_id, users.external_id, ${FILLED}, used.last_request_at
      from (
        select * from users where users.organization_id = ${organizationId} ${isAsked}
      ) as users
      full join used on used.user_id = users.id
      where users.deleted_at is null or used.user_id is not null
    )
    select listed.*, ${totalsOf('listed')} from listed
    order by request_count desc, external_id, user_id limit ${page.limit} offset ${page.offset}`.execute(tx)
  return rows
}

/** The models that some users used, the most used first. */
export async function findModelsOf(tx: Tx, organizationId: string, period: Period, userIds: readonly string[]) {
  const { rows } = await sql<{ user_id: string; models: string[] }>`
    select user_id, array_agg(model order by request_count desc, model) filter (where model <> '') as models
    from (
      select user_id, model, sum(request_count) as request_count
      from ${usageIn(organizationId, period, ['user_id', 'model'], { userIds })} as usage
      group by user_id, model ${USED}
    ) as by_model
    group by user_id`.execute(tx)
  return new Map(rows.map((row) => [row.user_id, row.models ?? []]))
}

export type PersonaUsageRow = Counters &
  Totals & {
    persona_id: string
    name: string
    description: string | null
    restricted_to: string | null
    is_active: boolean
    last_request_at: Date | null
    models: string[]
  }

/** Personas with what was used with them, the busiest first. */
export async function sumByPersona(
  tx: Tx,
  organizationId: string,
  period: Period,
  filter: UsageFilter,
  which: { includeInactive: boolean; personaId?: string } & Page,
): Promise<PersonaUsageRow[]> {
  // Of one user's personas only those that they used.
  const onlyUsed = filter.userIds ? sql`and used.persona_id is not null` : sql``
  const onlyActive = which.includeInactive ? sql`` : sql`and personas.is_active and personas.deleted_at is null`
  const ofPersona = { ...filter, personaId: which.personaId }
  const onlyOne = which.personaId === undefined ? sql`` : sql`and personas.id = ${which.personaId}`
  const { rows } = await sql<PersonaUsageRow>`
    with used as (
      select persona_id, ${SUMS}, max(last_request_at) as last_request_at,
        array_agg(model order by request_count desc, model) filter (where model <> '') as models
      from (
        select persona_id, model, ${SUMS}, max(last_request_at) as last_request_at
        from ${usageIn(organizationId, period, ['persona_id', 'model'], ofPersona)} as usage
        group by persona_id, model ${USED}
      ) as by_model
      group by persona_id
    ), listed as (
      select personas.id as persona_id, personas.name, personas.description, users.external_id as restricted_to,
        personas.is_active and personas.deleted_at is null as is_active, ${FILLED}, used.last_request_at,
        coalesce(used.models, '{}') as models
      from personas
      left join users on users.organization_id = personas.organization_id and users.id = personas.user_id
      left join used on used.persona_id = personas.id
      where personas.organization_id = ${organizationId} ${onlyUsed} ${onlyActive} ${onlyOne}
    )
    select listed.*, ${totalsOf('listed')} from listed
    order by request_count desc, name, persona_id limit ${which.limit} offset ${which.offset}`.execute(tx)
  return rows
}

/** Nothing used is zero of everything. */
const FILLED = sql.raw(COUNTERS.map((name) => `coalesce(used.${name}, 0) as ${name}`).join(', '))

function totalsOf(table: 'models' | 'listed') {
  return sql.raw(
    `(select count(*) from ${table}) as all_rows,
    (select coalesce(sum(request_count), 0)::bigint from ${table}) as all_requests,
    (select coalesce(sum(unpriced_count), 0)::bigint from ${table}) as all_unpriced,
    (select coalesce(sum(cost_nano_usd), 0)::bigint from ${table}) as all_cost_nano_usd`,
  )
}

export interface SessionRow {
  owner_id: string
  session_id: string
  user_id: string | null
  external_id: string | null
  started_at: Date
  last_request_at: Date
  is_active: boolean
  request_count: bigint
  unpriced_count: bigint
  input_tokens: bigint
  output_tokens: bigint
  cost_nano_usd: bigint
  models: string[]
}

export interface SessionFilter {
  period: Period
  userIds: readonly string[] | undefined
  /** Active is what was used since. */
  activeSince: Date
  isActive: boolean | undefined
}

/** Sessions that began in a period, the newest first. */
export async function listSessions(
  tx: Tx,
  organizationId: string,
  filter: SessionFilter,
  page: { limit: number; offset: number; after: { startedAt: Date; ownerId: string; sessionId: string } | undefined },
): Promise<SessionRow[]> {
  const { after } = page
  const rest = after
    ? sql`and (started_at < ${after.startedAt} or (started_at = ${after.startedAt}
        and (owner_id, session_id) > (${after.ownerId}::uuid, ${after.sessionId})))`
    : sql``
  const { rows } = await sql<SessionRow>`
    select sessions.*, users.external_id, sessions.last_request_at > ${filter.activeSince} as is_active,
      coalesce(used.models, '{}') as models
    from (
      select * from sessions where ${sessionsMatching(organizationId, filter)} ${rest}
      order by started_at desc, owner_id, session_id limit ${page.limit} offset ${page.offset}
    ) as sessions
    left join users on users.organization_id = ${organizationId} and users.id = sessions.user_id
    left join lateral (
      select array_agg(distinct usage.model) filter (where usage.model <> '') as models
      from attempts cross join lateral usage_of(attempts) as usage
      where attempts.organization_id = ${organizationId} and attempts.session_id = sessions.session_id
        and attempts.opened_at between sessions.started_at and sessions.last_request_at
        and usage.owner_id = sessions.owner_id
    ) as used on true
    order by sessions.started_at desc, sessions.owner_id, sessions.session_id`.execute(tx)
  return rows
}

export interface SessionTotals {
  sessions: bigint
  active: bigint
  requests: bigint
  unpriced: bigint
  cost_nano_usd: bigint
  /** Of the sessions that are over; null when none is. */
  average_ended_seconds: number | null
}

export async function sumSessions(tx: Tx, organizationId: string, filter: SessionFilter): Promise<SessionTotals> {
  const { rows } = await sql<SessionTotals>`
    select count(*) as sessions, count(*) filter (where last_request_at > ${filter.activeSince}) as active,
      coalesce(sum(request_count), 0)::bigint as requests, coalesce(sum(unpriced_count), 0)::bigint as unpriced,
      coalesce(sum(cost_nano_usd), 0)::bigint as cost_nano_usd,
      avg(extract(epoch from last_request_at - started_at)) filter (where last_request_at <= ${filter.activeSince})::float8
        as average_ended_seconds
    from sessions where ${sessionsMatching(organizationId, filter)}`.execute(tx)
  const [totals] = rows
  if (!totals) throw new Error('An aggregate without groups has one row.')
  return totals
}

function sessionsMatching(organizationId: string, { period, userIds, activeSince, isActive }: SessionFilter) {
  const conditions = [
    sql`organization_id = ${organizationId} and started_at >= ${period.start} and started_at < ${period.end}`,
  ]
  // A user's sessions are owned by the user, which is how the primary key finds them.
  if (userIds) conditions.push(sql`owner_id = any(${[...userIds]}::uuid[])`)
  if (isActive === true) conditions.push(sql`last_request_at > ${activeSince}`)
  if (isActive === false) conditions.push(sql`last_request_at <= ${activeSince}`)
  return sql.join(conditions, sql` and `)
}

/** Whether a persona is there, in this organization, deleted or not. */
export async function findPersona(tx: Tx, organizationId: string, personaId: string) {
  return tx
    .selectFrom('personas')
    .select(['id', 'name'])
    .where('organization_id', '=', organizationId)
    .where('id', '=', personaId)
    .executeTakeFirst()
}

/** Operators only: the organization of a persona, deleted or not. */
export async function findPersonaInAny(tx: Tx, personaId: string) {
  return tx.selectFrom('personas').select('organization_id').where('id', '=', personaId).executeTakeFirst()
}

/** Sums of one persona by one column, the busiest first. */
export async function sumPersonaBy(
  tx: Tx,
  organizationId: string,
  period: Period,
  filter: UsageFilter,
  column: 'model' | 'user_id',
  limit: number,
) {
  const name = sql.ref(column)
  const { rows } = await sql<Counters & { key: string }>`
    select ${name}::text as key, ${SUMS} from ${usageIn(organizationId, period, [column], filter)} as usage
    group by ${name} ${USED} order by request_count desc, ${name} limit ${limit}`.execute(tx)
  return rows.filter(({ key }) => column === 'model' || key !== NOBODY)
}
