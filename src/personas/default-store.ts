import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

export interface DefaultRow {
  scope: string
  target_id: string
  persona_id: string
}

export async function upsertDefault(tx: Tx, organizationId: string, row: DefaultRow): Promise<void> {
  await tx
    .insertInto('persona_defaults')
    .values({ ...row, organization_id: organizationId })
    .onConflict((conflict) =>
      conflict.columns(['organization_id', 'scope', 'target_id']).doUpdateSet({ persona_id: row.persona_id }),
    )
    .execute()
}

export async function deleteDefault(tx: Tx, organizationId: string, scope: string, targetId: string): Promise<boolean> {
  const { numDeletedRows } = await tx
    .deleteFrom('persona_defaults')
    .where('organization_id', '=', organizationId)
    .where('scope', '=', scope)
    .where('target_id', '=', targetId)
    .executeTakeFirst()
  return numDeletedRows > 0n
}

export async function deleteDefaultsOfPersona(tx: Tx, organizationId: string, personaId: string): Promise<number> {
  const { numDeletedRows } = await tx
    .deleteFrom('persona_defaults')
    .where('organization_id', '=', organizationId)
    .where('persona_id', '=', personaId)
    .executeTakeFirst()
  return Number(numDeletedRows)
}

/** Organization, then users, then keys, oldest first. */
export async function listDefaultRows(
  tx: Tx,
  organizationId: string,
  filter: { personaId?: string; limit: number; offset: number },
) {
  const query = tx
    .selectFrom('persona_defaults')
    .innerJoin('personas', (join) =>
      join
        .onRef('personas.organization_id', '=', 'persona_defaults.organization_id')
        .onRef('personas.id', '=', 'persona_defaults.persona_id'),
    )
    .leftJoin('users', (join) =>
      join
        .onRef('users.organization_id', '=', 'persona_defaults.organization_id')
        .onRef('users.id', '=', 'persona_defaults.target_id'),
    )
    .select(['persona_defaults.scope', 'persona_defaults.target_id', 'persona_defaults.persona_id'])
    .select(['personas.name', 'personas.is_active', 'users.external_id'])
    .where('persona_defaults.organization_id', '=', organizationId)
  return (filter.personaId === undefined ? query : query.where('persona_id', '=', filter.personaId))
    .orderBy(sql`array_position(array['organization', 'user', 'key'], persona_defaults.scope)`)
    .orderBy('persona_defaults.created_at')
    .orderBy('persona_defaults.target_id')
    .limit(filter.limit)
    .offset(filter.offset)
    .execute()
}

/** The defaults of these targets, whatever their scopes: ids are of one thing each. */
export async function findDefaultRows(
  tx: Tx,
  organizationId: string,
  targetIds: readonly string[],
): Promise<DefaultRow[]> {
  return tx
    .selectFrom('persona_defaults')
    .select(['scope', 'target_id', 'persona_id'])
    .where('organization_id', '=', organizationId)
    .where('target_id', 'in', targetIds)
    .execute()
}

export async function hasDefaults(tx: Tx, organizationId: string): Promise<boolean> {
  const row = await tx
    .selectFrom('persona_defaults')
    .select('scope')
    .where('organization_id', '=', organizationId)
    .limit(1)
    .executeTakeFirst()
  return row !== undefined
}
