import { createHash } from 'node:crypto'
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

/** The end of an organization's chain; concurrent writers of one organization wait here for each other. */
export async function lockHead(tx: Tx, organizationId: string): Promise<Head> {
  await tx
    .insertInto('audit_heads')
    .values({ organization_id: organizationId, sequence: 0n, hash: Buffer.alloc(32) })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  return tx
    .selectFrom('audit_heads')
    .select(['sequence', 'hash'])
    .where('organization_id', '=', organizationId)
    .forUpdate()
    .executeTakeFirstOrThrow()
}

export async function findHead(tx: Tx, organizationId: string): Promise<Head | undefined> {
  return tx
    .selectFrom('audit_heads')
    .select(['sequence', 'hash'])
    .where('organization_id', '=', organizationId)
    .executeTakeFirst()
}

export async function insertEntry(
  tx: Tx,
  organizationId: string,
  head: Head,
  entry: { actor: string; action: string; target: string; details: string },
): Promise<void> {
  const row = { ...entry, sequence: head.sequence + 1n, at: new Date(), previous_hash: head.hash }
  const hash = hashEntry(organizationId, { ...row, details: JSON.parse(entry.details) })
  await tx
    .insertInto('audit_log')
    .values({ ...row, organization_id: organizationId, hash })
    .execute()
  await tx
    .updateTable('audit_heads')
    .set({ sequence: row.sequence, hash })
    .where('organization_id', '=', organizationId)
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
