import type { ObjectKind } from '../ownership/kinds.ts'
import { type HandedOut, handedOut } from './answer-ids.ts'
import type { Meter } from './answer-watcher.ts'
import type { InstructionsForm } from './instructions.ts'

/** A relayed OpenAI endpoint. What is not in the table below is not relayed. */
export interface Endpoint {
  /** The name under which its calls are recorded. */
  name: string
  method: 'GET' | 'POST' | 'DELETE'
  /** Below the base URL; `{file}` stands for the id of a file that the caller must own. */
  path: string
  /**
   * `json`: one object, read for what it names. `form`: multipart/form-data, passed on as it arrives. `json or form`: as its type says.
   * `none`: whatever comes is not read and not sent. `websocket`: an upgrade.
   */
  body: 'json' | 'form' | 'json or form' | 'none' | 'websocket'
  /**
   * What keeps tenants apart. `named`: everything the path, the query and the body name must be the caller's own. `own list`: the list
   * is made here, of the caller's own objects. `catalogue`: the same for all, less what is not theirs. `here`: OpenAI is not asked.
   */
  isolation: 'named' | 'own list' | 'catalogue' | 'here'
  /** How its answers are metered. `none`: it costs nothing and is not recorded. */
  meter: Meter
  /** How a persona's text goes in, where it can. */
  persona: InstructionsForm | undefined
  /** The ids in its answer, which are the caller's own from then on. */
  handsOut: HandedOut | undefined
  /** The kind of objects of an own list, and what of them a query may ask for. */
  lists: { kind: ObjectKind; filters: readonly string[] } | undefined
  /** Whose end an answer that is not metered can be the first to tell. */
  tellsEndOf: Meter | undefined
  /** The last id of its path names what is gone after this call. */
  isDeletion: boolean
  /** Whether a model does the work: where an organization allows certain models only, one must be named. */
  needsModel: boolean
}

const RESPONSE_ITEMS = {
  'output[].id': 'item',
  'output[].container_id': 'container',
  'output[].environment.container_id': 'container',
  'output[].content[].annotations[].container_id': 'container',
  'output[].content[].annotations[].file_id': 'container_file',
} as const
const RESPONSE = { id: 'response', ...RESPONSE_ITEMS } as const
const RESPONSE_OUT = handedOut(RESPONSE, {
  ...below('response', RESPONSE),
  ...below('item', {
    id: 'item',
    container_id: 'container',
    'environment.container_id': 'container',
    'content[].annotations[].container_id': 'container',
    'content[].annotations[].file_id': 'container_file',
  }),
  'part.annotations[].container_id': 'container',
  'part.annotations[].file_id': 'container_file',
  'annotation.container_id': 'container',
  'annotation.file_id': 'container_file',
})
const CHAT_OUT = handedOut(
  { id: 'chat_completion', 'choices[].message.audio.id': 'audio' },
  { id: 'chat_completion', 'choices[].delta.audio.id': 'audio' },
)
const CONVERSATION_OUT = handedOut({ id: 'conversation' })
const ITEMS_OUT = handedOut({ 'data[].id': 'item' })
const FILE_OUT = handedOut({ id: 'file' })
const FILES_OUT = handedOut({ 'data[].id': 'file' })
const UPLOAD_OUT = handedOut({ id: 'upload', 'file.id': 'file' })
const VECTOR_STORE_OUT = handedOut({ id: 'vector_store' })
const BATCH_OUT = handedOut({ id: 'batch', output_file_id: 'file', error_file_id: 'file' })
const CONTAINER_OUT = handedOut({ id: 'container' })

type Rules = Partial<Omit<Endpoint, 'name' | 'method' | 'path' | 'body' | 'meter' | 'isolation'>>

/** The path the client calls is `/v1` and the path below. */
export const ENDPOINTS: readonly Endpoint[] = [
  post('responses.create', '/responses', 'json', 'responses', { persona: 'responses', handsOut: RESPONSE_OUT }),
  entry('responses.websocket', 'GET', '/responses', 'websocket', 'named', 'responses', {
    persona: 'responses',
    handsOut: RESPONSE_OUT,
  }),
  post('responses.input_tokens', '/responses/input_tokens', 'json', 'input_tokens', { persona: 'responses' }),
  post('responses.compact', '/responses/compact', 'json', 'compact', { persona: 'responses', handsOut: RESPONSE_OUT }),
  get('responses.retrieve', '/responses/{response}', { handsOut: RESPONSE_OUT, tellsEndOf: 'responses' }),
  remove('responses.delete', '/responses/{response}'),
  post('responses.cancel', '/responses/{response}/cancel', 'none', 'none', {
    handsOut: RESPONSE_OUT,
    tellsEndOf: 'responses',
  }),
  get('responses.input_items', '/responses/{response}/input_items', { handsOut: ITEMS_OUT }),

  post('conversations.create', '/conversations', 'json', 'none', { handsOut: CONVERSATION_OUT }),
  get('conversations.retrieve', '/conversations/{conversation}'),
  post('conversations.update', '/conversations/{conversation}', 'json', 'none'),
  remove('conversations.delete', '/conversations/{conversation}'),
  get('conversations.items.list', '/conversations/{conversation}/items', { handsOut: ITEMS_OUT }),
  post('conversations.items.create', '/conversations/{conversation}/items', 'json', 'none', { handsOut: ITEMS_OUT }),
  get('conversations.items.retrieve', '/conversations/{conversation}/items/{item}'),
  remove('conversations.items.delete', '/conversations/{conversation}/items/{item}'),

  post('chat.completions.create', '/chat/completions', 'json', 'chat', { persona: 'chat', handsOut: CHAT_OUT }),
  list('chat.completions.list', '/chat/completions', 'chat_completion', ['model', 'metadata']),
  get('chat.completions.retrieve', '/chat/completions/{chat_completion}'),
  post('chat.completions.update', '/chat/completions/{chat_completion}', 'json', 'none'),
  remove('chat.completions.delete', '/chat/completions/{chat_completion}'),
  get('chat.completions.messages', '/chat/completions/{chat_completion}/messages', { handsOut: ITEMS_OUT }),

  post('completions.create', '/completions', 'json', 'completions'),
  post('embeddings.create', '/embeddings', 'json', 'embeddings'),
  post('moderations.create', '/moderations', 'json', 'moderations'),
  entry('models.list', 'GET', '/models', 'none', 'catalogue', 'none'),
  entry('models.retrieve', 'GET', '/models/{model}', 'none', 'catalogue', 'none'),

  post('images.generations', '/images/generations', 'json', 'images'),
  post('images.edits', '/images/edits', 'json or form', 'images'),
  post('images.variations', '/images/variations', 'form', 'images'),
  post('audio.speech', '/audio/speech', 'json', 'audio'),
  post('audio.transcriptions', '/audio/transcriptions', 'form', 'audio'),
  post('audio.translations', '/audio/translations', 'form', 'audio'),

  post('files.create', '/files', 'form', 'none', { handsOut: FILE_OUT }),
  list('files.list', '/files', 'file', ['purpose']),
  get('files.retrieve', '/files/{file}'),
  remove('files.delete', '/files/{file}'),
  get('files.content', '/files/{file}/content'),
  post('uploads.create', '/uploads', 'json', 'none', { handsOut: UPLOAD_OUT }),
  post('uploads.parts', '/uploads/{upload}/parts', 'form', 'none', { handsOut: handedOut({ id: 'upload_part' }) }),
  post('uploads.complete', '/uploads/{upload}/complete', 'json', 'none', { handsOut: UPLOAD_OUT }),
  post('uploads.cancel', '/uploads/{upload}/cancel', 'none', 'none'),

  post('vector_stores.create', '/vector_stores', 'json', 'none', { handsOut: VECTOR_STORE_OUT }),
  list('vector_stores.list', '/vector_stores', 'vector_store', []),
  get('vector_stores.retrieve', '/vector_stores/{vector_store}'),
  post('vector_stores.update', '/vector_stores/{vector_store}', 'json', 'none'),
  remove('vector_stores.delete', '/vector_stores/{vector_store}'),
  post('vector_stores.search', '/vector_stores/{vector_store}/search', 'json', 'none'),
  post('vector_stores.files.create', '/vector_stores/{vector_store}/files', 'json', 'none'),
  get('vector_stores.files.list', '/vector_stores/{vector_store}/files', { handsOut: FILES_OUT }),
  get('vector_stores.files.retrieve', '/vector_stores/{vector_store}/files/{file}'),
  post('vector_stores.files.update', '/vector_stores/{vector_store}/files/{file}', 'json', 'none'),
  // Takes the file out of the store; the file itself stays.
  entry('vector_stores.files.delete', 'DELETE', '/vector_stores/{vector_store}/files/{file}', 'none', 'named', 'none'),
  get('vector_stores.files.content', '/vector_stores/{vector_store}/files/{file}/content'),
  post('vector_stores.file_batches.create', '/vector_stores/{vector_store}/file_batches', 'json', 'none', {
    handsOut: handedOut({ id: 'file_batch' }),
  }),
  get('vector_stores.file_batches.retrieve', '/vector_stores/{vector_store}/file_batches/{file_batch}'),
  post(
    'vector_stores.file_batches.cancel',
    '/vector_stores/{vector_store}/file_batches/{file_batch}/cancel',
    'none',
    'none',
  ),
  get('vector_stores.file_batches.files', '/vector_stores/{vector_store}/file_batches/{file_batch}/files', {
    handsOut: FILES_OUT,
  }),

  post('batches.create', '/batches', 'json', 'batch', { handsOut: BATCH_OUT }),
  list('batches.list', '/batches', 'batch', []),
  get('batches.retrieve', '/batches/{batch}', { handsOut: BATCH_OUT, tellsEndOf: 'batch' }),
  post('batches.cancel', '/batches/{batch}/cancel', 'none', 'none', { handsOut: BATCH_OUT, tellsEndOf: 'batch' }),

  post('containers.create', '/containers', 'json', 'none', { handsOut: CONTAINER_OUT }),
  list('containers.list', '/containers', 'container', ['name']),
  get('containers.retrieve', '/containers/{container}'),
  remove('containers.delete', '/containers/{container}'),
  post('containers.files.create', '/containers/{container}/files', 'json or form', 'none', {
    handsOut: handedOut({ id: 'container_file' }),
  }),
  get('containers.files.list', '/containers/{container}/files', {
    handsOut: handedOut({ 'data[].id': 'container_file' }),
  }),
  get('containers.files.retrieve', '/containers/{container}/files/{container_file}'),
  remove('containers.files.delete', '/containers/{container}/files/{container_file}'),
  get('containers.files.content', '/containers/{container}/files/{container_file}/content'),

  post('realtime.client_secrets', '/realtime/client_secrets', 'json', 'none', {
    handsOut: handedOut({ 'session.id': 'realtime_session' }),
    needsModel: true,
  }),
  // The Agents SDK posts what its applications did, under the caller's key.
  entry('traces.ingest', 'POST', '/traces/ingest', 'none', 'here', 'none'),
]

/** Endpoints whose calls may be lines of a batch. */
export const BATCHED: ReadonlySet<string> = new Set([
  'responses.create',
  'chat.completions.create',
  'completions.create',
  'embeddings.create',
  'moderations.create',
])

function entry(
  name: string,
  method: Endpoint['method'],
  path: string,
  body: Endpoint['body'],
  isolation: Endpoint['isolation'],
  meter: Endpoint['meter'],
  rules: Rules = {},
): Endpoint {
  return {
    name,
    method,
    path,
    body,
    isolation,
    meter,
    persona: undefined,
    handsOut: undefined,
    lists: undefined,
    tellsEndOf: undefined,
    isDeletion: false,
    needsModel: meter !== 'none' && meter !== 'batch',
    ...rules,
  }
}

function post(name: string, path: string, body: Endpoint['body'], meter: Meter, rules?: Rules): Endpoint {
  return entry(name, 'POST', path, body, 'named', meter, rules)
}

function get(name: string, path: string, rules?: Rules): Endpoint {
  return entry(name, 'GET', path, 'none', 'named', 'none', rules)
}

function remove(name: string, path: string): Endpoint {
  return entry(name, 'DELETE', path, 'none', 'named', 'none', { isDeletion: true })
}

function list(name: string, path: string, kind: ObjectKind, filters: readonly string[]): Endpoint {
  return entry(name, 'GET', path, 'none', 'own list', 'none', { lists: { kind, filters } })
}

function below<Kind>(name: string, paths: Readonly<Record<string, Kind>>): Record<string, Kind> {
  return Object.fromEntries(Object.entries(paths).map(([path, kind]) => [`${name}.${path}`, kind]))
}

/** An id in a path, and what it must be the id of. */
export interface PathId {
  kind: ObjectKind
  id: string
}

/** What a request's path matched, whatever its method. */
export interface EndpointMatch {
  endpoints: readonly Endpoint[]
  ids: readonly PathId[]
}

/** The endpoints at exactly this path: encodings, doubled slashes and dots match nothing. */
export type FindEndpoints = (path: string) => EndpointMatch | undefined

export function openTable(table: readonly Endpoint[]): FindEndpoints {
  const byPath = [...Map.groupBy(table, ({ path }) => path)]
  const literals = new Map<string, EndpointMatch>(
    byPath.filter(([path]) => !path.includes('{')).map(([path, endpoints]) => [`/v1${path}`, { endpoints, ids: [] }]),
  )
  /** By the first step of the path. */
  const patterns = Map.groupBy(
    byPath
      .filter(([path]) => path.includes('{'))
      .map(([path, endpoints]) => ({
        noun: path.split('/')[1] as string,
        pattern: new RegExp(`^/v1${path.replace(PLACEHOLDER, (_, kind: string) => `(${idPattern(kind)})`)}$`),
        kinds: kindsInPath(path),
        endpoints,
      })),
    ({ noun }) => noun,
  )
  return (path) => {
    const literal = literals.get(path)
    if (literal) return literal
    const noun = path.slice(PREFIX.length, path.indexOf('/', PREFIX.length))
    for (const { pattern, kinds, endpoints } of patterns.get(noun) ?? []) {
      const found = pattern.exec(path)
      if (found) return { endpoints, ids: kinds.map((kind, at) => ({ kind, id: found[at + 1] as string })) }
    }
    return undefined
  }
}

/** Built from the table and the ids that were checked, never copied from the request. */
export function upstreamPath(endpoint: Endpoint, ids: readonly PathId[]): string {
  return ids.reduce((path, { kind, id }) => path.replace(`{${kind}}`, id), endpoint.path)
}

/** The kinds of ids in a path, in their order. */
export function kindsInPath(path: string): ObjectKind[] {
  return [...path.matchAll(PLACEHOLDER)].map(([, kind]) => kind as ObjectKind)
}

const PREFIX = '/v1/'
const PLACEHOLDER = /\{(\w+)\}/g

function idPattern(kind: string): string {
  // `/responses/health` and the like are the proxy's own.
  if (kind === 'response') return 'resp_[A-Za-z0-9_-]{1,250}'
  // Names of models have dots and colons.
  return kind === 'model' ? '[A-Za-z0-9][\\w.:-]{0,254}' : '[A-Za-z0-9][\\w-]{0,254}'
}

export const findEndpoints = openTable(ENDPOINTS)
