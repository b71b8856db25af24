import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

export interface MasterKeyRow {
  name: string
  state: 'current' | 'retiring' | 'retired'
}

/** The master keys on record; `name` comes into force when there is none, and of several first starts one wins. */
export async function ensureMasterKey(tx: Tx, name: string): Promise<MasterKeyRow[]> {
  await sql`insert into master_keys (name, state) values (${name}, 'current') on conflict do nothing`.execute(tx)
  return listMasterKeys(tx)
}

export async function listMasterKeys(tx: Tx): Promise<MasterKeyRow[]> {
  const rows = await tx.selectFrom('master_keys').select(['name', 'state']).orderBy('name').execute()
  return rows as MasterKeyRow[]
}

/** The stored secret of that name; `sealed` is stored when there is none, and of several first starts one wins. */
export async function ensureInstanceSecret(tx: Tx, name: string, sealed: string): Promise<string> {
  await tx
    .insertInto('instance_secrets')
    .values({ name, sealed })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  const stored = await findInstanceSecret(tx, name)
  if (stored === undefined) throw new Error('A secret of the installation vanished after its insertion.')
  return stored
}

export async function findInstanceSecret(tx: Tx, name: string): Promise<string | undefined> {
  const row = await tx.selectFrom('instance_secrets').select('sealed').where('name', '=', name).executeTakeFirst()
  return row?.sealed
}

/**
 * An organization's newest data key, if it has any. Until this transaction ends no new one is made: whoever changes keys waits for
 * everything that is being sealed under the old ones, and finds it.
 */
export async function holdNewestDataKey(tx: Tx, organizationId: string) {
  // A statement of its own: the next one then sees what was committed while this one waited.
  await sql`
    select pg_advisory_xact_lock_shared(${DATA_KEYS_LOCK}, hashtext(${organizationId})),
      pg_advisory_xact_lock_shared(${MASTER_KEYS_LOCK}, 0)`.execute(tx)
  return tx
    .selectFrom('organization_keys')
    .select(['version', 'sealed', 'created_at'])
    .where('organization_id', '=', organizationId)
    .orderBy('version', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** Whoever makes a new data key: from here on all that is sealed is sealed under the newest, or committed already. */
export async function lockDataKeys(tx: Tx, organizationId: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(${DATA_KEYS_LOCK}, hashtext(${organizationId}))`.execute(tx)
}

/** Whoever brings another master key into force. */
export async function lockMasterKeys(tx: Tx): Promise<void> {
  await sql`select pg_advisory_xact_lock(${MASTER_KEYS_LOCK}, 0)`.execute(tx)
}

const DATA_KEYS_LOCK = sql`hashtext('openai_proxy.data_keys')`
const MASTER_KEYS_LOCK = sql`hashtext('openai_proxy.master_keys')`

/** Of several first ones at once, one wins. */
export async function insertDataKey(tx: Tx, organizationId: string, version: number, sealed: string): Promise<void> {
  await tx
    .insertInto('organization_keys')
    .values({ organization_id: organizationId, version, sealed })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}

/** One that opens something still. */
export async function findDataKey(tx: Tx, organizationId: string, version: number) {
  return tx
    .selectFrom('organization_keys')
    .select(['version', 'sealed'])
    .where('organization_id', '=', organizationId)
    .where('version', '=', version)
    .where('retired_at', 'is', null)
    .executeTakeFirst()
}
