import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Caller, type Operator, requireScope } from '../auth/caller.ts'
import { deleteContentOfUser } from '../content/purge.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { isUuid } from '../ids.ts'
import {
  blankFeedbackOf,
  blankKeysOfUser,
  findLeft,
  findOrganizationOfUserInAny,
  lockUser,
  pseudonymiseUser,
  revokeTokensOf,
} from './store.ts'

/** What an erasure did, and what it leaves. */
export interface Erasure {
  userId: string
  organizationId: string
  /** Takes the place of the external id, in every list and report. */
  pseudonym: string
  contents: number
  feedbackTexts: number
  keys: number
  tokens: number
  /** Responses and other objects of the user that OpenAI keeps. */
  upstreamObjects: number
  /** Entries of the audit log that name the external id, and cannot be changed without breaking it. */
  auditEntries: number
  /** Other users, living or deleted, that have the same external id: ids. */
  namesakes: string[]
}

/**
 * Erases what a user said and was called: kept requests and answers, feedback, external id, names of keys. The user is deleted, if that
 * was not done before; accounting stays, under the internal id. Doing it again erases what came since.
 */
export async function eraseUser({ db }: { db: Db }, caller: Caller, id: string): Promise<Erasure> {
  requireScope(caller, 'org:admin')
  requireUserId(id)
  const { organizationId } = caller
  const pseudonym = `erased-${id.toLowerCase()}`
  const erased = await db.forOrganization(organizationId, async (tx) => {
    const user = await lockUser(tx, organizationId, id)
    if (!user) throw userNotFound(id)
    const left = await findLeft(tx, organizationId, id, user.external_id)
    await pseudonymiseUser(tx, organizationId, id, pseudonym)
    const keys = await blankKeysOfUser(tx, organizationId, id)
    const tokens = await revokeTokensOf(tx, organizationId, user.external_id, pseudonym)
    const feedbackTexts = await blankFeedbackOf(tx, organizationId, id)
    const details = { keys, tokens, feedback_texts: feedbackTexts }
    await recordAudit(tx, caller, { action: 'user.erase', target: id, details })
    return { keys, tokens, feedbackTexts, ...left }
  })
  // Should this stop here, or a call still be under way: servers go on deleting what comes for two days.
  const contents = await deleteContentOfUser({ db }, organizationId, id)
  return { userId: id, organizationId, pseudonym, contents, ...erased }
}

/** For operators who only have the user's id. */
export async function eraseUserInAnyOrganization({ db }: { db: Db }, operator: Operator, id: string): Promise<Erasure> {
  requireUserId(id)
  const organizationId = await db.forOperator((tx) => findOrganizationOfUserInAny(tx, id))
  if (organizationId === undefined) throw userNotFound(id)
  return eraseUser({ db }, asAdministrator(operator, organizationId), id)
}

function requireUserId(id: string): void {
  if (!isUuid(id)) throw new AppError('invalid_request', `Invalid UUID format: ${id}`, { param: 'user_id' })
}

function userNotFound(id: string): AppError {
  return new AppError('not_found', `User not found: ${id}`)
}
