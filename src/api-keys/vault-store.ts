import type { Tx } from '../db/database.ts'

/** The stored secret of that name; `sealed` is stored when there is none, and of several first starts one wins. */
export async function ensureInstanceSecret(tx: Tx, name: string, sealed: string): Promise<string> {
  await tx
    .insertInto('instance_secrets')
    .values({ name, sealed })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  const row = await tx
    .selectFrom('instance_secrets')
    .select('sealed')
    .where('name', '=', name)
    .executeTakeFirstOrThrow()
  return row.sealed
}

export async function findInstanceSecret(tx: Tx, name: string): Promise<string | undefined> {
  const row = await tx.selectFrom('instance_secrets').select('sealed').where('name', '=', name).executeTakeFirst()
  return row?.sealed
}

/** An organization's newest data key; `sealed` becomes its first one when it has none. */
export async function ensureDataKey(tx: Tx, organizationId: string, version: number, sealed: string) {
  await tx
    .insertInto('organization_keys')
    .values({ organization_id: organizationId, version, sealed })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  return tx
    .selectFrom('organization_keys')
    .select(['version', 'sealed'])
    .where('organization_id', '=', organizationId)
    .orderBy('version', 'desc')
    .limit(1)
    .executeTakeFirstOrThrow()
}

export async function findDataKey(tx: Tx, organizationId: string, version: number) {
  return tx
    .selectFrom('organization_keys')
    .select(['version', 'sealed'])
    .where('organization_id', '=', organizationId)
    .where('version', '=', version)
    .executeTakeFirst()
}
