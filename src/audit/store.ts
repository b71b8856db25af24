import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

interface Head {
  sequence: bigint
  hash: Buffer
}

interface Entry {
  sequence: bigint
  at: Date
  actor: string
  action: string
  target: string
  details: unknown
  previous_hash: Buffer
  hash: Buffer
}

/** The last row of an organization's chain; concurrent writers of one organization wait here for each other. */
export async function lockHead(tx: Tx, organizationId: string): Promise<Head> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`audit:${organizationId}`}, 0))`.execute(tx)
  const head = await tx
    .selectFrom('audit_log')
    .select(['sequence', 'hash'])
    .where('organization_id', '=', organizationId)
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst()
  return head ?? { sequence: 0n, hash: Buffer.alloc(32) }
}

export async function insertEntry(
  tx: Tx,
  organizationId: string,
  head: Head,
  entry: { actor: string; action: string; target: string; details: string },
): Promise<void> {
  const row = { ...entry, sequence: head.sequence + 1n, at: new Date(), previous_hash: head.hash }
  await tx
    .insertInto('audit_log')
    .values({
      ...row,
      organization_id: organizationId,
      hash: hashEntry(organizationId, { ...row, details: JSON.parse(entry.details) }),
    })
    .execute()
}

export async function listEntries(tx: Tx, organizationId: string): Promise<Entry[]> {
  return tx
    .selectFrom('audit_log')
    .select(['sequence', 'at', 'actor', 'action', 'target', 'details', 'previous_hash', 'hash'])
    .where('organization_id', '=', organizationId)
    .orderBy('sequence')
    .execute()
}

/** SHA-256 over a JSON array, which no choice of values can make ambiguous. */
export function hashEntry(organizationId: string, entry: Omit<Entry, 'hash'>): Buffer {
  const fields = [
    organizationId,
    String(entry.sequence),
    entry.at.toISOString(),
    entry.actor,
    entry.action,
    entry.target,
    sorted(entry.details),
    entry.previous_hash.toString('hex'),
  ]
  return createHash('sha256').update(JSON.stringify(fields)).digest()
}

/** jsonb keeps no key order, so the hash may not depend on it. */
function sorted(details: unknown): unknown {
  return typeof details === 'object' && details !== null
    ? Object.entries(details).sort(([a], [b]) => (a < b ? -1 : 1))
    : details
}
