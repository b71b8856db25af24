import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Operator } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { ensureDataKeyRotation, finishDataKeyRotation, listDataKeys, retireDataKeys } from './rotation-store.ts'
import type { Vault } from './vault.ts'

/** A table that holds what data keys have sealed. Each noun that seals has one; all of them together are everything. */
export interface SealedPlace {
  name: string
  /**
   * Seals some rows of an organization anew that are not sealed under that key, the newest.
   * @param after where the last call ended.
   * @returns how many were, and where to go on; undefined at the end.
   */
  reseal(
    tx: Tx,
    vault: Vault,
    organizationId: string,
    keyName: string,
    after: string | undefined,
  ): Promise<{ resealed: number; next: string | undefined }>
  /** How many rows another key than that has sealed. */
  count(tx: Tx, organizationId: string, keyName: string): Promise<number>
}

export interface DataKeyRotation {
  organizations: number
  resealed: number
  retired: number
}

/**
 * Gives every organization a new data key and seals everything anew under it, beside servers that serve: they read by the name in
 * the text and write under the newest. A former key is retired when a scan finds nothing under it. Stopped at any point, everything
 * opens, and doing it again goes on where it stopped.
 */
export async function rotateDataKeys(
  { db, vault, places }: { db: Db; vault: Vault; places: readonly SealedPlace[] },
  operator: Operator,
  onProgress: (organizations: number, total: number, resealed: number) => void = () => {},
): Promise<DataKeyRotation> {
  const startedAt = await db.forOperator(ensureDataKeyRotation)
  const organizations = await db.forOperator(listDataKeys, LONG_MS)
  const done: DataKeyRotation = { organizations: 0, resealed: 0, retired: 0 }
  for (const { organization_id: id, unretired } of organizations) {
    const { version, isNew } = await newestKey(id)
    if (isNew || unretired > 0) done.retired += await replaceOthers(id, version)
    done.organizations += 1
    onProgress(done.organizations, organizations.length, done.resealed)
  }
  await db.forOperator(finishDataKeyRotation)
  return done

  async function newestKey(id: string): Promise<{ version: number; isNew: boolean }> {
    return db.forOrganization(
      id,
      async (tx) => {
        const newest = await vault.newDataKey(tx, id, startedAt)
        if (!newest) throw new Error('A data key vanished while it was being replaced.')
        if (newest.isNew) {
          const entry = { action: 'data_key.create', target: `v${newest.version}` }
          await recordAudit(tx, asAdministrator(operator, id), entry)
        }
        return newest
      },
      LONG_MS,
    )
  }

  /** @returns how many keys were retired. */
  async function replaceOthers(id: string, version: number): Promise<number> {
    do {
      for (const place of places) await resealAll(place, id, `v${version}`)
    } while ((await countOthers(id, `v${version}`)) > 0)
    return db.forOrganization(id, async (tx) => {
      const retired = await retireDataKeys(tx, id, version)
      await recordAudit(tx, asAdministrator(operator, id), {
        action: 'data_key.retire',
        target: `v${version}`,
        details: { retired: retired.map((one) => `v${one}`) },
      })
      return retired.length
    })
  }

  async function resealAll(place: SealedPlace, id: string, keyName: string): Promise<void> {
    let after: string | undefined
    do {
      const { resealed, next } = await db.forOrganization(
        id,
        (tx) => place.reseal(tx, vault, id, keyName, after),
        LONG_MS,
      )
      done.resealed += resealed
      after = next
      onProgress(done.organizations, organizations.length, done.resealed)
    } while (after !== undefined)
  }

  /** On a connection without limits of time: an organization's contents may be many. */
  async function countOthers(id: string, keyName: string): Promise<number> {
    return db.forOwner(async (tx) => {
      let count = 0
      for (const place of places) count += await place.count(tx, id, keyName)
      return count
    })
  }
}

const LONG_MS = 60_000
