import type { Tx } from '../db/database.ts'

const COLUMNS = [
  'api_keys.organization_id',
  'api_keys.id',
  'api_keys.user_id',
  'api_keys.name',
  'api_keys.description',
  'api_keys.base_url',
  'api_keys.key_prefix',
  'api_keys.key_last4',
  'api_keys.is_active',
  'api_keys.created_at',
  'api_keys.updated_at',
] as const

export interface NewApiKeyRow {
  id: string
  user_id: string | null
  name: string | null
  description: string | null
  base_url: string | null
  key_hash: Buffer
  key_prefix: string
  key_last4: string
  upstream_key_sealed: string
}

export interface ApiKeyChanges {
  user_id?: string | null
  name?: string | null
  description?: string | null
  is_active?: boolean
  upstream_key_sealed?: string
}

export async function insertApiKey(tx: Tx, organizationId: string, row: NewApiKeyRow): Promise<void> {
  await tx
    .insertInto('api_keys')
    .values({ ...row, organization_id: organizationId })
    .execute()
}

export async function updateApiKeyRow(
  tx: Tx,
  organizationId: string,
  id: string,
  changes: ApiKeyChanges,
): Promise<boolean> {
  const result = await tx
    .updateTable('api_keys')
    .set({ ...changes, updated_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('id', '=', id)
    .executeTakeFirst()
  return result.numUpdatedRows > 0n
}

export async function findApiKeyRow(tx: Tx, organizationId: string, id: string) {
  return withUser(tx, organizationId).where('api_keys.id', '=', id).executeTakeFirst()
}

export async function listApiKeyRows(
  tx: Tx,
  organizationId: string,
  filter: { userId?: string | undefined; includeInactive: boolean; limit: number; offset: number },
) {
  let query = withUser(tx, organizationId)
  if (filter.userId !== undefined) query = query.where('api_keys.user_id', '=', filter.userId)
  if (!filter.includeInactive) query = query.where('api_keys.is_active', '=', true)
  return query.orderBy('api_keys.created_at').orderBy('api_keys.id').limit(filter.limit).offset(filter.offset).execute()
}

/** Operators only: the keys that a person may mean by an id, a hash or the display prefix, whatever their organization. */
export async function findApiKeyRowsInAny(tx: Tx, by: { id?: string; hash?: Buffer; prefix?: string }) {
  const query = tx.selectFrom('api_keys').select(['organization_id', 'id'])
  if (by.id !== undefined) return query.where('id', '=', by.id).execute()
  if (by.hash !== undefined) return query.where('key_hash', '=', by.hash).execute()
  return query
    .where('key_prefix', '=', by.prefix ?? '')
    .limit(10)
    .execute()
}

/** Authentication only: whose synthetic key has that hash, the key being active and its user, if any, alive. */
export async function findActiveKeyByHash(tx: Tx, hash: Buffer) {
  return tx
    .selectFrom('api_keys')
    .leftJoin('users', (join) =>
      join.onRef('users.organization_id', '=', 'api_keys.organization_id').onRef('users.id', '=', 'api_keys.user_id'),
    )
    .select(['api_keys.organization_id', 'api_keys.id', 'api_keys.user_id', 'users.external_id'])
    .where('api_keys.key_hash', '=', hash)
    .where('api_keys.is_active', '=', true)
    .where('users.deleted_at', 'is', null)
    .executeTakeFirst()
}

/** The user's own active keys, oldest first; without a user the organization-wide ones. */
export async function findActiveKeys(tx: Tx, organizationId: string, userId: string | null) {
  const query = tx
    .selectFrom('api_keys')
    .select(['id', 'base_url', 'upstream_key_sealed'])
    .where('organization_id', '=', organizationId)
    .where('is_active', '=', true)
  return (userId === null ? query.where('user_id', 'is', null) : query.where('user_id', '=', userId))
    .orderBy('created_at')
    .orderBy('id')
    .execute()
}

export async function findActiveKey(tx: Tx, organizationId: string, id: string) {
  return tx
    .selectFrom('api_keys')
    .select(['id', 'user_id', 'base_url', 'upstream_key_sealed'])
    .where('organization_id', '=', organizationId)
    .where('id', '=', id)
    .where('is_active', '=', true)
    .executeTakeFirst()
}

/** Some keys that another data key than the named one has sealed, in the order of their ids. */
export async function lockSealedByOther(
  tx: Tx,
  organizationId: string,
  keyName: string,
  after: string | undefined,
  limit: number,
) {
  const query = sealedByOther(tx, organizationId, keyName).select(['id', 'upstream_key_sealed'])
  return (after === undefined ? query : query.where('id', '>', after)).orderBy('id').limit(limit).forUpdate().execute()
}

export async function countSealedByOther(tx: Tx, organizationId: string, keyName: string): Promise<number> {
  const row = await sealedByOther(tx, organizationId, keyName)
    .select((eb) => eb.fn.countAll<bigint>().as('count'))
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

/** The same key, sealed anew: not a change that anybody made. */
export async function replaceUpstreamKey(tx: Tx, organizationId: string, id: string, sealed: string): Promise<void> {
  await tx
    .updateTable('api_keys')
    .set({ upstream_key_sealed: sealed })
    .where('organization_id', '=', organizationId)
    .where('id', '=', id)
    .execute()
}

function sealedByOther(tx: Tx, organizationId: string, keyName: string) {
  return tx
    .selectFrom('api_keys')
    .where('organization_id', '=', organizationId)
    .where('upstream_key_sealed', 'not like', `enc:${keyName}:%`)
}

function withUser(tx: Tx, organizationId: string) {
  return tx
    .selectFrom('api_keys')
    .leftJoin('users', (join) =>
      join.onRef('users.organization_id', '=', 'api_keys.organization_id').onRef('users.id', '=', 'api_keys.user_id'),
    )
    .select(COLUMNS)
    .select('users.external_id')
    .where('api_keys.organization_id', '=', organizationId)
}
