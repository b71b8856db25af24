import { type Caller, requireScope } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { findRequest } from '../ledger/service.ts'
import { upsertRating } from './store.ts'

export interface Rating {
  requestId: string
  rating: 1 | -1
  feedback: string | null
  ratedAt: Date
}

/**
 * Says whether an answer helped; `id` is its request id or its response id. The last one wins.
 * @param input.onlyUserId for a credential of one user: other users' answers are unknown to it.
 */
export async function rateResponse(
  { db, ledger }: { db: Db; ledger: Ledger },
  caller: Caller,
  id: string,
  input: { rating: 1 | -1; feedback: string | null; onlyUserId?: string | null },
): Promise<Rating> {
  requireScope(caller, 'inference')
  const { rating } = input
  // Postgres keeps no NUL in text, and no half of a surrogate pair.
  const feedback = input.feedback?.replaceAll('\0', '').toWellFormed() ?? null
  const request = id.includes('\0') ? undefined : await findRequest({ db, ledger }, caller.organizationId, id)
  const isForeign = input.onlyUserId !== undefined && request?.userId !== input.onlyUserId
  if (!request || isForeign)
    throw new AppError('not_found', 'No request or response of your organization has this id.', { param: 'id' })
  const { requestId, responseId } = request
  const ratedAt = await db.forOrganization(caller.organizationId, (tx) =>
    upsertRating(tx, caller.organizationId, { request_id: requestId, response_id: responseId, rating, feedback }),
  )
  return { requestId, rating, feedback, ratedAt }
}
