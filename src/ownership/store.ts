import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

export interface OwnedObjectRow {
  organization_id: string
  object_id: string
  kind: string
  user_id: string | null
  api_key_id: string
  persona_id: string | null
  persona_version: number | null
  is_shared: boolean
}

const COLUMNS = [
  'organization_id',
  'object_id',
  'kind',
  'user_id',
  'api_key_id',
  'is_shared',
  'persona_id',
  'persona_version',
] as const

/** Whoever recorded an object first stays its owner. */
export async function insertOwnedObjects(tx: Tx, rows: readonly OwnedObjectRow[]): Promise<void> {
  await sql`
    insert into upstream_objects (organization_id, object_id, kind, user_id, api_key_id, persona_id, persona_version, is_shared)
    select organization_id, object_id, kind, user_id, api_key_id, persona_id, persona_version, is_shared
    from jsonb_populate_recordset(null::upstream_objects, ${JSON.stringify(rows)}::jsonb)
    on conflict do nothing`.execute(tx)
}

/** @returns false when the organization has an object of that id already. */
export async function insertOwnedObject(tx: Tx, row: OwnedObjectRow): Promise<boolean> {
  const result = await tx
    .insertInto('upstream_objects')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst()
  return (result.numInsertedOrUpdatedRows ?? 0n) > 0n
}

export async function findOwnedObjects(tx: Tx, organizationId: string, objectIds: readonly string[]) {
  return tx
    .selectFrom('upstream_objects')
    .select(COLUMNS)
    .where('organization_id', '=', organizationId)
    .where('object_id', 'in', objectIds)
    .execute()
}

/** Operators only: the organizations that have an object. */
export async function findOwnersInAny(tx: Tx, objectId: string) {
  return tx.selectFrom('upstream_objects').select(['organization_id']).where('object_id', '=', objectId).execute()
}

export interface ListFilter {
  kind: string
  /** Undefined: of everybody in the organization. */
  userId: string | null | undefined
  order: 'asc' | 'desc'
  /** The object behind which to begin. */
  afterId: string | undefined
  limit: number
}

/** Objects that are not known to be deleted, in the order they were recorded in. */
export async function listOwnedObjects(tx: Tx, organizationId: string, filter: ListFilter) {
  const { kind, userId, order, afterId, limit } = filter
  let query = tx
    .selectFrom('upstream_objects as objects')
    .select(COLUMNS)
    .where('organization_id', '=', organizationId)
    .where('kind', '=', kind)
    .where('deleted_at', 'is', null)
  if (userId !== undefined) {
    query = query.where((where) =>
      where.or([where('user_id', userId === null ? 'is' : '=', userId), where('is_shared', '=', true)]),
    )
  }
  if (afterId !== undefined) {
    const direction = sql.raw(order === 'asc' ? '>' : '<')
    query = query.where(
      sql<boolean>`(created_at, object_id) ${direction} (
        select created_at, object_id from upstream_objects
        where organization_id = ${organizationId} and object_id = ${afterId})`,
    )
  }
  return query.orderBy('created_at', order).orderBy('object_id', order).limit(limit).execute()
}

export async function markDeleted(tx: Tx, organizationId: string, objectIds: readonly string[]): Promise<void> {
  await tx
    .updateTable('upstream_objects')
    .set({ deleted_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('object_id', 'in', objectIds)
    .where('deleted_at', 'is', null)
    .execute()
}
