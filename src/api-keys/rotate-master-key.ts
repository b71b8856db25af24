import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Operator } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { MasterKeys } from './master-keys.ts'
import {
  countSealedByOthers,
  lockSealedByOthers,
  putInForce,
  replaceSealed,
  retireMasterKeys,
  type SealedByMaster,
} from './rotation-store.ts'
import { sealText } from './sealing.ts'
import { dataKeyContext } from './vault.ts'
import { listMasterKeys, lockMasterKeys } from './vault-store.ts'

/** What stands between an installation and its configured master key. */
export interface MasterKeyStatus {
  inForce: string
  configured: string
  /** Replaced, but perhaps still needed. */
  retiring: string[]
  /** Data keys and secrets of the installation that another key than the configured one has sealed. */
  remaining: number
}

export async function masterKeyStatus({ db, masters }: Deps): Promise<MasterKeyStatus> {
  const configured = masters.configured.name
  return db.forOperator(async (tx) => {
    const rows = await listMasterKeys(tx)
    return {
      inForce: rows.find(({ state }) => state === 'current')?.name ?? configured,
      configured,
      retiring: rows.filter(({ state }) => state === 'retiring').map(({ name }) => name),
      remaining: await countSealedByOthers(tx, configured),
    }
  })
}

/**
 * Brings the configured master key into force and seals what the former one had sealed anew, beside servers that serve. Stopped at
 * any point, everything opens with the two keys, and doing it again goes on where it stopped.
 * @returns how many were sealed anew, and the names of the keys that nothing needs any more.
 * @throws {AppError} `conflict` for a key that was in force before and is retired.
 */
export async function rotateMasterKey(
  { db, masters }: Deps,
  operator: Operator,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<{ resealed: number; retired: string[] }> {
  const { name } = masters.configured
  // Whoever was sealing under the former key has committed when this has its lock; whoever comes later seals under the new one.
  await db.forOperator(async (tx) => {
    await lockMasterKeys(tx)
    const row = (await listMasterKeys(tx)).find((known) => known.name === name)
    if (row?.state === 'retired') {
      throw new AppError('conflict', 'This ENCRYPTION_KEY was in force before and is retired: generate a new one.')
    }
    if (row?.state !== 'current') await putInForce(tx, name)
  }, LONG_MS)
  const total = await db.forOperator((tx) => countSealedByOthers(tx, name), LONG_MS)
  let resealed = 0
  for (;;) {
    const count = await db.forOperator((tx) => resealSome(tx, masters, operator), LONG_MS)
    resealed += count
    onProgress(resealed, Math.max(total, resealed))
    if (count > 0) continue
    const retired = await db.forOperator(
      async (tx) => ((await countSealedByOthers(tx, name)) === 0 ? retireMasterKeys(tx) : undefined),
      LONG_MS,
    )
    if (retired) return { resealed, retired }
  }
}

interface Deps {
  db: Db
  masters: MasterKeys
}

const BATCH = 100
const LONG_MS = 60_000

async function resealSome(tx: Tx, masters: MasterKeys, operator: Operator): Promise<number> {
  const key = masters.configured
  const rows = await lockSealedByOthers(tx, key.name, BATCH)
  for (const row of rows) {
    const context = contextOf(row)
    await replaceSealed(tx, row, sealText(key, context, await masters.open(context, row.sealed)))
    if (row.organization_id !== null) {
      await recordAudit(tx, asAdministrator(operator, row.organization_id), {
        action: 'data_key.reseal',
        target: `v${row.version}`,
        details: { encryption_key: key.name },
      })
    }
  }
  return rows.length
}

function contextOf(row: SealedByMaster): string {
  return row.organization_id === null ? (row.name ?? '') : dataKeyContext(row.organization_id, row.version ?? 0)
}
