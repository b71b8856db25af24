import type { KeyRing } from '../api-keys/key-ring.ts'
import { AppError } from '../errors.ts'
import type { PriceTable } from '../ledger/pricing.ts'
import type { Policies } from '../organizations/policies.ts'
import type { OwnedObject, Ownership } from '../ownership/service.ts'
import type { AdmittedCall, AskedCall } from './calls.ts'
import type { Endpoint } from './endpoints.ts'
import { requireModels } from './models.ts'
import type { Reference } from './references.ts'

/** The models that a request asks for. */
interface ModelsAsked {
  model: string | null
  toolModels: readonly string[]
}

/** Who asks, and what for. */
type Asker = Pick<AskedCall, 'identity' | 'owner' | 'ids'> & {
  /** The key that no other may take the place of, as of a connection that is made already. */
  heldKeyId?: string | undefined
}
type Granted = Omit<AdmittedCall, keyof AskedCall>

/** Whether a call may be made, and with which key. */
export interface Admission {
  /** Everything a request names must be the caller's own, and made with one key: its project alone knows it. */
  admit<Asked extends Asker>(asked: Asked, named: readonly Reference[]): Promise<Asked & Granted>
  /** What is named when the call has its key already: by a form under way, by a line of a batch. */
  admitLater(call: AdmittedCall, named: readonly Reference[]): Promise<void>
  /** Whether the models may be used, by the policies of the organization. @returns those that must be its own. */
  requireUsable(endpoint: Endpoint, policies: Policies, asks: ModelsAsked): Reference[]
}

export function openAdmission(deps: { ownership: Ownership; keyRing: KeyRing; prices: PriceTable }): Admission {
  const { ownership, keyRing, prices } = deps
  return {
    async admit<Asked extends Asker>(asked: Asked, named: readonly Reference[]): Promise<Asked & Granted> {
      const { identity, owner, ids, heldKeyId } = asked
      const objects = await ownership.require(owner, named)
      const makerKeyId = onlyKeyOf(objects.filter((_, at) => named[at]?.isLookedUp))
      if (heldKeyId !== undefined && makerKeyId !== undefined && makerKeyId !== heldKeyId) throw otherKey()
      const pinnedKeyId = heldKeyId ?? makerKeyId
      const key = await keyRing.choose(identity.organizationId, identity.userId, identity.apiKeyId, pinnedKeyId)
      const subject = ids.length > 0 ? objects[0] : undefined
      const previous = objects[named.findIndex(({ param }) => param === 'previous_response_id')]
      return { ...asked, key, subject, previous, persona: undefined, body: undefined }
    },

    async admitLater({ owner, key }: AdmittedCall, named: readonly Reference[]): Promise<void> {
      const objects = await ownership.require(owner, named)
      const keyId = onlyKeyOf(objects.filter((_, at) => named[at]?.isLookedUp))
      if (keyId !== undefined && keyId !== key.apiKeyId) throw severalKeys()
    },

    requireUsable(endpoint: Endpoint, policies: Policies, { model, toolModels }: ModelsAsked): Reference[] {
      if (isPriced(endpoint) && policies.unpricedModels === 'refuse') refuseUnpriced(prices, model)
      return requireModels(policies, model === null && !endpoint.needsModel ? toolModels : [model, ...toolModels])
    },
  }
}

/** Whether its calls cost what their model costs. */
function isPriced({ meter }: Endpoint): boolean {
  return meter !== 'none' && meter !== 'batch' && meter !== 'moderations' && meter !== 'input_tokens'
}

/** The one key that made what is looked up; undefined when nothing is. */
function onlyKeyOf(objects: readonly OwnedObject[]): string | undefined {
  const keyIds = new Set(objects.map(({ apiKeyId }) => apiKeyId))
  if (keyIds.size > 1) throw severalKeys()
  return objects[0]?.apiKeyId
}

function severalKeys(): AppError {
  return new AppError(
    'conflict',
    'The objects this request refers to were made with different API keys, and the OpenAI project of one knows nothing of the others. ' +
      'Make them again with one key.',
  )
}

function otherKey(): AppError {
  return new AppError(
    'conflict',
    'What this refers to was made with another API key than the one this connection uses. Open another connection for it.',
  )
}

/** An organization that refuses what has no price does so before anything is spent. */
function refuseUnpriced(prices: PriceTable, model: string | null): void {
  if (model !== null && prices.ratesFor(model, new Date()) !== undefined) return
  throw new AppError(
    'model_unpriced',
    'Your organization only allows models that have a price here, and this one has none.',
    {
      param: 'model',
    },
  )
}
