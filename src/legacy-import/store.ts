import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

/** Of these ids, those that a table has. */
export async function findPresent(
  tx: Tx,
  table: 'organizations' | 'users' | 'api_keys' | 'personas',
  ids: readonly string[],
): Promise<Set<string>> {
  const { rows } = await sql<{ id: string }>`
    select id::text from ${sql.table(table)} where id = any(${[...ids]}::uuid[])`.execute(tx)
  return new Set(rows.map(({ id }) => id))
}

export async function findPresentAttempts(
  tx: Tx,
  rows: readonly { organization_id: string; attempt_id: string }[],
): Promise<Set<string>> {
  const { rows: found } = await sql<{ id: string }>`
    select attempt_id::text as id from attempts
    where organization_id = any(${[...new Set(rows.map((row) => row.organization_id))]}::uuid[])
      and attempt_id = any(${rows.map((row) => row.attempt_id)}::uuid[])`.execute(tx)
  return new Set(found.map(({ id }) => id))
}

/** The living users of an organization by external id. */
export async function listExternalIds(tx: Tx, organizationId: string): Promise<Map<string, string>> {
  const rows = await tx
    .selectFrom('users')
    .select(['id', 'external_id'])
    .where('organization_id', '=', organizationId)
    .where('deleted_at', 'is', null)
    .execute()
  return new Map(rows.map(({ id, external_id }) => [external_id, id]))
}

export async function listPersonaNames(tx: Tx, organizationId: string): Promise<Set<string>> {
  const rows = await tx
    .selectFrom('personas')
    .select('name')
    .where('organization_id', '=', organizationId)
    .where('deleted_at', 'is', null)
    .execute()
  return new Set(rows.map(({ name }) => name))
}

interface Times {
  created_at: string | null
  updated_at: string | null
}

export async function insertOrganization(tx: Tx, row: { id: string; name: string } & Times): Promise<void> {
  await sql`
    insert into organizations (id, name, created_at, updated_at)
    values (${row.id}, ${row.name}, ${at(row.created_at)}, ${at(row.updated_at ?? row.created_at)})
    on conflict do nothing`.execute(tx)
}

export async function insertUser(
  tx: Tx,
  organizationId: string,
  row: { id: string; externalId: string; created_at: string | null },
): Promise<void> {
  await sql`
    insert into users (organization_id, id, external_id, created_at)
    values (${organizationId}, ${row.id}, ${row.externalId}, ${at(row.created_at)})
    on conflict do nothing`.execute(tx)
}

export async function insertApiKey(
  tx: Tx,
  organizationId: string,
  row: {
    id: string
    userId: string | null
    name: string | null
    description: string | null
    keyHash: Buffer
    keyPrefix: string
    keyLast4: string
    sealed: string
    isActive: boolean
  } & Times,
): Promise<void> {
  await sql`
    insert into api_keys (
      organization_id, id, user_id, name, description, key_hash, key_prefix, key_last4, upstream_key_sealed, is_active,
      created_at, updated_at
    )
    values (
      ${organizationId}, ${row.id}, ${row.userId}, ${row.name}, ${row.description}, ${row.keyHash}, ${row.keyPrefix},
      ${row.keyLast4}, ${row.sealed}, ${row.isActive}, ${at(row.created_at)}, ${at(row.updated_at ?? row.created_at)}
    )
    on conflict do nothing`.execute(tx)
}

export async function insertPersona(
  tx: Tx,
  organizationId: string,
  row: {
    id: string
    userId: string | null
    name: string
    description: string | null
    metadata: string | null
    content: string
    variables: string
    isActive: boolean
  } & Times,
): Promise<void> {
  await sql`
    insert into personas (organization_id, id, name, description, user_id, metadata, is_active, created_at, updated_at)
    values (
      ${organizationId}, ${row.id}, ${row.name}, ${row.description}, ${row.userId}, ${row.metadata}::jsonb, ${row.isActive},
      ${at(row.created_at)}, ${at(row.updated_at ?? row.created_at)}
    )`.execute(tx)
  await sql`
    insert into persona_versions (organization_id, persona_id, version, content, variables, created_at, created_by)
    values (
      ${organizationId}, ${row.id}, 1, ${row.content}, ${row.variables}::jsonb, ${at(row.updated_at ?? row.created_at)},
      'legacy-import'
    )`.execute(tx)
}

export interface OwnedRow {
  organization_id: string
  object_id: string
  user_id: string
  api_key_id: string
  created_at: string
}

export async function findPresentOwned(tx: Tx, rows: readonly OwnedRow[]): Promise<number> {
  const { rows: found } = await sql<{ count: bigint }>`
    select count(*) from upstream_objects where (organization_id, object_id) in (
      select organization_id, object_id from jsonb_populate_recordset(null::upstream_objects, ${JSON.stringify(rows)}::jsonb)
    )`.execute(tx)
  return Number(found[0]?.count ?? 0)
}

/** Whoever made it first stays the owner. */
export async function insertOwned(tx: Tx, rows: readonly OwnedRow[]): Promise<void> {
  await sql`
    insert into upstream_objects (organization_id, object_id, kind, user_id, api_key_id, created_at)
    select organization_id, object_id, 'response', user_id, api_key_id, created_at
    from jsonb_populate_recordset(null::upstream_objects, ${JSON.stringify(rows)}::jsonb)
    on conflict do nothing`.execute(tx)
}

export interface RatingRow {
  organization_id: string
  request_id: string
  attempt_id: string
  rating: number
  feedback: string | null
  rated_at: string
}

/** A rating that is there is newer. What each is about is copied from its attempt, as for every rating. */
export async function insertRatings(tx: Tx, rows: readonly RatingRow[]): Promise<void> {
  await sql`
    with rated as (
      insert into ratings (
        organization_id, request_id, response_id, rating, feedback, rated_at, attempt_id, opened_at, user_id, api_key_id,
        persona_id, persona_version, session_id, model, cost_nano_usd
      )
      select organization_id, attempts.request_id, attempts.response_id, imported.rating, imported.feedback, imported.rated_at,
        attempt_id, attempts.opened_at, attempts.user_id, attempts.api_key_id, attempts.persona_id, attempts.persona_version,
        attempts.session_id, coalesce(attempts.model_used, attempts.model_requested, ''), attempts.cost_nano_usd
      from jsonb_populate_recordset(null::ratings, ${JSON.stringify(rows)}::jsonb) as imported
      join attempts using (organization_id, attempt_id)
      on conflict do nothing
      returning *
    )
    insert into rating_history (organization_id, request_id, revision, rating, feedback, rated_at)
    select organization_id, request_id, revision, rating, feedback, rated_at from rated`.execute(tx)
}

export async function findPresentRatings(tx: Tx, rows: readonly RatingRow[]): Promise<number> {
  const { rows: found } = await sql<{ count: bigint }>`
    select count(*) from ratings where (organization_id, request_id) in (
      select organization_id, request_id from jsonb_populate_recordset(null::ratings, ${JSON.stringify(rows)}::jsonb)
    )`.execute(tx)
  return Number(found[0]?.count ?? 0)
}

/** A partition for the month that holds a time, so that retention can let go of it whole. */
export async function makePartition(tx: Tx, time: string): Promise<void> {
  await sql`select make_attempt_partition(${time}::timestamptz)`.execute(tx)
}

/** The first day whose rows an organization keeps. */
export async function listRowsFrom(tx: Tx): Promise<Map<string, string>> {
  const { rows } = await sql<{ organization_id: string; rows_from: string }>`
    select organization_id, rows_from::text from attempt_retention`.execute(tx)
  return new Map(rows.map((row) => [row.organization_id, row.rows_from]))
}

function at(time: string | null) {
  return sql`coalesce(${time}::timestamptz, now())`
}
