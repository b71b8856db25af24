import type { Vault } from '../api-keys/vault.ts'
import { type Caller, requireScope } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { findRequest } from '../ledger/service.ts'
import { type ContentKind, findContents, listContents } from './store.ts'
import { type ContentWriter, contentContext } from './writer.ts'

/** A body as it went over the wire. */
export interface Body {
  text: string
  /** Only the beginning was kept. */
  isCut: boolean
  /** Of the whole body. */
  originalBytes: number
}

export interface RequestContent {
  requestId: string
  /** Undefined when none was kept, by policy or for want of room, or when its deadline has passed. */
  request: Body | undefined
  response: Body | undefined
}

/**
 * What was asked and answered under a request id; of several attempts the last.
 * @throws {AppError} `not_found`, for the id of another organization as for one that never was.
 */
export async function readContent(
  { db, vault, ledger, contents }: { db: Db; vault: Vault; ledger: Ledger; contents: ContentWriter },
  caller: Caller,
  id: string,
): Promise<RequestContent> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  const found = id.includes('\0') ? undefined : await findRequest({ db, ledger }, organizationId, id)
  if (!found) throw new AppError('not_found', 'No request of your organization has this id.', { param: 'request_id' })
  const { requestId, attemptId } = found
  const read = () => db.forOrganization(organizationId, (tx) => openBodies(tx, vault, organizationId, attemptId))
  let bodies = await read()
  if (bodies.size === 0 && contents.pendingBytes > 0) {
    // What was answered a moment ago may still be on its way.
    await contents.flush(AbortSignal.timeout(FLUSH_TIMEOUT_MS)).catch(() => {})
    bodies = await read()
  }
  return { requestId, request: bodies.get('request'), response: bodies.get('response') }
}

export interface KeptBody extends Body {
  attemptId: string
  kind: ContentKind
  createdAt: Date
  expiresAt: Date
}

/** Everything that is kept of the caller's organization, some at a time. */
export async function* readKeptBodies(
  { db, vault }: { db: Db; vault: Vault },
  caller: Caller,
): AsyncGenerator<KeptBody[]> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  let after: { attempt_id: string; kind: string } | undefined
  do {
    const rows = await db.forOrganization(
      organizationId,
      async (tx) => {
        const found = await listContents(tx, organizationId, after, PAGE)
        const bodies: KeptBody[] = []
        for (const row of found) bodies.push(await openRow(tx, vault, organizationId, row.attempt_id, row))
        return { bodies, last: found.length < PAGE ? undefined : found.at(-1) }
      },
      PAGE_TIMEOUT_MS,
    )
    if (rows.bodies.length > 0) yield rows.bodies
    after = rows.last
  } while (after !== undefined)
}

/** Bodies are up to a mebibyte. */
const PAGE = 20
const PAGE_TIMEOUT_MS = 5000
const FLUSH_TIMEOUT_MS = 1000

/** What was asked and answered in some attempts, as far as it is kept: those that are not have no entry. One at a time, for room. */
export async function readBodies<T>(
  { db, vault }: { db: Db; vault: Vault },
  caller: Caller,
  attemptIds: readonly string[],
  read: (bodies: ReadonlyMap<ContentKind, Body>) => T,
): Promise<ReadonlyMap<string, T>> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  const results = new Map<string, T>()
  for (const attemptId of attemptIds) {
    const bodies = await db.forOrganization(organizationId, (tx) => openBodies(tx, vault, organizationId, attemptId))
    if (bodies.size > 0) results.set(attemptId, read(bodies))
  }
  return results
}

async function openBodies(
  tx: Tx,
  vault: Vault,
  organizationId: string,
  attemptId: string,
): Promise<Map<ContentKind, Body>> {
  const bodies = new Map<ContentKind, Body>()
  for (const row of await findContents(tx, organizationId, attemptId)) {
    const { kind, text, isCut, originalBytes } = await openRow(tx, vault, organizationId, attemptId, row)
    bodies.set(kind, { text, isCut, originalBytes })
  }
  return bodies
}

async function openRow(
  tx: Tx,
  vault: Vault,
  organizationId: string,
  attemptId: string,
  row: Awaited<ReturnType<typeof findContents>>[number],
): Promise<KeptBody> {
  const kind = row.kind === 'request' ? 'request' : 'response'
  const bytes = await vault.openBytes(tx, organizationId, contentContext(attemptId, kind), row.sealed)
  return {
    attemptId,
    kind,
    text: readText(bytes, row.is_cut),
    isCut: row.is_cut,
    originalBytes: Number(row.original_bytes),
    createdAt: row.created_at,
    expiresAt: row.expires_at,
  }
}

/** A character that the cut went through is left out; other bytes that are no UTF-8 read as U+FFFD. */
function readText(bytes: Buffer, isCut: boolean): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes, { stream: isCut })
}
