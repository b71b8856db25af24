import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

export type ContentKind = 'request' | 'response'

export interface ContentRow {
  organization_id: string
  attempt_id: string
  kind: ContentKind
  sealed: Buffer
  original_bytes: number
  is_cut: boolean
  created_at: Date
  expires_at: Date
}

/** Inserts contents of any organizations; one that is already there stays as it is. */
export async function insertContentsInAny(tx: Tx, rows: readonly ContentRow[]): Promise<void> {
  // All bytes in one parameter and where each begins in another: whatever the number of rows, the plan is one.
  let offset = 1
  const described = rows.map(({ sealed, ...row }) => {
    const at = { ...row, first: offset, length: sealed.length }
    offset += sealed.length
    return at
  })
  const sealed = Buffer.concat(rows.map((row) => row.sealed))
  await sql`
    insert into contents (
      organization_id, attempt_id, kind, sealed, original_bytes, is_cut, created_at, expires_at
    )
    select
      organization_id, attempt_id, kind, substring(${sealed}::bytea from first for length), original_bytes, is_cut,
      created_at, expires_at
    from jsonb_to_recordset(${JSON.stringify(described)}::jsonb) as described (
      organization_id uuid, attempt_id uuid, kind text, first integer, length integer, original_bytes bigint,
      is_cut boolean, created_at timestamptz, expires_at timestamptz
    )
    on conflict do nothing`.execute(tx)
}

/** What is kept of an attempt and has not reached its deadline. */
export async function findContents(tx: Tx, organizationId: string, attemptId: string) {
  return tx
    .selectFrom('contents')
    .select(['kind', 'sealed', 'original_bytes', 'is_cut', 'created_at', 'expires_at'])
    .where('organization_id', '=', organizationId)
    .where('attempt_id', '=', attemptId)
    .where('expires_at', '>', sql<Date>`now()`)
    .execute()
}

/**
 * Deletes some of what has reached its deadline. Rows that another server is deleting are passed over, not waited for.
 * @returns how many were deleted.
 */
export async function deleteExpiredInAny(tx: Tx, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from contents where (organization_id, attempt_id, kind) in (
      select organization_id, attempt_id, kind from contents
      where expires_at <= now()
      order by expires_at
      limit ${limit}
      for update skip locked
    )`.execute(tx)
  return Number(numAffectedRows ?? 0n)
}

/** Deletes some of what is kept of a user's calls. */
export async function deleteContentsOfUser(
  tx: Tx,
  organizationId: string,
  userId: string,
  limit: number,
): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from contents where (organization_id, attempt_id, kind) in (
      select organization_id, attempt_id, kind from contents join attempts using (organization_id, attempt_id)
      where organization_id = ${organizationId} and attempts.user_id = ${userId}
      limit ${limit}
    )`.execute(tx)
  return Number(numAffectedRows ?? 0n)
}

/** Deletes some of what came after a user was erased: of calls that were under way, for as long as calls can be. */
export async function deleteContentsOfErasedInAny(tx: Tx, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from contents where (organization_id, attempt_id, kind) in (
      select contents.organization_id, contents.attempt_id, contents.kind
      from users
      join attempts on attempts.organization_id = users.organization_id and attempts.user_id = users.id
      join contents on contents.organization_id = attempts.organization_id and contents.attempt_id = attempts.attempt_id
      where users.erased_at > now() - interval '2 days' and attempts.opened_at > users.erased_at - interval '3 days'
      limit ${limit}
    )`.execute(tx)
  return Number(numAffectedRows ?? 0n)
}

/** A page of everything that is kept of an organization, in the order of the keys. */
export async function listContents(
  tx: Tx,
  organizationId: string,
  after: { attempt_id: string; kind: string } | undefined,
  limit: number,
) {
  const { attempt_id, kind } = after ?? { attempt_id: ZERO_ID, kind: '' }
  return tx
    .selectFrom('contents')
    .select(['attempt_id', 'kind', 'sealed', 'original_bytes', 'is_cut', 'created_at', 'expires_at'])
    .where('organization_id', '=', organizationId)
    .where((eb) => eb(eb.refTuple('attempt_id', 'kind'), '>', eb.tuple(attempt_id, kind)))
    .where('expires_at', '>', sql<Date>`now()`)
    .orderBy('attempt_id')
    .orderBy('kind')
    .limit(limit)
    .execute()
}

/** Deletes some of what an organization keeps of calls before a day (UTC). */
export async function deleteContentsBefore(
  tx: Tx,
  organizationId: string,
  day: string,
  limit: number,
): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from contents where (organization_id, attempt_id, kind) in (
      select organization_id, attempt_id, kind from contents
      where organization_id = ${organizationId} and created_at < ${day}::date::timestamp at time zone 'UTC'
      order by attempt_id
      limit ${limit}
    )`.execute(tx)
  return Number(numAffectedRows ?? 0n)
}

/** Some bodies that another data key than the named one has sealed, in the order of their keys. */
export async function lockSealedByOther(
  tx: Tx,
  organizationId: string,
  keyName: string,
  after: string | undefined,
  limit: number,
) {
  const [attemptId = ZERO_ID, kind = ''] = after?.split(' ') ?? []
  return tx
    .selectFrom('contents')
    .select(['attempt_id', 'kind', 'sealed'])
    .where('organization_id', '=', organizationId)
    .where((eb) => eb(eb.refTuple('attempt_id', 'kind'), '>', eb.tuple(attemptId, kind)))
    .where(isSealedByOther(keyName))
    .orderBy('attempt_id')
    .orderBy('kind')
    .limit(limit)
    .forUpdate()
    .execute()
}

const ZERO_ID = '00000000-0000-0000-0000-000000000000'

export async function countSealedByOther(tx: Tx, organizationId: string, keyName: string): Promise<number> {
  const row = await tx
    .selectFrom('contents')
    .select((eb) => eb.fn.countAll<bigint>().as('count'))
    .where('organization_id', '=', organizationId)
    .where(isSealedByOther(keyName))
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

/** Only the head is read: bodies are stored apart from their rows, uncompressed. */
function isSealedByOther(keyName: string) {
  const head = Buffer.from(`enc:${keyName}:`)
  return sql<boolean>`substring(sealed from 1 for ${head.length}) <> ${head}`
}

export async function replaceSealed(
  tx: Tx,
  organizationId: string,
  { attempt_id, kind }: { attempt_id: string; kind: string },
  sealed: Buffer,
): Promise<void> {
  await tx
    .updateTable('contents')
    .set({ sealed })
    .where('organization_id', '=', organizationId)
    .where('attempt_id', '=', attempt_id)
    .where('kind', '=', kind)
    .execute()
}
