import { type RawBuilder, type SqlBool, sql } from 'kysely'
import type { Tx } from '../db/database.ts'
import type { MetadataFilter } from './metadata-filter.ts'
import type { Share } from './rollout.ts'
import type { Variables } from './template.ts'

/** A persona as it is now, with the text of its current version. */
export interface PersonaRow {
  organization_id: string
  id: string
  name: string
  description: string | null
  user_id: string | null
  external_id: string | null
  metadata: Record<string, unknown> | null
  is_active: boolean
  current_version: number
  rollout_sticky_by: string
  rollout: Share[]
  content: string
  variables: Variables
  created_at: Date
  updated_at: Date
}

export interface PersonaChanges {
  name?: string
  description?: string | null
  user_id?: string | null
  metadata?: string | null
  is_active?: boolean
  current_version?: number
  rollout_sticky_by?: string
  deleted_at?: Date
}

/** @returns undefined when the name is taken. */
export async function insertPersona(
  tx: Tx,
  organizationId: string,
  row: { name: string; description: string | null; user_id: string | null; metadata: string | null },
): Promise<string | undefined> {
  const inserted = await tx
    .insertInto('personas')
    .values({ ...row, organization_id: organizationId, deleted_at: null })
    .onConflict((conflict) => conflict.columns(['organization_id', 'name']).where('deleted_at', 'is', null).doNothing())
    .returning('id')
    .executeTakeFirst()
  return inserted?.id
}

/** @returns `name_taken` when another has the name; the transaction is of no more use then. */
export async function updatePersonaRow(
  tx: Tx,
  organizationId: string,
  id: string,
  changes: PersonaChanges,
): Promise<'updated' | 'name_taken'> {
  try {
    await tx
      .updateTable('personas')
      .set({ ...changes, updated_at: new Date() })
      .where('organization_id', '=', organizationId)
      .where('id', '=', id)
      .execute()
    return 'updated'
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === UNIQUE_VIOLATION) return 'name_taken'
    throw error
  }
}

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const UNIQUE_VIOLATION = '23505'

/** Holds the persona until the transaction ends, so that its versions are numbered one after the other. */
export async function lockPersonaRow(tx: Tx, organizationId: string, id: string): Promise<PersonaRow | undefined> {
  await tx
    .selectFrom('personas')
    .select('id')
    .where('organization_id', '=', organizationId)
    .where('id', '=', id)
    .forUpdate()
    .execute()
  return findPersonaRow(tx, organizationId, id)
}

export async function findPersonaRow(tx: Tx, organizationId: string, id: string): Promise<PersonaRow | undefined> {
  return personaRows(tx, organizationId).where('personas.id', '=', id).executeTakeFirst()
}

/** Operators only: the organization of a living persona. */
export async function findPersonaOrganizationInAny(tx: Tx, id: string): Promise<string | undefined> {
  const row = await tx
    .selectFrom('personas')
    .select('organization_id')
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  return row?.organization_id
}

export interface PersonaRowFilter {
  /** Those of everyone and those of this user; null: those of everyone alone. */
  userId: string | null | undefined
  includeInactive: boolean
  metadata: readonly MetadataFilter[]
  /** Names behind this one. */
  afterName: string | undefined
  limit: number
}

export async function listPersonaRows(tx: Tx, organizationId: string, filter: PersonaRowFilter): Promise<PersonaRow[]> {
  const { userId, afterName } = filter
  let query = personaRows(tx, organizationId)
  if (!filter.includeInactive) query = query.where('personas.is_active', '=', true)
  if (userId === null) query = query.where('personas.user_id', 'is', null)
  else if (userId !== undefined) {
    query = query.where((eb) => eb.or([eb('personas.user_id', 'is', null), eb('personas.user_id', '=', userId)]))
  }
  for (const one of filter.metadata) query = query.where(metadataCondition(one))
  if (afterName !== undefined) query = query.where('personas.name', '>', afterName)
  return query.orderBy('personas.name').limit(filter.limit).execute()
}

/** Values compare with a field's text; a field is one of the outer object, whatever dots its name has, or one inside it. */
function metadataCondition(filter: MetadataFilter): RawBuilder<SqlBool> {
  const metadata = sql.ref('personas.metadata')
  if (filter.kind === 'any_tag') return sql`${metadata} -> 'tags' ?| ${sql.val(filter.values)}::text[]`
  if (filter.kind === 'all_tags') return sql`${metadata} -> 'tags' ?& ${sql.val(filter.values)}::text[]`
  const { field } = filter
  const path = sql`${sql.val(field.split('.'))}::text[]`
  return filter.kind === 'exists'
    ? sql`(${metadata} ? ${field} or ${metadata} #> ${path} is not null)`
    : sql`(${metadata} ->> ${field} = ${filter.value} or ${metadata} #>> ${path} = ${filter.value})`
}

function personaRows(tx: Tx, organizationId: string) {
  return tx
    .selectFrom('personas')
    .innerJoin('persona_versions as current', (join) =>
      join
        .onRef('current.organization_id', '=', 'personas.organization_id')
        .onRef('current.persona_id', '=', 'personas.id')
        .onRef('current.version', '=', 'personas.current_version'),
    )
    .leftJoin('users', (join) =>
      join.onRef('users.organization_id', '=', 'personas.organization_id').onRef('users.id', '=', 'personas.user_id'),
    )
    .select(['personas.organization_id', 'personas.id', 'personas.name', 'personas.description', 'personas.user_id'])
    .select(['personas.metadata', 'personas.is_active', 'personas.current_version', 'personas.rollout_sticky_by'])
    .select(['personas.created_at', 'personas.updated_at', 'current.content', 'current.variables', 'users.external_id'])
    .select(
      sql<Share[]>`coalesce((
        select jsonb_agg(jsonb_build_object('version', shares.version, 'percent', shares.percent) order by shares.version)
        from persona_rollouts as shares
        where shares.organization_id = personas.organization_id and shares.persona_id = personas.id
      ), '[]')`.as('rollout'),
    )
    .where('personas.organization_id', '=', organizationId)
    .where('personas.deleted_at', 'is', null)
}
