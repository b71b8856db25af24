import type { Tx } from '../db/database.ts'

const COLUMNS = ['id', 'name', 'created_at'] as const

export async function insertOrganization(tx: Tx, name: string) {
  return tx.insertInto('organizations').values({ name }).returning(COLUMNS).executeTakeFirstOrThrow()
}

export async function listAllOrganizations(tx: Tx) {
  return tx.selectFrom('organizations').select(COLUMNS).orderBy('created_at').orderBy('id').execute()
}

export async function findOrganizationById(tx: Tx, id: string) {
  return tx.selectFrom('organizations').select(COLUMNS).where('id', '=', id).executeTakeFirst()
}

export async function findOrganizationsByName(tx: Tx, name: string) {
  return tx.selectFrom('organizations').select(COLUMNS).where('name', '=', name).orderBy('created_at').execute()
}

export interface PoliciesRow {
  client_gone: string
  unpriced_models: string
  content: string
  content_days: number
  rows_days: number | null
  max_concurrent_requests: number | null
  personas: string
  system_items: string
  share_objects: string
  models: string[] | null
  identifiers: string
  client_secrets: string
  websockets: string
}

export async function findPolicies(tx: Tx, organizationId: string): Promise<PoliciesRow | undefined> {
  return tx
    .selectFrom('organization_policies')
    .select([
      'client_gone',
      'unpriced_models',
      'content',
      'content_days',
      'rows_days',
      'max_concurrent_requests',
      'personas',
      'system_items',
      'share_objects',
      'models',
      'identifiers',
      'client_secrets',
      'websockets',
    ])
    .where('organization_id', '=', organizationId)
    .executeTakeFirst()
}

export async function upsertPolicies(tx: Tx, organizationId: string, row: PoliciesRow): Promise<void> {
  await tx
    .insertInto('organization_policies')
    .values({ ...row, organization_id: organizationId })
    .onConflict((conflict) => conflict.column('organization_id').doUpdateSet({ ...row, updated_at: new Date() }))
    .execute()
}
