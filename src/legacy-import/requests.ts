import { limitLockWaits, withoutBlocking } from '../db/migrate.ts'
import { type ImportedAttempt, importAttempts } from '../ledger/maintenance.ts'
import { Tally } from './report.ts'
import { toAttempt } from './request-row.ts'
import type { ImportDeps, Known } from './service.ts'
import type { LegacyRequest } from './source.ts'
import {
  findPresentAttempts,
  findPresentOwned,
  findPresentRatings,
  insertOwned,
  insertRatings,
  listRowsFrom,
  makePartition,
  type OwnedRow,
  type RatingRow,
} from './store.ts'

/** Requests become attempts, and bring their ratings, their sessions and the ownership of their response ids. */
export async function importRequests(
  deps: ImportDeps,
  known: Known,
  onProgress: (requests: number, total: number) => void,
): Promise<{ requests: Tally; ratings: Tally; responseIds: Tally; sessions: number }> {
  const { db, source, isDryRun } = deps
  const [requests, ratings, responseIds] = [new Tally(), new Tally(), new Tally()]
  const total = await source.count('requests')
  const rowsFrom = await db.forOperator(listRowsFrom)
  const sessions = new Set<string>()
  const months = new Set<string>()
  const owners = new Set<string>()
  for await (const page of source.requests()) {
    const imports = page.flatMap((legacy) => {
      requests.found += 1
      sessions.add(legacy.session_id)
      return toImport(legacy, known, rowsFrom, requests)
    })
    const rows = imports.map(({ row }) => row)
    const byId = new Map(rows.map((row) => [row.attempt_id, row]))
    const present = await db.forOperator((tx) => findPresentAttempts(tx, rows))
    const missing = rows.filter((row) => !present.has(row.attempt_id))
    requests.present += rows.length - missing.length
    requests.imported += missing.length
    for (const { row, notes } of imports)
      if (!present.has(row.attempt_id)) for (const note of notes) requests.change(row.request_id, note)
    const rated = page.flatMap((legacy) => toRating(legacy, byId, ratings))
    const owned = imports.flatMap(({ row }) => toOwned(row, known, owners, responseIds))
    if (!isDryRun) {
      await ensureMonths(deps, missing, months)
      await importAttempts({ db }, missing)
    }
    await db.forOperator(async (tx) => {
      const before = await findPresentRatings(tx, rated)
      ratings.present += before
      ratings.imported += rated.length - before
      const ownedBefore = await findPresentOwned(tx, owned)
      responseIds.present += ownedBefore
      responseIds.imported += owned.length - ownedBefore
      if (isDryRun) return
      await insertRatings(tx, rated)
      await insertOwned(tx, owned)
    })
    onProgress(requests.found, total)
  }
  const orphans = total - requests.found
  if (orphans > 0) requests.skip('-', `${orphans} without a user, a key or a session that is there`)
  return { requests, ratings, responseIds, sessions: sessions.size }
}

interface Import {
  row: ImportedAttempt
  notes: string[]
}

function toImport(
  legacy: LegacyRequest,
  known: Known,
  rowsFrom: ReadonlyMap<string, string>,
  requests: Tally,
): Import | [] {
  const user = known.users.get(legacy.user_id)
  if (!user || user.organizationId !== legacy.key_organization_id) {
    requests.skip(legacy.request_id, 'its user and its API key are of two organizations')
    return []
  }
  const { row, notes } = toAttempt(legacy, { organizationId: user.organizationId, userId: user.id })
  if (row.persona_id !== null && known.personas.get(row.persona_id) !== user.organizationId) {
    row.persona_id = null
    notes.push("its persona is another organization's: left out")
  }
  if (new Date(row.opened_at).toISOString() < (rowsFrom.get(user.organizationId) ?? '')) {
    requests.skip(legacy.request_id, 'it is older than the rows that its organization keeps here')
    return []
  }
  return { row, notes }
}

function toRating(
  legacy: LegacyRequest,
  attempts: ReadonlyMap<string, ImportedAttempt>,
  ratings: Tally,
): RatingRow | [] {
  if (legacy.rating === null) return []
  ratings.found += 1
  const attempt = attempts.get(legacy.id)
  if (!attempt) {
    ratings.skip(legacy.request_id, 'its request was not imported')
    return []
  }
  if (legacy.rating !== 1 && legacy.rating !== -1) {
    ratings.skip(legacy.request_id, 'it says neither that the answer helped nor that it did not')
    return []
  }
  const feedback = legacy.rating_feedback?.slice(0, FEEDBACK_MAX).toWellFormed() ?? null
  if (feedback !== legacy.rating_feedback) {
    ratings.change(legacy.request_id, `its feedback was cut to ${FEEDBACK_MAX} characters`)
  }
  return {
    organization_id: attempt.organization_id,
    request_id: legacy.request_id,
    attempt_id: legacy.id,
    rating: legacy.rating,
    feedback,
    rated_at: legacy.rating_timestamp ?? legacy.completed_at ?? legacy.created_at ?? new Date(0).toISOString(),
  }
}

const FEEDBACK_MAX = 4000

/** A response can be gone on with by its maker, through the key that made it. */
function toOwned(row: ImportedAttempt, known: Known, owners: Set<string>, responseIds: Tally): OwnedRow | [] {
  const { organization_id, response_id, user_id, api_key_id, opened_at } = row
  if (response_id === null || user_id === null) return []
  responseIds.found += 1
  if (!/^[\w-]{1,255}$/.test(response_id)) {
    responseIds.skip(row.request_id, 'it has characters that no response id has')
    return []
  }
  if (!known.apiKeys.has(api_key_id)) {
    responseIds.skip(row.request_id, 'the API key that made it was not imported: it cannot be gone on with')
    return []
  }
  const owner = `${organization_id} ${response_id}`
  if (owners.has(owner)) {
    responseIds.skip(row.request_id, 'an earlier request has the same response id: it stays with that')
    return []
  }
  owners.add(owner)
  return { organization_id, object_id: response_id, user_id, api_key_id, created_at: opened_at }
}

/** Months get partitions of their own before their rows come. */
async function ensureMonths({ db }: ImportDeps, rows: readonly ImportedAttempt[], months: Set<string>): Promise<void> {
  for (const { opened_at } of rows) {
    const month = new Date(opened_at).toISOString().slice(0, 7)
    if (months.has(month)) continue
    months.add(month)
    await withoutBlocking(() =>
      db.forOwner(async (tx) => {
        await limitLockWaits(tx)
        await makePartition(tx, opened_at)
      }),
    )
  }
}
