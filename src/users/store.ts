import type { Tx } from '../db/database.ts'

const COLUMNS = ['organization_id', 'id', 'external_id', 'created_at'] as const

/** The living user with that external id, inserted if there is none. */
export async function ensureUserRow(tx: Tx, organizationId: string, externalId: string) {
  const inserted = await tx
    .insertInto('users')
    .values({ organization_id: organizationId, external_id: externalId, deleted_at: null })
    .onConflict((conflict) =>
      conflict.columns(['organization_id', 'external_id']).where('deleted_at', 'is', null).doNothing(),
    )
    .returning(COLUMNS)
    .executeTakeFirst()
  if (inserted) return { row: inserted, isNew: true }
  const found = await findUserRowByExternalId(tx, organizationId, externalId)
  if (!found) throw new Error('A user vanished between the insert that met it and the select after it.')
  return { row: found, isNew: false }
}

export async function findUserRowByExternalId(tx: Tx, organizationId: string, externalId: string) {
  return tx
    .selectFrom('users')
    .select(COLUMNS)
    .where('organization_id', '=', organizationId)
    .where('external_id', '=', externalId)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
}

export async function findUserRow(tx: Tx, organizationId: string, id: string) {
  return tx
    .selectFrom('users')
    .select(COLUMNS)
    .where('organization_id', '=', organizationId)
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
}

/** Operators only: the one place that finds a user without knowing the organization. */
export async function findUserRowInAny(tx: Tx, id: string) {
  return tx.selectFrom('users').select(COLUMNS).where('id', '=', id).where('deleted_at', 'is', null).executeTakeFirst()
}

export async function listUserRows(tx: Tx, organizationId: string, page: { limit: number; offset: number }) {
  return tx
    .selectFrom('users')
    .select(COLUMNS)
    .where('organization_id', '=', organizationId)
    .where('deleted_at', 'is', null)
    .orderBy('created_at')
    .orderBy('id')
    .limit(page.limit)
    .offset(page.offset)
    .execute()
}

export async function markUserDeleted(tx: Tx, organizationId: string, id: string) {
  return tx
    .updateTable('users')
    .set({ deleted_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('id', '=', id)
    .where('deleted_at', 'is', null)
    .returning(COLUMNS)
    .executeTakeFirst()
}

/** The ids of the keys that were active until now. */
export async function deactivateKeysOfUser(tx: Tx, organizationId: string, userId: string): Promise<string[]> {
  const rows = await tx
    .updateTable('api_keys')
    .set({ is_active: false, updated_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('user_id', '=', userId)
    .where('is_active', '=', true)
    .returning('id')
    .execute()
  return rows.map(({ id }) => id)
}

/** The ids of the personas that were active until now; no persona is the user's default any more. */
export async function deactivatePersonasOfUser(tx: Tx, organizationId: string, userId: string): Promise<string[]> {
  await tx
    .deleteFrom('persona_defaults')
    .where('organization_id', '=', organizationId)
    .where('scope', '=', 'user')
    .where('target_id', '=', userId)
    .execute()
  const rows = await tx
    .updateTable('personas')
    .set({ is_active: false, updated_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('user_id', '=', userId)
    .where('is_active', '=', true)
    .returning('id')
    .execute()
  return rows.map(({ id }) => id)
}
