import type { SealedPlace } from './rotate-data-keys.ts'
import { sealingContext } from './service.ts'
import { countSealedByOther, lockSealedByOther, replaceUpstreamKey } from './store.ts'

/** The OpenAI keys, as the rotation of data keys sees them. */
export const SEALED_UPSTREAM_KEYS: SealedPlace = {
  name: 'api_keys',
  async reseal(tx, vault, organizationId, keyName, after) {
    const rows = await lockSealedByOther(tx, organizationId, keyName, after, BATCH)
    for (const { id, upstream_key_sealed } of rows) {
      const context = sealingContext(id)
      const secret = await vault.open(tx, organizationId, context, upstream_key_sealed)
      await replaceUpstreamKey(tx, organizationId, id, await vault.seal(tx, organizationId, context, secret))
    }
    return { resealed: rows.length, next: rows.length < BATCH ? undefined : rows.at(-1)?.id }
  },
  count: countSealedByOther,
}

const BATCH = 100
