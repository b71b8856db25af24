import { type ApiKey, getApiKey } from '../api-keys/service.ts'
import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Operator } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { getUser } from '../users/service.ts'
import type { ObjectKind } from './kinds.ts'
import { OBJECT_ID, type OwnedObject, toRow } from './service.ts'
import { findOwnersInAny, insertOwnedObject } from './store.ts'

export interface Adoption {
  objectId: string
  kind: ObjectKind
  /** Whose it is to be; null: of everybody in the organization. */
  userId: string | null
  /** The API key whose OpenAI project has it. */
  apiKeyId: string
}

/**
 * Makes an object that was not made through this proxy an organization's own. Nobody can tell from here whose it is: that is for the
 * operator to know.
 * @throws {AppError} `conflict` when it has an owner already.
 */
export async function adoptObject(
  { db }: { db: Db },
  operator: Operator,
  organizationId: string,
  { objectId, kind, userId, apiKeyId }: Adoption,
): Promise<OwnedObject> {
  const caller = asAdministrator(operator, organizationId)
  if (!OBJECT_ID.test(objectId)) {
    throw new AppError('invalid_request', `"${objectId}" is not an id of OpenAI's.`, { param: 'object_id' })
  }
  const apiKey: ApiKey = await getApiKey({ db }, caller, apiKeyId)
  if (userId !== null) await getUser({ db }, caller, userId)
  const object: OwnedObject = { organizationId, objectId, kind, userId, apiKeyId: apiKey.id, isShared: userId === null }
  await db.forOperator(async (tx) => {
    const owners = (await findOwnersInAny(tx, objectId)).map((row) => row.organization_id)
    if (owners.includes(organizationId)) {
      throw new AppError('conflict', `${objectId} is this organization's already.`)
    }
    if (owners[0] !== undefined && !SHAREABLE.has(kind)) {
      throw new AppError(
        'conflict',
        `${objectId} was made by the organization ${owners[0]}: it cannot be another's too.`,
      )
    }
    if (!(await insertOwnedObject(tx, toRow(object)))) {
      throw new AppError('conflict', `${objectId} is this organization's already.`)
    }
    await recordAudit(tx, caller, {
      action: 'object.adopt',
      target: objectId,
      details: { kind, user_id: userId, api_key_id: apiKey.id },
    })
  })
  return object
}

/** What an operator has made at OpenAI for several organizations. */
const SHAREABLE: ReadonlySet<ObjectKind> = new Set(['prompt', 'skill', 'connector', 'tunnel', 'voice', 'model'])
