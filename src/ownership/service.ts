import { setTimeout as sleep } from 'node:timers/promises'
import { openBatchWriter } from '../db/batch-writer.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Journal } from '../ledger/journal.ts'
import { findOwnedObject, insertOwnedObjects, type OwnedObjectRow } from './store.ts'

/** Null: an organization-wide key that came without a user. */
export interface Owner {
  organizationId: string
  userId: string | null
}

/** An object at OpenAI, and who made it through this proxy with which key. */
export interface OwnedObject {
  organizationId: string
  userId: string | null
  apiKeyId: string
  objectId: string
  kind: 'response' | 'conversation'
  /** What it was made with: the text of this persona is hidden from whoever reads the object. */
  persona?: { id: string; version: number } | undefined
}

/**
 * Which organization and user made which object at OpenAI. Several organizations may share one OpenAI project, so OpenAI's own
 * check does not separate them: an id that is not theirs here is one that does not exist.
 */
export interface Ownership {
  /** Recorded at once in this process and its journal, and in the database within a tenth of a second. */
  record(object: OwnedObject): void
  /**
   * The object, if this user of this organization made it.
   * @param param where the request names it, for the refusal.
   * @throws {AppError} `not_found`, the same for foreign and unknown ids.
   */
  require(owner: Owner, kind: OwnedObject['kind'], objectId: string, param: string): Promise<OwnedObject>
  [Symbol.asyncDispose](): Promise<void>
}

export function openOwnership(deps: {
  db: Db
  journal: Journal
  onFault: (error: Error, pendingCount: number) => void
  onRefused: (objectId: string, error: Error) => void
  closeTimeoutMs: number
}): Ownership {
  const recent = new Map<string, OwnedObject>()
  const writer = openBatchWriter<OwnedObjectRow>({
    write: (rows) => deps.db.forOperator((tx) => insertOwnedObjects(tx, rows)),
    intervalMs: PUSH_INTERVAL_MS,
    batchMax: 500,
    pendingMax: Number.POSITIVE_INFINITY,
    closeTimeoutMs: deps.closeTimeoutMs,
    onFault: deps.onFault,
    onRefused: (row, error) => deps.onRefused(row.object_id, error),
  })

  async function find(organizationId: string, objectId: string): Promise<OwnedObject | undefined> {
    const row = await deps.db.forOrganization(organizationId, (tx) => findOwnedObject(tx, organizationId, objectId))
    if (!row) return undefined
    const kind = row.kind as OwnedObject['kind']
    const { persona_id: id, persona_version: version } = row
    const persona = id === null || version === null ? undefined : { id, version }
    return { organizationId, userId: row.user_id, apiKeyId: row.api_key_id, objectId, kind, persona }
  }

  return {
    record(object) {
      if (object.objectId.length > OBJECT_ID_MAX) return
      remember(recent, object)
      deps.journal.appendWithReserve({ owned: object })
      writer.add(toRow(object))
    },
    async require({ organizationId, userId }, kind, objectId, param) {
      if (!/^[\w-]{1,255}$/.test(objectId)) throw notFound(param)
      const own = (object: OwnedObject | undefined) =>
        object?.userId === userId && object.kind === kind ? object : undefined
      let object = own(recent.get(keyOf(organizationId, objectId)) ?? (await find(organizationId, objectId)))
      if (!object) {
        // Another replica may have made it less than one push ago; foreign and unknown ids wait just as long.
        await sleep(PUSH_INTERVAL_MS * 3)
        object = own(await find(organizationId, objectId))
      }
      if (!object) throw notFound(param)
      return object
    },
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  }
}

/** Records what a dead process's journal says was made through it; what is known already stays as it is. */
export async function restoreOwnership({ db }: { db: Db }, objects: readonly OwnedObject[]): Promise<void> {
  for (let at = 0; at < objects.length; at += RESTORE_BATCH) {
    const rows = objects.slice(at, at + RESTORE_BATCH).map(toRow)
    await db.forOperator((tx) => insertOwnedObjects(tx, rows))
  }
}

const RESTORE_BATCH = 500
const PUSH_INTERVAL_MS = 50
const RECENT_MAX = 20_000
const OBJECT_ID_MAX = 255

function toRow(object: OwnedObject): OwnedObjectRow {
  return {
    organization_id: object.organizationId,
    object_id: object.objectId,
    kind: object.kind,
    user_id: object.userId,
    api_key_id: object.apiKeyId,
    persona_id: object.persona?.id ?? null,
    persona_version: object.persona?.version ?? null,
  }
}

function keyOf(organizationId: string, objectId: string): string {
  return `${organizationId}:${objectId}`
}

function remember(recent: Map<string, OwnedObject>, object: OwnedObject): void {
  const key = keyOf(object.organizationId, object.objectId)
  if (recent.has(key)) return
  recent.set(key, object)
  if (recent.size > RECENT_MAX) {
    const oldest = recent.keys().next().value
    if (oldest !== undefined) recent.delete(oldest)
  }
}

function notFound(param: string): AppError {
  return new AppError('not_found', `"${param}" names nothing that this organization's user made.`, { param })
}
