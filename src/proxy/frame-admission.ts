import type { Authenticator } from '../auth/authenticate.ts'
import { requireScope } from '../auth/caller.ts'
import { AppError } from '../errors.ts'
import type { IdentityHeaders } from '../http/identity-headers.ts'
import type { Policies, PolicyReader } from '../organizations/policies.ts'
import type { Ownership } from '../ownership/service.ts'
import type { Admission } from './admission.ts'
import { editBody } from './body-edits.ts'
import type { EditCall } from './call-edits.ts'
import type { AdmittedCall, AskedCall } from './calls.ts'
import type { Place } from './capacity.ts'
import type { Endpoint } from './endpoints.ts'
import type { ClientFrame } from './frames.ts'
import { withoutStrangeLabels } from './item-labels.ts'
import { itemsToKeep } from './personas.ts'
import type { Reference } from './references.ts'

/** What was said when a WebSocket was opened, and holds for each of its frames. */
export interface SocketOpening {
  endpoint: Endpoint
  organizationId: string
  headers: IdentityHeaders
  sessionId: string
  /** What its query names. */
  named: readonly Reference[]
}

/** A frame that may go to OpenAI. */
export type AdmittedFrame = Pick<AdmittedCall, 'identity' | 'policies' | 'key' | 'persona'> & { bytes: Buffer }

/** Whether a frame may go, and how: each is a request of its own, by whoever its credential says at that moment. */
export interface FrameAdmission {
  /** Who asks. @throws {AppError} as for a request over HTTP, `upgrade_required` where the organization wants no WebSockets. */
  identify(headers: IdentityHeaders): Promise<Pick<AskedCall, 'identity' | 'policies' | 'owner'>>
  /**
   * @param heldKeyId the key that the connection is made with, once it is.
   * @param place of the response that is asked for.
   */
  admit(
    opening: SocketOpening,
    frame: ClientFrame,
    heldKeyId: string | undefined,
    place: Place | undefined,
  ): Promise<AdmittedFrame>
}

export function openFrameAdmission(deps: {
  authenticator: Authenticator
  policies: PolicyReader
  ownership: Ownership
  admission: Admission
  editCall: EditCall
}): FrameAdmission {
  const { authenticator, policies: readPolicies, ownership, admission, editCall } = deps

  async function identify(headers: IdentityHeaders): Promise<Pick<AskedCall, 'identity' | 'policies' | 'owner'>> {
    const credential = await authenticator.authenticate(headers.authorization)
    requireScope(credential, 'inference')
    const identity = await authenticator.identify(credential, headers.userId)
    const { organizationId, userId } = identity
    const policies = await readPolicies(organizationId)
    if (policies.websockets === 'refuse') throw switchedOff()
    return { identity, policies, owner: { organizationId, userId, sharing: policies.shareObjects } }
  }

  return {
    identify,
    async admit(opening, { type, payload: received }, heldKeyId, place) {
      const { endpoint, headers, sessionId } = opening
      if (type !== CREATE && type !== STEER) throw unknownType(type)
      const asker = await identify(headers)
      const { organizationId } = asker.identity
      place?.joinOrganization(organizationId, asker.policies.maxConcurrentRequests ?? undefined)
      const payload = await withoutStrangeLabels(ownership, asker.owner, received)
      if (payload.isBackground) throw notInBackground()
      // Where the Realtime API has its fields; what stands there would be passed on unread.
      if (payload.fields.has('response')) throw nested()
      const fineTuned = type === CREATE ? admission.requireUsable(endpoint, asker.policies, payload) : []
      const named = [...opening.named, ...payload.references, ...fineTuned]
      const admitted = await admission.admit({ ...asker, ids: [], heldKeyId }, named)
      const call = { ...admitted, endpoint, sessionId, personaHeader: headers.personaId }
      if (type === STEER) await refuseSystemItems(asker.policies, payload)
      const edited = await editCall(
        type === STEER ? { ...call, endpoint: { ...endpoint, persona: undefined } } : call,
        payload,
      )
      return { ...admitted, persona: edited.persona, bytes: editBody(payload.bytes, payload.fields, edited.edits) }
    },
  }
}

export const CREATE = 'response.create'
const STEER = 'response.steer'

/** What steers a response goes on with the instructions it was made with: nothing may displace them where personas are enforced. */
async function refuseSystemItems({ personas, systemItems }: Policies, payload: ClientFrame['payload']): Promise<void> {
  if (personas === 'enforce' && systemItems !== 'allow') await itemsToKeep('input', payload, 'refuse')
}

function switchedOff(): AppError {
  return new AppError('upgrade_required', 'Your organization does not use WebSockets: send the request over HTTP.')
}

/** A type that is new at OpenAI may make a response: nobody would count it. */
function unknownType(type: string): AppError {
  return new AppError(
    'invalid_request',
    `Frames of the type "${type.slice(0, 64)}" are not relayed: send ${CREATE} or ${STEER}.`,
    { param: 'type' },
  )
}

function notInBackground(): AppError {
  return new AppError('invalid_request', 'Background mode is not supported over WebSocket.', { param: 'background' })
}

function nested(): AppError {
  return new AppError('invalid_request', `The fields of ${CREATE} stand beside its type, not within "response".`, {
    param: 'response',
  })
}
