import type { SealedPlace } from '../api-keys/rotate-data-keys.ts'
import { countSealedByOther, lockSealedByOther, replaceSealed } from './store.ts'
import { contentContext } from './writer.ts'

/** Kept content, as the rotation of data keys sees it. */
export const SEALED_CONTENTS: SealedPlace = {
  name: 'contents',
  async reseal(tx, vault, organizationId, keyName, after) {
    const rows = await lockSealedByOther(tx, organizationId, keyName, after, BATCH)
    const seal = await vault.sealer(tx, organizationId)
    for (const row of rows) {
      const context = contentContext(row.attempt_id, row.kind === 'request' ? 'request' : 'response')
      const bytes = await vault.openBytes(tx, organizationId, context, row.sealed)
      await replaceSealed(tx, organizationId, row, seal(context, bytes))
    }
    const last = rows.at(-1)
    return {
      resealed: rows.length,
      next: last === undefined || rows.length < BATCH ? undefined : `${last.attempt_id} ${last.kind}`,
    }
  },
  count: countSealedByOther,
}

/** Bodies are up to a mebibyte. */
const BATCH = 20
