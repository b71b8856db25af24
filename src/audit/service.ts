import type { Caller } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { findHead, hashEntry, insertEntry, listEntries, lockHead } from './store.ts'

/** What somebody did: `action` is `noun.verb`, `target` the id it was done to, `details` never hold a secret. */
export interface AuditEntry {
  action: string
  target: string
  details?: Record<string, string | number | boolean | null | string[]>
}

/**
 * Records a change in the same transaction as the change itself: both commit or neither does. Each row carries the hash of the
 * one before it in its organization.
 */
export async function recordAudit(tx: Tx, caller: Pick<Caller, 'organizationId' | 'actor'>, entry: AuditEntry) {
  const head = await lockHead(tx, caller.organizationId)
  await insertEntry(tx, caller.organizationId, head, {
    actor: caller.actor,
    action: entry.action,
    target: entry.target,
    details: JSON.stringify(entry.details ?? {}),
  })
}

/** Walks an organization's chain; `brokenAt` is the first row that was altered, that follows a deleted one, or that is missing. */
export async function verifyAudit(
  { db }: { db: Db },
  organizationId: string,
): Promise<{ rows: number; brokenAt?: bigint }> {
  const { entries, head } = await db.forOrganization(organizationId, async (tx) => ({
    head: await findHead(tx, organizationId),
    entries: await listEntries(tx, organizationId),
  }))
  let previous: Buffer = Buffer.alloc(32)
  let expected = 1n
  for (const entry of entries) {
    const isIntact =
      entry.sequence === expected &&
      entry.previous_hash.equals(previous) &&
      entry.hash.equals(hashEntry(organizationId, entry))
    if (!isIntact) return { rows: entries.length, brokenAt: entry.sequence }
    previous = entry.hash
    expected += 1n
  }
  const isWhole = (head?.sequence ?? 0n) === expected - 1n && (head?.hash ?? previous).equals(previous)
  return isWhole ? { rows: entries.length } : { rows: entries.length, brokenAt: expected }
}
