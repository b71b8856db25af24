import { setTimeout as sleep } from 'node:timers/promises'
import { openBatchWriter } from '../db/batch-writer.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Journal } from '../ledger/journal.ts'
import type { ObjectKind } from './kinds.ts'
import { findOwnedObjects, insertOwnedObjects, listOwnedObjects, markDeleted, type OwnedObjectRow } from './store.ts'

/** Who asks for objects. */
export interface Owner {
  organizationId: string
  /** Null: an organization-wide key that came without a user. */
  userId: string | null
  /** Whose objects they may use: their own, or those of everybody in the organization. */
  sharing: 'user' | 'organization'
}

/** An object at OpenAI, and who made it through this proxy with which key. */
export interface OwnedObject {
  organizationId: string
  userId: string | null
  apiKeyId: string
  objectId: string
  kind: ObjectKind
  /** What it was made with: the text of this persona is hidden from whoever reads the object. */
  persona?: { id: string; version: number } | undefined
  /** Adopted for everybody in the organization. */
  isShared?: boolean
}

/** An object that a request names, and where. */
export interface NamedObject {
  /** What it may be there. */
  kinds: readonly ObjectKind[]
  id: string
  /** For the refusal. */
  param: string
}

export interface ListPage {
  kind: ObjectKind
  order: 'asc' | 'desc'
  /** The object behind which to begin. */
  afterId: string | undefined
  limit: number
}

/**
 * Which organization and user made which object at OpenAI. Several organizations may share one OpenAI project, so OpenAI's own
 * check does not separate them: an id that is not theirs here is one that does not exist.
 */
export interface Ownership {
  /** Recorded at once in this process and its journal, and in the database within a tenth of a second. */
  record(object: OwnedObject): void
  /**
   * The objects, in the order they are named, if they are all the owner's.
   * @throws {AppError} `not_found`, the same for foreign and unknown ids and after the same time.
   */
  require(owner: Owner, named: readonly NamedObject[]): Promise<OwnedObject[]>
  /** Those of the objects that are the owner's, as far as is known at this moment. */
  filter(owner: Owner, named: readonly NamedObject[]): Promise<ReadonlySet<string>>
  /** The owner's objects of a kind, in the order they were made. */
  list(owner: Owner, page: ListPage): Promise<OwnedObject[]>
  /** What is deleted at OpenAI is listed no more. */
  forget(organizationId: string, objectIds: readonly string[]): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export function openOwnership(deps: {
  db: Db
  journal: Journal
  onFault: (error: Error, pendingCount: number) => void
  onRefused: (objectId: string, error: Error) => void
  closeTimeoutMs: number
}): Ownership {
  const { db } = deps
  const recent = new Map<string, OwnedObject>()
  const writer = openBatchWriter<OwnedObjectRow>({
    write: (rows) => db.forOperator((tx) => insertOwnedObjects(tx, rows)),
    intervalMs: PUSH_INTERVAL_MS,
    batchMax: 500,
    pendingMax: Number.POSITIVE_INFINITY,
    closeTimeoutMs: deps.closeTimeoutMs,
    onFault: deps.onFault,
    onRefused: (row, error) => deps.onRefused(row.object_id, error),
  })

  async function find(organizationId: string, ids: readonly string[]): Promise<OwnedObject[]> {
    const found: OwnedObject[] = []
    for (let at = 0; at < ids.length; at += FIND_BATCH) {
      const batch = ids.slice(at, at + FIND_BATCH)
      const rows = await db.forOrganization(organizationId, (tx) => findOwnedObjects(tx, organizationId, batch))
      found.push(...rows.map(toObject))
    }
    return found
  }

  /** Resolves when what was recorded so far can be read, or the database has had its time. */
  async function pushed(): Promise<void> {
    await writer.flush(AbortSignal.timeout(FLUSH_TIMEOUT_MS)).catch(() => {})
  }

  return {
    record(object) {
      if (!OBJECT_ID.test(object.objectId)) return
      const key = keyOf(object.organizationId, object.objectId)
      if (recent.has(key)) return
      remember(recent, object)
      deps.journal.appendWithReserve({ owned: object })
      writer.add(toRow(object))
    },
    async require(owner, named) {
      const { organizationId } = owner
      const invalid = named.find(({ id }) => !OBJECT_ID.test(id))
      if (invalid) throw notFound(invalid.param)
      const own = new Map<string, OwnedObject>()
      const isMissing = ({ kinds, id }: NamedObject) => !kinds.includes(own.get(id)?.kind as ObjectKind)
      const keep = (object: OwnedObject | undefined) => {
        if (object && isOf(owner, object)) own.set(object.objectId, object)
      }
      for (const { id } of named) keep(recent.get(keyOf(organizationId, id)))
      let missing = named.filter(isMissing)
      // Another replica may have made it less than one push ago; foreign and unknown ids wait just as long.
      for (const waitMs of [0, PUSH_INTERVAL_MS * 3]) {
        if (missing.length === 0) break
        if (waitMs > 0) await sleep(waitMs)
        for (const object of await find(organizationId, [...new Set(missing.map(({ id }) => id))])) {
          remember(recent, object)
          keep(object)
        }
        missing = missing.filter(isMissing)
      }
      if (missing[0]) throw notFound(missing[0].param)
      return named.map(({ id }) => own.get(id) as OwnedObject)
    },
    async filter(owner, named) {
      const { organizationId } = owner
      const valid = [...new Set(named.map(({ id }) => id))].filter((id) => OBJECT_ID.test(id))
      const known = valid.flatMap((id) => recent.get(keyOf(organizationId, id)) ?? [])
      const others = valid.filter((id) => !recent.has(keyOf(organizationId, id)))
      const found = others.length > 0 ? await find(organizationId, others) : []
      for (const object of found) remember(recent, object)
      const own = [...known, ...found].filter((object) => isOf(owner, object))
      return new Set(own.map(({ objectId }) => objectId))
    },
    async list({ organizationId, userId, sharing }, page) {
      // What was recorded a moment ago is in the list that its maker asks for next.
      await pushed()
      const filter = { ...page, userId: sharing === 'organization' ? undefined : userId }
      const rows = await db.forOrganization(organizationId, (tx) => listOwnedObjects(tx, organizationId, filter))
      return rows.map(toObject)
    },
    async forget(organizationId, objectIds) {
      if (objectIds.length === 0) return
      await pushed()
      await db.forOrganization(organizationId, (tx) => markDeleted(tx, organizationId, objectIds))
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

/** Names of models have dots and colons; everything else OpenAI gives out is made of these. */
export const OBJECT_ID = /^[A-Za-z0-9][\w.:-]{0,254}$/

const RESTORE_BATCH = 500
const FIND_BATCH = 1000
const PUSH_INTERVAL_MS = 50
const FLUSH_TIMEOUT_MS = 2000
const RECENT_MAX = 50_000

function isOf(owner: Owner, object: OwnedObject): boolean {
  return owner.sharing === 'organization' || object.isShared === true || object.userId === owner.userId
}

export function toRow(object: OwnedObject): OwnedObjectRow {
  return {
    organization_id: object.organizationId,
    object_id: object.objectId,
    kind: object.kind,
    user_id: object.userId,
    api_key_id: object.apiKeyId,
    is_shared: object.isShared ?? false,
    persona_id: object.persona?.id ?? null,
    persona_version: object.persona?.version ?? null,
  }
}

function toObject(row: OwnedObjectRow): OwnedObject {
  const { persona_id: id, persona_version: version } = row
  return {
    organizationId: row.organization_id,
    objectId: row.object_id,
    kind: row.kind as ObjectKind,
    userId: row.user_id,
    apiKeyId: row.api_key_id,
    isShared: row.is_shared,
    persona: id === null || version === null ? undefined : { id, version },
  }
}

function keyOf(organizationId: string, objectId: string): string {
  return `${organizationId}:${objectId}`
}

/** Whoever made an object first stays its owner. */
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
