import type { KeyRing } from '../api-keys/key-ring.ts'
import { AppError } from '../errors.ts'
import type { ObjectKind } from '../ownership/kinds.ts'
import type { OwnedObject, Owner, Ownership } from '../ownership/service.ts'
import type { QueryFields } from './target.ts'
import type { Upstream } from './upstream.ts'

/** What a list is made with. */
interface Deps {
  ownership: Ownership
  keyRing: KeyRing
  upstream: Upstream
}

export interface ListRequest {
  kind: ObjectKind
  filters: readonly string[]
  /** Where one object is asked for, such as `/files/`. */
  objectPath: string
  owner: Owner
  query: QueryFields
}

/**
 * A list of the caller's own objects, as OpenAI answers one. OpenAI's own would show every tenant of its project, in pages that are all
 * strangers': so the order and the pages come from our record, and each object is asked for by its id, with the key that made it. The
 * work for one page is bounded: a page may be shorter than asked for, and then says that there is more.
 */
export async function listOwn(deps: Deps, { kind, filters, objectPath, owner, query }: ListRequest): Promise<Buffer> {
  const { order, limit, matches } = readListQuery(query, filters, kind)
  let afterId = query.get('after')
  if (afterId !== undefined) await deps.ownership.require(owner, [{ kinds: [kind], id: afterId, param: 'after' }])
  const signal = AbortSignal.timeout(LIST_TIMEOUT_MS)
  const shown: { id: string; json: Buffer }[] = []
  let hasMore = true
  for (let asked = 0; shown.length < limit && hasMore && asked < ASKED_MAX; ) {
    const wanted = Math.min(limit - shown.length, CONCURRENCY_MAX)
    const page = await deps.ownership.list(owner, { kind, order, afterId, limit: wanted + 1 })
    hasMore = page.length > wanted
    const objects = page.slice(0, wanted)
    afterId = objects.at(-1)?.objectId ?? afterId
    asked += objects.length
    const found = await Promise.all(objects.map((object) => fetchObject(deps, owner, objectPath, object, signal)))
    const gone = objects.filter((_, at) => found[at] === 'gone').map(({ objectId }) => objectId)
    await deps.ownership.forget(owner.organizationId, gone)
    for (const [at, json] of found.entries()) {
      if (Buffer.isBuffer(json) && matches(json)) shown.push({ id: objects[at]?.objectId ?? '', json })
    }
  }
  return toList(shown, hasMore)
}

/** OpenAI lets files be listed by the ten thousand; here each is asked for. */
const LIMIT_MAX = 100
const LIMIT_DEFAULT = 20
const FILES_LIMIT_DEFAULT = 100
/** Objects asked for at once, and for one page. */
const CONCURRENCY_MAX = 20
const ASKED_MAX = 300
const LIST_TIMEOUT_MS = 60_000
const OBJECT_BYTES_MAX = 16 * 1024 * 1024

function readListQuery(query: QueryFields, filters: readonly string[], kind: ObjectKind) {
  const order = query.get('order') ?? 'desc'
  if (order !== 'asc' && order !== 'desc') throw invalid('order', 'must be "asc" or "desc"')
  const limitText = query.get('limit') ?? String(kind === 'file' ? FILES_LIMIT_DEFAULT : LIMIT_DEFAULT)
  if (!/^[1-9]\d{0,5}$/.test(limitText)) throw invalid('limit', 'must be a whole number from 1')
  if (query.has('before')) throw invalid('before', 'is not supported in this list: page with "after"')
  const wanted = [...query].filter(([name]) => filters.includes(name.replace(/\[.*$/, '')))
  return {
    order,
    limit: Math.min(Number(limitText), LIMIT_MAX),
    matches: (json: Buffer) => isMatch(json, wanted),
  } as const
}

/** Whether an object has these values, `metadata[key]` being one of its metadata. */
function isMatch(json: Buffer, wanted: readonly (readonly [string, string])[]): boolean {
  if (wanted.length === 0) return true
  const object = JSON.parse(json.toString()) as Record<string, unknown>
  return wanted.every(([name, value]) => {
    const key = /^metadata\[(.*)\]$/.exec(name)?.[1]
    const found =
      key === undefined ? object[name] : (object.metadata as Record<string, unknown> | null | undefined)?.[key]
    return found === value
  })
}

/** An object as OpenAI has it; `gone` when it has it no more, `unseen` when its key is inactive. */
async function fetchObject(
  { keyRing, upstream }: Deps,
  owner: Owner,
  objectPath: string,
  object: OwnedObject,
  signal: AbortSignal,
): Promise<Buffer | 'gone' | 'unseen'> {
  let key: Awaited<ReturnType<KeyRing['choose']>>
  try {
    key = await keyRing.choose(owner.organizationId, owner.userId, undefined, object.apiKeyId)
  } catch (error) {
    if (error instanceof AppError && error.code === 'conflict') return 'unseen'
    throw error
  }
  const { status, body } = await upstream.ask(key, `${objectPath}${object.objectId}`, signal)
  if (status !== 200) {
    await body.dump()
    if (status === 404) return 'gone'
    throw new AppError(
      'upstream_unreachable',
      `OpenAI answered ${status} to a request for one of the listed objects.`,
      {
        retryAfterSeconds: 1,
      },
    )
  }
  const json = await readWhole(body)
  if (!isObject(json)) throw new AppError('upstream_unreachable', 'OpenAI sent an object that cannot be read.')
  return json
}

/** What is no JSON object would break the list that it is put in. */
function isObject(json: Buffer): boolean {
  try {
    const value: unknown = JSON.parse(json.toString())
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}

async function readWhole(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > OBJECT_BYTES_MAX) throw new AppError('upstream_unreachable', 'OpenAI sent an object that is too large.')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** The objects stand in it as OpenAI sent them, byte for byte. */
function toList(shown: readonly { id: string; json: Buffer }[], hasMore: boolean): Buffer {
  const [first, last] = [shown[0]?.id ?? null, shown.at(-1)?.id ?? null]
  const data = shown.flatMap(({ json }, at) => (at === 0 ? [json] : [COMMA, json]))
  const ends = `"first_id":${JSON.stringify(first)},"last_id":${JSON.stringify(last)},"has_more":${hasMore}`
  return Buffer.concat([Buffer.from('{"object":"list","data":['), ...data, Buffer.from(`],${ends}}`)])
}

const COMMA = Buffer.from(',')

function invalid(param: string, what: string): AppError {
  return new AppError('invalid_request', `"${param}" ${what}.`, { param })
}
