import type { Endpoint } from '../../src/proxy/endpoints.ts'
import { kindsNamedBy } from '../../src/proxy/references.ts'
import { form, type NamedKind, type Objects } from './objects.ts'
import type { Asked } from './party.ts'

/** One way in which a request can name objects that are not the caller's. */
export interface Way {
  name: string
  /** What of it is to be somebody else's; the rest is the caller's own. */
  foreign: readonly NamedKind[]
  request(ids: Objects): Asked
  /** How many pairs of parties try it: more where the way decides by whose the object is than where it is found by its name. */
  triedBy: 'every pair' | 'everybody' | 'somebody'
  /** Whether an owner's request succeeds; otherwise it is one that OpenAI would not understand, but must be refused all the same. */
  isUsable: boolean
}

/** Endpoints at which nothing of anybody's can be named. */
const NAME_NOTHING = new Set(['models.list', 'traces.ingest'])

/** Every way there is, made from the table: path, query, and body by name and by nesting. What the table says is not believed. */
export function waysIn(table: readonly Endpoint[]): Way[] {
  return table
    .filter(({ name, body }) => !NAME_NOTHING.has(name) && body !== 'websocket')
    .flatMap((endpoint) => [...pathWays(endpoint), ...queryWays(endpoint), ...bodyWays(endpoint)])
}

/** A path of one's own objects, by what stands before each id. */
export function pathOf({ path }: Endpoint, ids: Objects): string {
  const steps = path.split('/')
  return steps.map((step, at) => (step.startsWith('{') ? ids[kindAt(steps, at)] : step)).join('/')
}

function kindAt(steps: string[], at: number): NamedKind {
  const noun = steps[at - 1] as string
  if (noun === 'files' && steps[1] === 'containers') return 'container_file'
  const kind = KINDS_BY_STEP[noun]
  if (!kind) throw new Error(`What does ${steps.join('/')} name after ${noun}?`)
  return kind
}

const KINDS_BY_STEP: Readonly<Record<string, NamedKind>> = {
  responses: 'response',
  conversations: 'conversation',
  items: 'item',
  completions: 'chat_completion',
  files: 'file',
  uploads: 'upload',
  vector_stores: 'vector_store',
  file_batches: 'file_batch',
  batches: 'batch',
  containers: 'container',
  models: 'model',
}

function kindsIn({ path }: Endpoint): NamedKind[] {
  const steps = path.split('/')
  return steps.flatMap((step, at) => (step.startsWith('{') ? [kindAt(steps, at)] : []))
}

/** Each id of the path foreign, with the others one's own and foreign too. */
function pathWays(endpoint: Endpoint): Way[] {
  return subsets(kindsIn(endpoint)).flatMap((foreign) =>
    bodiesOf(endpoint).map(([form, body]) => ({
      name: `${endpoint.name}: ${foreign.join(' and ')} in the path${form}`,
      foreign,
      request: (ids) => requestTo(endpoint, ids, { body: body(ids) }),
      triedBy: 'every pair',
      isUsable: true,
    })),
  )
}

function queryWays(endpoint: Endpoint): Way[] {
  if (endpoint.method !== 'GET') return []
  const cursors = LISTED.map((kind) => ({ field: 'after', kind }))
  // A list that is made here reads nothing else.
  const before = LISTED.map((kind) => ({ field: 'before', kind }))
  const known = endpoint.isolation === 'own list' ? cursors : [...cursors, ...before, ...NAMES]
  return known.map(({ field, kind }) => ({
    name: `${endpoint.name}: ${kind} as ${field} in the query`,
    foreign: [kind],
    request: (ids) => requestTo(endpoint, ids, { query: `?${field}=${ids[kind]}` }),
    triedBy: 'somebody',
    isUsable: false,
  }))
}

function bodyWays(endpoint: Endpoint): Way[] {
  const valid = (ids: Objects) => VALID[endpoint.name]?.(ids) ?? {}
  const known = (USED[endpoint.name] ?? []).map(
    ({ way, foreign, body }): Way => ({
      name: `${endpoint.name}: ${foreign} as ${way}`,
      foreign: [foreign],
      request: (ids) => requestTo(endpoint, ids, { body: { ...valid(ids), ...body(ids) } }),
      triedBy: 'everybody',
      isUsable: true,
    }),
  )
  if (endpoint.body !== 'json' && endpoint.body !== 'json or form') return known
  const byName = NAMES.flatMap(({ field, kind }): Way[] =>
    ['at the top', 'deep inside'].map((where) => ({
      name: `${endpoint.name}: ${kind} as ${field} ${where}`,
      foreign: [kind],
      request: (ids) => {
        const named = { [field]: ids[kind] }
        const body = where === 'at the top' ? named : { unheard_of: [{ of: [[named]] }] }
        return requestTo(endpoint, ids, { body: { ...valid(ids), ...body } })
      },
      triedBy: 'somebody',
      isUsable: false,
    })),
  )
  return [...known, ...byName]
}

function requestTo(
  endpoint: Endpoint,
  ids: Objects,
  { body, query = '' }: { body?: Asked['body']; query?: string },
): Asked {
  return { method: endpoint.method, path: `${pathOf(endpoint, ids)}${query}`, ...(body && { body }) }
}

const LISTED: readonly NamedKind[] = [
  'item',
  'file',
  'container_file',
  'batch',
  'vector_store',
  'container',
  'chat_completion',
]

/** Fields that name an object wherever they stand. */
const NAMES: readonly { field: string; kind: NamedKind }[] = [
  { field: 'file_id', kind: 'file' },
  { field: 'input_file_id', kind: 'file' },
  { field: 'file_ids', kind: 'container_file' },
  { field: 'container_id', kind: 'container' },
  { field: 'vector_store_id', kind: 'vector_store' },
  { field: 'vector_store_ids', kind: 'vector_store' },
  { field: 'previous_response_id', kind: 'response' },
  { field: 'comparison_response_id', kind: 'response' },
  { field: 'conversation_id', kind: 'conversation' },
  { field: 'upload_id', kind: 'upload' },
  { field: 'part_ids', kind: 'upload_part' },
  { field: 'batch_id', kind: 'batch' },
  { field: 'batch_id', kind: 'file_batch' },
  { field: 'approval_request_id', kind: 'item' },
  { field: 'prompt_id', kind: 'prompt' },
  { field: 'skill_ids', kind: 'skill' },
  { field: 'connector_id', kind: 'connector' },
  { field: 'tunnel_id', kind: 'tunnel' },
  { field: 'voice_id', kind: 'voice' },
]

/** The kinds that some field names, and none does by this list. */
export function unnamedFields(): string[] {
  return NAMES.filter(({ field, kind }) => !kindsNamedBy(field)?.includes(kind)).map(({ field }) => field)
}

type Body = (ids: Objects) => Record<string, unknown>
type Used = { way: string; foreign: NamedKind; body: Body }

function used(way: string, foreign: NamedKind, body: Body): Used {
  return { way, foreign, body }
}

function inInput(way: string, foreign: NamedKind, items: (ids: Objects) => unknown[]): Used {
  return used(way, foreign, (ids) => ({ input: items(ids) }))
}

function inTools(way: string, foreign: NamedKind, tool: Body): Used[] {
  const user = { role: 'user', content: 'hello' }
  return [
    used(way, foreign, (ids) => ({ tools: [tool(ids)] })),
    inInput(`${way}, in tools that come later`, foreign, (ids) => [
      user,
      { type: 'additional_tools', role: 'developer', tools: [tool(ids)] },
    ]),
    inInput(`${way}, in tools that were found`, foreign, (ids) => [
      user,
      { type: 'tool_search_output', execution: 'client', call_id: 'call_1', tools: [tool(ids)] },
    ]),
  ]
}

const MCP = { type: 'mcp', server_label: 'mail', require_approval: 'never' }

const said = (content: unknown[]) => [{ role: 'user', content }]

/** What the Responses API takes, wherever it is asked. */
const RESPONSE_WAYS: readonly Used[] = [
  used('the response before', 'response', ({ response }) => ({ previous_response_id: response })),
  used('conversation', 'conversation', ({ conversation }) => ({ conversation })),
  used('conversation object', 'conversation', ({ conversation }) => ({ conversation: { id: conversation } })),
  used('the response to compare with', 'response', ({ response }) => ({
    prompt_cache_options: { comparison_response_id: response },
  })),
  used('variable of a prompt', 'file', ({ file }) => ({
    prompt_variables: { page: { type: 'input_file', file_id: file } },
  })),
  used('prompt', 'prompt', ({ prompt }) => ({ prompt: { id: prompt } })),
  used('model', 'model', ({ model }) => ({ model })),
  ...inTools('connector', 'connector', ({ connector }) => ({ ...MCP, connector_id: connector })),
  ...inTools('tunnel', 'tunnel', ({ tunnel }) => ({ ...MCP, tunnel_id: tunnel })),
  ...inTools('model of a tool', 'model', ({ model }) => ({ type: 'image_generation', model })),
  ...inTools('skill', 'skill', ({ skill }) => ({
    type: 'shell',
    environment: { type: 'container_auto', skills: [{ type: 'skill_reference', skill_id: skill }] },
  })),
  inInput('input file', 'file', ({ file }) => said([{ type: 'input_file', file_id: file }])),
  inInput('input image', 'file', ({ file }) => said([{ type: 'input_image', file_id: file }])),
  inInput('screenshot', 'file', ({ file }) => [
    { type: 'computer_call_output', call_id: 'call_1', output: { type: 'computer_screenshot', file_id: file } },
  ]),
  inInput('output of a function', 'file', ({ file }) => [
    { type: 'function_call_output', call_id: 'call_1', output: [{ type: 'input_file', file_id: file }] },
  ]),
  inInput('output of a custom tool', 'file', ({ file }) => [
    { type: 'custom_tool_call_output', call_id: 'call_1', output: [{ type: 'input_image', file_id: file }] },
  ]),
  inInput('reference', 'item', ({ item }) => [{ type: 'item_reference', id: item }]),
  inInput('bare id', 'item', ({ item }) => [{ id: item }]),
  inInput('picture made before', 'item', ({ item }) => [{ type: 'image_generation_call', id: item }]),
  inInput('approval', 'item', ({ item }) => [
    { type: 'mcp_approval_response', approval_request_id: item, approve: true },
  ]),
  ...inTools('knowledge', 'vector_store', ({ vector_store }) => ({
    type: 'file_search',
    vector_store_ids: [vector_store],
  })),
  ...inTools('container', 'container', ({ container }) => ({ type: 'code_interpreter', container })),
  ...inTools('file in a new container', 'file', ({ file }) => ({
    type: 'code_interpreter',
    container: { type: 'auto', file_ids: [file] },
  })),
  ...inTools('container of a shell', 'container', ({ container }) => ({
    type: 'shell',
    environment: { type: 'container_reference', container_id: container },
  })),
  ...inTools('mask', 'file', ({ file }) => ({ type: 'image_generation', input_image_mask: { file_id: file } })),
]

const CONVERSATION_ITEMS: readonly Used[] = [
  used('input file of an item', 'file', ({ file }) => ({
    items: [{ type: 'message', role: 'user', content: [{ type: 'input_file', file_id: file }] }],
  })),
]

/** The places in a body that OpenAI itself reads, by endpoint. */
const USED: Readonly<Record<string, readonly Used[]>> = {
  'responses.create': RESPONSE_WAYS,
  'responses.input_tokens': RESPONSE_WAYS,
  'responses.compact': RESPONSE_WAYS,
  'conversations.create': CONVERSATION_ITEMS,
  'conversations.items.create': CONVERSATION_ITEMS,
  'chat.completions.create': [
    used('file of a message', 'file', ({ file }) => ({
      messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: file } }] }],
    })),
    used('model', 'model', ({ model }) => ({ model })),
    used('voice', 'voice', ({ voice }) => ({ modalities: ['text', 'audio'], audio: { voice: { id: voice } } })),
    used('what was said aloud', 'audio', ({ audio }) => ({
      messages: [
        { role: 'assistant', audio: { id: audio } },
        { role: 'user', content: 'Again?' },
      ],
    })),
  ],
  'images.edits': [
    used('image', 'file', ({ file }) => ({ images: [{ file_id: file }] })),
    used('mask', 'file', ({ file }) => ({ mask: { file_id: file } })),
  ],
  'uploads.complete': [used('part', 'upload_part', ({ upload_part }) => ({ part_ids: [upload_part] }))],
  'vector_stores.create': [used('file', 'file', ({ file }) => ({ file_ids: [file] }))],
  'vector_stores.files.create': [used('file', 'file', ({ file }) => ({ file_id: file }))],
  'vector_stores.file_batches.create': [
    used('file', 'file', ({ file }) => ({ file_ids: [file] })),
    used('file with attributes', 'file', ({ file }) => ({ files: [{ file_id: file, attributes: { a: 1 } }] })),
  ],
  'batches.create': [used('input file', 'file', ({ file }) => ({ input_file_id: file }))],
  'containers.create': [
    used('file', 'file', ({ file }) => ({ file_ids: [file] })),
    used('skill', 'skill', ({ skill }) => ({ skills: [{ type: 'skill_reference', skill_id: skill }] })),
  ],
  'completions.create': [used('model', 'model', ({ model }) => ({ model }))],
  'audio.speech': [
    used('voice', 'voice', ({ voice }) => ({ voice })),
    used('voice object', 'voice', ({ voice }) => ({ voice: { id: voice } })),
  ],
  'realtime.client_secrets': [
    used('prompt', 'prompt', ({ prompt }) => ({ session: { type: 'realtime', prompt: { id: prompt } } })),
  ],
  'containers.files.create': [used('file', 'file', ({ file }) => ({ file_id: file }))],
}

/** A body that OpenAI would take, in each form it can have. */
function bodiesOf({ name, body }: Endpoint): [form: string, body: (ids: Objects) => Asked['body']][] {
  const valid = (ids: Objects) => VALID[name]?.(ids) ?? {}
  const multipart = () => form({}, name === 'uploads.parts' ? 'data' : 'file', 'text')
  if (body === 'none') return [['', () => undefined]]
  if (body === 'json') return [['', valid]]
  if (body === 'form') return [['', multipart]]
  return [
    [', with JSON', valid],
    [', with a form', multipart],
  ]
}

const VALID: Readonly<Record<string, Body>> = {
  'responses.create': () => ({ model: 'gpt-4o-mini', input: 'hello' }),
  'responses.input_tokens': () => ({ model: 'gpt-4o-mini', input: 'hello' }),
  'responses.compact': () => ({ model: 'gpt-4o-mini', input: 'hello' }),
  'conversations.items.create': () => ({ items: [] }),
  'chat.completions.create': () => ({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'hello' }] }),
  'completions.create': () => ({ model: 'gpt-3.5-turbo-instruct', prompt: 'hello' }),
  'embeddings.create': () => ({ model: 'text-embedding-3-small', input: 'hello' }),
  'moderations.create': () => ({ model: 'omni-moderation-latest', input: 'hello' }),
  'images.generations': () => ({ model: 'gpt-image-2', prompt: 'a fox' }),
  'images.edits': ({ file }) => ({ model: 'gpt-image-2', prompt: 'a fox', images: [{ file_id: file }] }),
  'audio.speech': () => ({ model: 'gpt-4o-mini-tts', input: 'hello', voice: 'alloy' }),
  'uploads.create': () => ({ bytes: 1, filename: 'a.txt', mime_type: 'text/plain', purpose: 'user_data' }),
  'uploads.complete': ({ upload_part }) => ({ part_ids: [upload_part] }),
  'vector_stores.search': () => ({ query: 'hello' }),
  'vector_stores.files.create': ({ file }) => ({ file_id: file }),
  'vector_stores.files.update': () => ({ attributes: {} }),
  'containers.create': () => ({ name: 'lab' }),
  'containers.files.create': ({ file }) => ({ file_id: file }),
  'batches.create': ({ file }) => ({ input_file_id: file, endpoint: '/v1/responses', completion_window: '24h' }),
  'realtime.client_secrets': () => ({ session: { type: 'realtime', model: 'gpt-realtime-2' } }),
}

/** All but the empty one. */
function subsets(kinds: readonly NamedKind[]): NamedKind[][] {
  const [kind, ...rest] = kinds
  if (kind === undefined) return []
  const others = subsets(rest)
  return [[kind], ...others, ...others.map((set) => [kind, ...set])]
}
