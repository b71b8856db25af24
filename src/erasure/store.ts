import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

/** Operators only: the organization of a user, deleted or not. */
export async function findOrganizationOfUserInAny(tx: Tx, userId: string): Promise<string | undefined> {
  const row = await tx.selectFrom('users').select('organization_id').where('id', '=', userId).executeTakeFirst()
  return row?.organization_id
}

/** A user, deleted or not, held until the transaction ends. */
export async function lockUser(tx: Tx, organizationId: string, userId: string) {
  return tx
    .selectFrom('users')
    .select(['id', 'external_id'])
    .where('organization_id', '=', organizationId)
    .where('id', '=', userId)
    .forUpdate()
    .executeTakeFirst()
}

export async function pseudonymiseUser(
  tx: Tx,
  organizationId: string,
  userId: string,
  pseudonym: string,
): Promise<void> {
  await tx
    .updateTable('users')
    .set({ external_id: pseudonym, deleted_at: sql<Date>`coalesce(deleted_at, now())`, erased_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('id', '=', userId)
    .execute()
}

/** The user's own keys: inactive, and without what people wrote about them. */
export async function blankKeysOfUser(tx: Tx, organizationId: string, userId: string): Promise<number> {
  const { numUpdatedRows } = await tx
    .updateTable('api_keys')
    .set({ is_active: false, name: null, description: null, updated_at: new Date() })
    .where('organization_id', '=', organizationId)
    .where('user_id', '=', userId)
    .executeTakeFirst()
  return Number(numUpdatedRows)
}

/** Tokens that speak for an external id, unless somebody else goes by it now. */
export async function revokeTokensOf(
  tx: Tx,
  organizationId: string,
  externalId: string,
  pseudonym: string,
): Promise<number> {
  const { numUpdatedRows } = await tx
    .updateTable('tokens')
    .set({ external_user_id: pseudonym, name: null, revoked_at: sql<Date>`coalesce(revoked_at, now())` })
    .where('organization_id', '=', organizationId)
    .where('external_user_id', '=', externalId)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('users')
            .select('users.id')
            .where('users.organization_id', '=', organizationId)
            .where('users.external_id', '=', externalId)
            .where('users.deleted_at', 'is', null),
        ),
      ),
    )
    .executeTakeFirst()
  return Number(numUpdatedRows)
}

/** What was written about the answers that the user got, and by the user about others; the ratings themselves stay. */
export async function blankFeedbackOf(tx: Tx, organizationId: string, userId: string): Promise<number> {
  const isTheirs = (raterColumn: string) => sql`(
    ${sql.ref(raterColumn)} = ${userId} or request_id in (
      select request_id from attempts where organization_id = ${organizationId} and user_id = ${userId}
    )
  )`
  // Every rating is in the history, the last of each request in the other table as well.
  const { numAffectedRows } = await sql`
    update rating_history set feedback = null
    where organization_id = ${organizationId} and feedback is not null and ${isTheirs('rating_history.rated_by_user_id')}`.execute(
    tx,
  )
  await sql`
    update ratings set feedback = null
    where organization_id = ${organizationId} and feedback is not null and ${isTheirs('ratings.rated_by_user_id')}`.execute(
    tx,
  )
  return Number(numAffectedRows ?? 0n)
}

/**
 * What stays: objects at OpenAI, entries of the audit log that name the user, and users of the same external id, deleted before this
 * one or made after it.
 */
export async function findLeft(tx: Tx, organizationId: string, userId: string, externalId: string) {
  const { rows } = await sql<{ objects: bigint; entries: bigint; namesakes: string[] }>`
    select
      array(
        select id::text from users
        where organization_id = ${organizationId} and external_id = ${externalId} and id <> ${userId} order by created_at
      ) as namesakes,
      (
        select count(*) from upstream_objects
        where organization_id = ${organizationId} and user_id = ${userId} and deleted_at is null
      ) as objects,
      (
        select count(*) from audit_log
        where organization_id = ${organizationId} and details ->> 'external_id' = ${externalId}
      ) as entries`.execute(tx)
  const [left] = rows
  return {
    upstreamObjects: Number(left?.objects ?? 0),
    auditEntries: Number(left?.entries ?? 0),
    namesakes: left?.namesakes ?? [],
  }
}
