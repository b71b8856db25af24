import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

/** Brings a master key into force; the one that was has to be retired when nothing is sealed under it any more. */
export async function putInForce(tx: Tx, name: string): Promise<void> {
  await sql`update master_keys set state = 'retiring', changed_at = now() where state = 'current'`.execute(tx)
  await sql`
    insert into master_keys (name, state) values (${name}, 'current')
    on conflict (name) do update set state = 'current', changed_at = now()`.execute(tx)
}

export async function retireMasterKeys(tx: Tx): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    update master_keys set state = 'retired', changed_at = now() where state = 'retiring' returning name`.execute(tx)
  return rows.map(({ name }) => name)
}

export interface SealedByMaster {
  /** Null: a secret of the installation, by its name. */
  organization_id: string | null
  version: number | null
  name: string | null
  sealed: string
}

/** Some of what is sealed under another master key than this one. */
export async function lockSealedByOthers(tx: Tx, masterName: string, limit: number): Promise<SealedByMaster[]> {
  const { rows: secrets } = await sql<SealedByMaster>`
    select null as organization_id, null as version, name, sealed from instance_secrets
    where split_part(sealed, ':', 2) <> ${masterName} for update`.execute(tx)
  const { rows: dataKeys } = await sql<SealedByMaster>`
    select organization_id, version, null as name, sealed from organization_keys
    where split_part(sealed, ':', 2) <> ${masterName}
    limit ${limit} for update`.execute(tx)
  return [...secrets, ...dataKeys]
}

export async function replaceSealed(tx: Tx, row: SealedByMaster, sealed: string): Promise<void> {
  if (row.organization_id === null) {
    await sql`update instance_secrets set sealed = ${sealed} where name = ${row.name}`.execute(tx)
    return
  }
  await sql`
    update organization_keys set sealed = ${sealed}
    where organization_id = ${row.organization_id} and version = ${row.version}`.execute(tx)
}

export async function countSealedByOthers(tx: Tx, masterName: string): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`
    select (select count(*) from instance_secrets where split_part(sealed, ':', 2) <> ${masterName})
      + (select count(*) from organization_keys where split_part(sealed, ':', 2) <> ${masterName}) as count`.execute(tx)
  return Number(rows[0]?.count ?? 0)
}

/** The rotation of data keys that is under way, begun now if there is none. */
export async function ensureDataKeyRotation(tx: Tx): Promise<Date> {
  await sql`insert into data_key_rotations (started_at) values (now()) on conflict do nothing`.execute(tx)
  const { rows } = await sql<{ started_at: Date }>`
    select started_at from data_key_rotations where finished_at is null`.execute(tx)
  const [rotation] = rows
  if (!rotation) throw new Error('A rotation of data keys vanished after its beginning.')
  return rotation.started_at
}

export async function finishDataKeyRotation(tx: Tx): Promise<void> {
  await sql`update data_key_rotations set finished_at = now() where finished_at is null`.execute(tx)
}

/** Every organization that has data keys, and how many beside the newest may still open something. */
export async function listDataKeys(tx: Tx): Promise<{ organization_id: string; unretired: number }[]> {
  const { rows } = await sql<{ organization_id: string; unretired: number }>`
    select organization_id, count(*) filter (where retired_at is null)::int - 1 as unretired
    from organization_keys group by 1 order by 1`.execute(tx)
  return rows
}

export async function retireDataKeys(tx: Tx, organizationId: string, newest: number): Promise<number[]> {
  const rows = await tx
    .updateTable('organization_keys')
    .set({ retired_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('version', '<', newest)
    .where('retired_at', 'is', null)
    .returning('version')
    .execute()
  return rows.map(({ version }) => version)
}
