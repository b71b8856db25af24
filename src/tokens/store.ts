import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

const COLUMNS = [
  'organization_id',
  'id',
  'name',
  'scopes',
  'external_user_id',
  'generation',
  'created_at',
  'expires_at',
  'revoked_at',
] as const

export interface NewTokenRow {
  id: string
  name: string | null
  scopes: string[]
  external_user_id: string | null
  generation: number
  expires_at: Date
}

export async function insertToken(tx: Tx, organizationId: string, row: NewTokenRow) {
  return tx
    .insertInto('tokens')
    .values({ ...row, organization_id: organizationId, revoked_at: null })
    .returning(COLUMNS)
    .executeTakeFirstOrThrow()
}

export async function listTokenRows(tx: Tx, organizationId: string) {
  return tx
    .selectFrom('tokens')
    .select(COLUMNS)
    .where('organization_id', '=', organizationId)
    .orderBy('created_at')
    .orderBy('id')
    .execute()
}

/** Operators only: whose token has that id. */
export async function findTokenRowInAny(tx: Tx, id: string) {
  return tx.selectFrom('tokens').select(COLUMNS).where('id', '=', id).executeTakeFirst()
}

export async function markTokenRevoked(tx: Tx, organizationId: string, id: string) {
  return tx
    .updateTable('tokens')
    .set({ revoked_at: sql<Date>`coalesce(revoked_at, now())` })
    .where('organization_id', '=', organizationId)
    .where('id', '=', id)
    .returning(COLUMNS)
    .executeTakeFirst()
}

/** Raises the generation: every token signed under an earlier one is refused from then on. */
export async function raiseGeneration(tx: Tx, organizationId: string): Promise<number> {
  await tx
    .updateTable('tokens')
    .set({ revoked_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('revoked_at', 'is', null)
    .execute()
  const row = await tx
    .updateTable('organizations')
    .set((eb) => ({ token_generation: eb('token_generation', '+', 1), updated_at: new Date() }))
    .where('id', '=', organizationId)
    .returning('token_generation')
    .executeTakeFirstOrThrow()
  return row.token_generation
}

export async function findGeneration(tx: Tx, organizationId: string) {
  return tx
    .selectFrom('organizations')
    .select(['name', 'token_generation'])
    .where('id', '=', organizationId)
    .executeTakeFirst()
}

/** Whether the token is on record, unrevoked, and of its organization's present generation. */
export async function isTokenValid(tx: Tx, organizationId: string, id: string, generation: number): Promise<boolean> {
  const row = await tx
    .selectFrom('tokens')
    .innerJoin('organizations', 'organizations.id', 'tokens.organization_id')
    .select('tokens.id')
    .where('tokens.organization_id', '=', organizationId)
    .where('tokens.id', '=', id)
    .where('tokens.revoked_at', 'is', null)
    .where('organizations.token_generation', '=', generation)
    .executeTakeFirst()
  return row !== undefined
}
