import { type Caller, requireScope } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { findRequest } from '../ledger/service.ts'
import { type HistoryRow, insertRating, listHistory } from './store.ts'

export interface Rating {
  requestId: string
  rating: 1 | -1
  feedback: string | null
  ratedAt: Date
}

/**
 * Says whether an answer helped; `id` is its request id or its response id. The last one wins.
 * @param input.raterUserId who says so, where that is known.
 * @param input.onlyUserId for a credential of one user: other users' answers are unknown to it.
 */
export async function rateResponse(
  { db, ledger }: { db: Db; ledger: Ledger },
  caller: Caller,
  id: string,
  input: { rating: 1 | -1; feedback: string | null; raterUserId?: string | null; onlyUserId?: string | null },
): Promise<Rating> {
  requireScope(caller, 'inference')
  const { rating } = input
  // Postgres keeps no NUL in text, and no half of a surrogate pair.
  const feedback = input.feedback?.replaceAll('\0', '').toWellFormed() ?? null
  const request = id.includes('\0') ? undefined : await findRequest({ db, ledger }, caller.organizationId, id)
  const isForeign = input.onlyUserId !== undefined && request?.userId !== input.onlyUserId
  if (!request || isForeign) throw requestNotFound('id')
  const { requestId, attemptId } = request
  const ratedAt = await db.forOrganization(caller.organizationId, (tx) =>
    insertRating(tx, caller.organizationId, {
      requestId,
      attemptId,
      rating,
      feedback,
      ratedBy: caller.actor,
      ratedByUserId: input.raterUserId ?? null,
    }),
  )
  return { requestId, rating, feedback, ratedAt }
}

export interface PastRating {
  rating: number
  feedback: string | null
  ratedAt: Date
  /** `token:<id>` or `key:<id>`; null for what was rated before this was kept. */
  ratedBy: string | null
  /** The external id of the user who rated. */
  rater: string | null
}

/** Every rating of a request, the oldest first; the last of them counts. Of very many the last thousand. */
export async function listRatingsOf(
  { db, ledger }: { db: Db; ledger: Ledger },
  caller: Caller,
  id: string,
): Promise<{ requestId: string; ratings: PastRating[] }> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  const request = id.includes('\0') ? undefined : await findRequest({ db, ledger }, organizationId, id)
  if (!request) throw requestNotFound('request_id')
  const { requestId } = request
  const rows = await db.forOrganization(organizationId, (tx) => listHistory(tx, organizationId, requestId, HISTORY_MAX))
  return { requestId, ratings: rows.map(toPastRating) }
}

const HISTORY_MAX = 1000

function toPastRating(row: HistoryRow): PastRating {
  return {
    rating: row.rating,
    feedback: row.feedback,
    ratedAt: row.rated_at,
    ratedBy: row.rated_by,
    rater: row.rater,
  }
}

function requestNotFound(param: string): AppError {
  return new AppError('not_found', 'No request or response of your organization has this id.', { param })
}
