import { setTimeout as sleep } from 'node:timers/promises'
import { type Caller, requireScope } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import type { Ledger } from './ledger.ts'
import { findAttempt, listAttempts } from './store.ts'

export interface RequestName {
  requestId: string
  attemptId: string
  responseId: string | null
  userId: string | null
}

/**
 * The request that an id names, by request id or by response id.
 * What was settled a moment ago may still be on its way to the database: a miss waits for that once, whatever the id.
 */
export async function findRequest(
  { db, ledger }: { db: Db; ledger: Ledger },
  organizationId: string,
  id: string,
): Promise<RequestName | undefined> {
  const find = () => db.forOrganization(organizationId, (tx) => findAttempt(tx, organizationId, id))
  let row = await find()
  if (!row) {
    await ledger.flush(AbortSignal.timeout(FLUSH_TIMEOUT_MS)).catch(() => {})
    // Another replica's rows are shipped every tenth of a second.
    await sleep(SHIPPING_MS)
    row = await find()
  }
  if (!row) return undefined
  return { requestId: row.request_id, attemptId: row.attempt_id, responseId: row.response_id, userId: row.user_id }
}

export type RecordedRequest = Awaited<ReturnType<typeof listAttempts>>[number]

/** The newest requests of an organization. */
export async function listRequests({ db }: { db: Db }, caller: Caller, limit: number): Promise<RecordedRequest[]> {
  requireScope(caller, 'org:admin')
  return db.forOrganization(caller.organizationId, (tx) => listAttempts(tx, caller.organizationId, limit))
}

const FLUSH_TIMEOUT_MS = 1000
const SHIPPING_MS = 250
