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
}

/** Whoever recorded an object first stays its owner. */
export async function insertOwnedObjects(tx: Tx, rows: readonly OwnedObjectRow[]): Promise<void> {
  await sql`
    insert into upstream_objects (organization_id, object_id, kind, user_id, api_key_id, persona_id, persona_version)
    select organization_id, object_id, kind, user_id, api_key_id, persona_id, persona_version
    from jsonb_populate_recordset(null::upstream_objects, ${JSON.stringify(rows)}::jsonb)
    on conflict do nothing`.execute(tx)
}

export async function findOwnedObject(tx: Tx, organizationId: string, objectId: string) {
  return tx
    .selectFrom('upstream_objects')
    .select(['object_id', 'kind', 'user_id', 'api_key_id', 'persona_id', 'persona_version'])
    .where('organization_id', '=', organizationId)
    .where('object_id', '=', objectId)
    .executeTakeFirst()
}
