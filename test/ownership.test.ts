/** Whose an object is, on the whole of OpenAI's surface: organizations whose keys share one OpenAI project, which would let them. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type OpenAI from 'openai'
import { toFile } from 'openai'
import { updateApiKey } from '../src/api-keys/service.ts'
import { OPERATOR } from '../src/auth/caller.ts'
import { type Policies, updatePolicies } from '../src/organizations/policies.ts'
import { adoptObject } from '../src/ownership/adopt.ts'
import { createPersona } from '../src/personas/service.ts'
import { ENDPOINTS } from '../src/proxy/endpoints.ts'
import { Secret } from '../src/secret.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { askUntil } from './poll.ts'

const system = await startSystem()
const MODEL = 'gpt-4o-mini'
const SHARED_UPSTREAM_KEY = 'sk-upstream-of-all-of-them'

/** An organization whose key is of the project that all others' keys are of. */
async function sharingOrganization(): Promise<TestOrganization> {
  const organization = await system.organization()
  await updateApiKey(system.server.context, organization.admin, organization.apiKeyId, { isActive: false })
  const { id, syntheticKey } = await organization.createKey({ upstreamKey: new Secret(SHARED_UPSTREAM_KEY) })
  return { ...organization, apiKeyId: id, syntheticKey }
}

async function setPolicies(organization: TestOrganization, changes: Partial<Policies>): Promise<void> {
  await updatePolicies(system.server.context, organization.admin, changes)
}

/** Calls made for a client: what the proxy asks OpenAI on its own account, of batches that are under way, has no such header. */
function calls() {
  return system.simulator.ledger.entries().filter(({ requestHeaders }) => requestHeaders['x-client-request-id'])
}

/** Something of every kind that a path can name. */
async function makeEverything(client: OpenAI) {
  const text = () => toFile(Buffer.from('secret words'), 'a.txt')
  const file = (await client.files.create({ file: await text(), purpose: 'assistants' })).id
  const answer = await client.responses.create({ model: MODEL, input: 'secret words' })
  const conversation = (await client.conversations.create({ items: [{ role: 'user', content: 'secret words' }] })).id
  const items = await client.conversations.items.list(conversation)
  const chat = await client.chat.completions.create({
    model: MODEL,
    messages: [{ role: 'user', content: 'secret words' }],
    store: true,
  })
  const upload = await client.uploads.create({
    bytes: 1,
    filename: 'u',
    mime_type: 'text/plain',
    purpose: 'user_data',
  })
  const store = (await client.vectorStores.create({ file_ids: [file] })).id
  const fileBatch = (await client.vectorStores.fileBatches.create(store, { file_ids: [file] })).id
  const line = { custom_id: '1', method: 'POST', url: '/v1/responses', body: { model: MODEL, input: 'secret words' } }
  const lines = await toFile(Buffer.from(`${JSON.stringify(line)}\n`), 'b.jsonl')
  const batchInput = (await client.files.create({ file: lines, purpose: 'batch' })).id
  const batch = await client.batches.create({
    input_file_id: batchInput,
    endpoint: '/v1/responses',
    completion_window: '24h',
  })
  const container = (await client.containers.create({ name: 'secret' })).id
  const containerFile = (await client.containers.files.create(container, { file: await text() })).id
  return {
    response: answer.id,
    item: items.data[0]?.id ?? '',
    conversation,
    chat_completion: chat.id,
    file,
    upload: upload.id,
    vector_store: store,
    file_batch: fileBatch,
    batch: batch.id,
    batchInput,
    container,
    container_file: containerFile,
  }
}

test('C31, C33: on every path, what another organization or user made, and what nobody made, is the same 404 without a call to OpenAI', async () => {
  const [owner, stranger] = [await sharingOrganization(), await sharingOrganization()]
  const made: Record<string, string> = await makeEverything(owner.client())
  const own: Record<string, string> = await makeEverything(stranger.client())
  const withIds = ENDPOINTS.filter(({ path }) => path.includes('{') && !path.includes('{model}'))
  assert.ok(withIds.length > 35)

  for (const { method, path, body } of withIds) {
    const kinds = [...path.matchAll(/\{(\w+)\}/g)].map(([, kind]) => kind ?? '')
    for (const foreign of kinds) {
      const target = (id: string) =>
        `/v1${path.replace(/\{(\w+)\}/g, (_, kind: string) => (kind === foreign ? id : (own[kind] ?? '')))}`
      const init = requestFor(method, body)
      const before = calls().length
      const answers = await Promise.all([
        stranger.fetch(target(made[foreign] ?? ''), init()),
        stranger.fetch(target(`${(own[foreign] ?? '').slice(0, -1)}_`), init()),
      ])
      const texts = await Promise.all(answers.map((answer) => answer.text()))
      assert.deepEqual(
        answers.map(({ status }) => status),
        [404, 404],
        `${method} ${path}: ${texts}`,
      )
      assert.equal(texts[0], texts[1])
      assert.equal(calls().length, before, `${method} ${path}`)
    }
    const target = `/v1${path.replace(/\{(\w+)\}/g, (_, kind: string) => made[kind] ?? '')}`
    assert.equal((await owner.fetch(target, { ...requestFor(method, body)(), userId: 'bob' })).status, 404, path)
  }
})

/** A request of that method with a body of that kind that has nothing wrong with it. */
function requestFor(method: string, body: string): () => RequestInit {
  return () => {
    if (body === 'none') return { method }
    if (body === 'form') {
      const form = new FormData()
      form.set('data', new Blob(['x']), 'x')
      const headers: Record<string, string> = { 'content-type': 'multipart/form-data; boundary=b' }
      const part = '--b\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\nx\r\n--b--\r\n'
      return { method, headers, body: part }
    }
    return { method, body: '{}' }
  }
}

test('C36: in every place of a body, what another organization made, and what nobody made, is the same 404 without a call to OpenAI', async () => {
  const [owner, stranger] = [await sharingOrganization(), await sharingOrganization()]
  const theirs = await makeEverything(owner.client())
  const nobodys: typeof theirs = Object.fromEntries(
    Object.entries(theirs).map(([kind, id]) => [kind, `${id.slice(0, -1)}_`]),
  ) as typeof theirs
  const own = await makeEverything(stranger.client())
  const responses = (fields: object) => ['/v1/responses', { model: MODEL, input: 'hi', ...fields }] as const
  const bodies = (of: typeof theirs): (readonly [string, object])[] => [
    responses({ previous_response_id: of.response }),
    responses({ conversation: of.conversation }),
    responses({ conversation: { id: of.conversation } }),
    responses({ prompt_cache_options: { comparison_response_id: of.response } }),
    responses({ input: [{ type: 'item_reference', id: of.item }] }),
    responses({ input: [{ id: of.item }] }),
    responses({ input: [{ role: 'user', content: [{ type: 'input_file', file_id: of.file }] }] }),
    responses({
      input: [{ type: 'function_call_output', call_id: 'c', output: [{ type: 'input_file', file_id: of.file }] }],
    }),
    responses({
      input: [{ type: 'additional_tools', tools: [{ type: 'file_search', vector_store_ids: [of.vector_store] }] }],
    }),
    responses({ tools: [{ type: 'file_search', vector_store_ids: [own.vector_store, of.vector_store] }] }),
    responses({ tools: [{ type: 'code_interpreter', container: of.container }] }),
    responses({ tools: [{ type: 'code_interpreter', container: { type: 'auto', file_ids: [of.file] } }] }),
    responses({ tools: [{ type: 'shell', environment: { type: 'container_reference', container_id: of.container } }] }),
    responses({ tools: [{ type: 'image_generation', input_image_mask: { file_id: of.file } }] }),
    responses({ prompt: { id: of.file, variables: {} } }),
    responses({ tools: [{ type: 'mcp', server_label: 'x', connector_id: 'connector_gmail' }] }),
    ['/v1/responses/input_tokens', { model: MODEL, previous_response_id: of.response }],
    ['/v1/responses/compact', { model: MODEL, previous_response_id: of.response }],
    ['/v1/conversations', { items: [{ role: 'user', content: [{ type: 'input_file', file_id: of.file }] }] }],
    [`/v1/conversations/${own.conversation}/items`, { items: [{ type: 'item_reference', id: of.item }] }],
    [
      '/v1/chat/completions',
      { model: MODEL, messages: [{ role: 'user', content: [{ type: 'file', file: { file_id: of.file } }] }] },
    ],
    ['/v1/vector_stores', { file_ids: [of.file] }],
    [`/v1/vector_stores/${own.vector_store}/files`, { file_id: of.file }],
    [`/v1/vector_stores/${own.vector_store}/file_batches`, { file_ids: [own.file, of.file] }],
    [`/v1/vector_stores/${own.vector_store}/file_batches`, { files: [{ file_id: of.file }] }],
    ['/v1/containers', { name: 'x', file_ids: [of.file] }],
    [`/v1/containers/${own.container}/files`, { file_id: of.file }],
    ['/v1/batches', { input_file_id: of.batchInput, endpoint: '/v1/responses', completion_window: '24h' }],
  ]
  const [foreign, unknown] = [bodies(theirs), bodies(nobodys)]

  for (const [at, [path, body]] of foreign.entries()) {
    const before = calls().length
    const post = (what: object) => stranger.fetch(path, { method: 'POST', body: JSON.stringify(what) })
    const [one, other] = [await post(body), await post(unknown[at]?.[1] ?? {})]
    const texts = [await one.text(), await other.text()]
    assert.deepEqual([one.status, other.status], [404, 404], `${path} ${JSON.stringify(body)}: ${texts}`)
    assert.equal(texts[0], texts[1])
    assert.equal(calls().length, before, JSON.stringify(body))
  }
  // What is refused above is served for its owner.
  for (const [path, body] of bodies(theirs).filter(([, body]) => !/connector|"prompt"/.test(JSON.stringify(body)))) {
    const mine = JSON.stringify(body)
      .replaceAll(own.vector_store, theirs.vector_store)
      .replaceAll(own.file, theirs.file)
    const target = path.replace(own.vector_store, theirs.vector_store).replace(own.conversation, theirs.conversation)
    const before = calls().length
    const answer = await owner.fetch(target.replace(own.container, theirs.container), { method: 'POST', body: mine })
    assert.ok(calls().length > before, `${target} ${mine}: ${await answer.text()}`)
  }
})

test('a form that names a foreign file is broken off before OpenAI has the whole of it, wherever the name stands', async () => {
  const [owner, stranger] = [await sharingOrganization(), await sharingOrganization()]
  const { file } = await makeEverything(owner.client())
  const container = (await stranger.client().containers.create({ name: 'mine' })).id
  const filesBefore = await stranger.client().containers.files.list(container)

  for (const filler of [10, 1_000_000]) {
    const form = new FormData()
    form.set('file', new Blob(['x'.repeat(filler)]), 'x.txt')
    form.set('file_id', file)
    const headers = { authorization: `Bearer ${stranger.token}`, 'x-user-id': 'alice' }
    const answer = await fetch(`${system.url}/v1/containers/${container}/files`, {
      method: 'POST',
      body: form,
      headers,
    })
    assert.equal(answer.status, 404, await answer.text())
  }

  await system.simulator.ledger.idle()
  assert.ok(
    !calls().some(({ method, path, status }) => method === 'POST' && path.includes(container) && status === 200),
  )
  const filesAfter = await stranger.client().containers.files.list(container)
  assert.equal(filesAfter.data.length, filesBefore.data.length)
})

test('lists show what the caller made and nothing else, page by page in both orders', async () => {
  const [owner, stranger] = [await sharingOrganization(), await sharingOrganization()]
  const [client, other] = [owner.client(), stranger.client()]
  const ids: string[] = []
  for (let count = 0; count < 7; count += 1) {
    ids.push((await client.vectorStores.create({ name: `mine ${count}` })).id)
    await other.vectorStores.create({ name: `theirs ${count}` })
    await owner.client({ userId: 'bob' }).vectorStores.create({ name: `bob's ${count}` })
  }
  const pages = async (order: 'asc' | 'desc') => {
    const found: string[][] = []
    for await (const page of (await client.vectorStores.list({ limit: 3, order })).iterPages()) {
      found.push(page.data.map(({ id }) => id))
    }
    return found
  }

  const [ascending, descending] = [await pages('asc'), await pages('desc')]
  await client.vectorStores.delete(ids[2] ?? '')
  const rest = await client.vectorStores.list({ order: 'asc' })
  const raw = (await (await owner.fetch('/v1/vector_stores?limit=3')).json()) as Record<string, unknown>

  assert.deepEqual(ascending, [ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)])
  assert.deepEqual(descending.flat(), ids.toReversed())
  assert.deepEqual(
    rest.data.map(({ id }) => id),
    ids.toSpliced(2, 1),
  )
  assert.deepEqual([raw.object, raw.first_id, raw.last_id, raw.has_more], ['list', ids[6], ids[4], true])
  for (const query of ['?after=vs_unknown', `?after=${(await other.vectorStores.list()).data[0]?.id}`]) {
    assert.equal((await owner.fetch(`/v1/vector_stores${query}`)).status, 404)
  }
  for (const query of [
    '?limit=0',
    '?limit=x',
    '?order=up',
    `?before=${ids[0]}`,
    '?limit=1&limit=2',
    '?after[]=x',
    '?a=%',
  ]) {
    assert.equal((await owner.fetch(`/v1/vector_stores${query}`)).status, 400, query)
  }
})

test('a list that is made of objects of several keys asks for each with its own, and leaves out what an inactive one made', async () => {
  const organization = await sharingOrganization()
  const client = organization.client()
  const first = (await client.vectorStores.create({ name: 'first' })).id
  const userId = await organization.createUser('alice')
  const second = await organization.createKey({ userId })
  const later = await askUntil(
    async () => (await client.vectorStores.create({ name: 'second' })).id,
    () => calls().at(-1)?.keyHash !== keyHash(SHARED_UPSTREAM_KEY),
  )

  const listed = (await client.vectorStores.list()).data.map(({ id }) => id)
  await updateApiKey(system.server.context, organization.admin, second.id, { isActive: false })
  const listedLater = await askUntil(
    async () => (await client.vectorStores.list()).data.map(({ id }) => id),
    (ids) => !ids.includes(later),
  )

  assert.ok(listed.includes(first) && listed.includes(later))
  assert.ok(listedLater.includes(first))
  const named = { vector_store_ids: [first, later], type: 'file_search' as const }
  const both = await organization.fetch('/v1/responses', {
    method: 'POST',
    body: JSON.stringify({ model: MODEL, input: 'hi', tools: [named] }),
  })
  assert.equal(both.status, 409)
  assert.match(await both.text(), /different API keys/)
  const inactive = await organization.fetch(`/v1/vector_stores/${later}`)
  assert.equal(inactive.status, 409)
  assert.match(await inactive.text(), /inactive/)
})

/** As the simulator keeps them. */
function keyHash(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}

test('C32: what a user made is theirs alone, until the organization shares within itself; never is it shared with another', async () => {
  const [organization, stranger] = [await sharingOrganization(), await sharingOrganization()]
  const [alice, bob] = [organization.client(), organization.client({ userId: 'bob' })]
  const made = await makeEverything(alice)
  const follow = (client: OpenAI) =>
    client.responses.create({ model: MODEL, input: 'go on', previous_response_id: made.response })

  await assert.rejects(follow(bob), { status: 404 })
  await setPolicies(organization, { shareObjects: 'organization' })
  const shared = await askUntil(
    () => follow(bob).catch((error: unknown) => error),
    (answer) => !(answer instanceof Error),
  )
  const listed = (await bob.files.list()).data.map(({ id }) => id)
  const items = await bob.conversations.items.create(made.conversation, { items: [{ role: 'user', content: 'and' }] })
  await assert.rejects(follow(stranger.client()), { status: 404 })
  await setPolicies(organization, { shareObjects: 'user' })
  await askUntil(
    () => bob.files.retrieve(made.file).catch((error: unknown) => error),
    (answer) => answer instanceof Error,
  )

  assert.ok(!(shared instanceof Error))
  assert.ok(listed.includes(made.file))
  // What comes out of Alice's conversation is hers.
  await alice.conversations.items.retrieve(items.data[0]?.id ?? '', { conversation_id: made.conversation })
  await assert.rejects(bob.files.retrieve(made.file), { status: 404 })
})

test('what OpenAI hands out is the caller’s at once: responses that are not stored, items, containers and the files in them, outputs of batches', async () => {
  const organization = await sharingOrganization()
  const client = organization.client()
  const tools = [{ type: 'code_interpreter' as const, container: { type: 'auto' as const } }]

  for (const stream of [false, true]) {
    const answer = await client.responses.create({ model: MODEL, input: 'compute', tools, store: false, stream })
    const text = stream ? '' : JSON.stringify(answer)
    let all = text
    if (Symbol.asyncIterator in answer) for await (const event of answer) all += JSON.stringify(event)
    const containers = new Set([...all.matchAll(/"container_id":"(\w+)"/g)].map(([, id]) => id ?? ''))
    const responseId = /"id":"(resp_\w+)"/.exec(all)?.[1] ?? ''
    for (const id of containers) assert.equal((await client.containers.retrieve(id)).id, id)
    // OpenAI itself does not know it any more: the refusal is OpenAI's.
    const before = calls().length
    await organization.fetch(`/v1/responses/${responseId}`)
    assert.equal(calls().length, before + 1)
  }
  const { batch } = await makeEverything(client)
  const ended = await askUntil(
    () => client.batches.retrieve(batch),
    ({ status }) => status === 'completed',
  )
  const output = await client.files.content(ended.output_file_id ?? '')
  assert.match(await output.text(), /custom_id/)
})

test('an id that stands in metadata, or in what a model says, becomes nobody’s by being repeated', async () => {
  const [owner, stranger] = [await sharingOrganization(), await sharingOrganization()]
  const { file, response, container } = await makeEverything(owner.client())
  const metadata = { id: response, file_id: file, container_id: container, output: JSON.stringify({ id: file }) }

  for (const stream of [false, true]) {
    const body = {
      model: MODEL,
      input: JSON.stringify({ id: file, output: [{ container_id: container }] }),
      metadata,
      stream,
    }
    const answer = await stranger.fetch('/v1/responses', { method: 'POST', body: JSON.stringify(body) })
    assert.equal(answer.status, 200)
    await answer.text()
  }
  await stranger.client().conversations.create({ metadata })

  for (const path of [`/v1/files/${file}`, `/v1/responses/${response}`, `/v1/containers/${container}`]) {
    assert.equal((await stranger.fetch(path)).status, 404)
    assert.equal((await owner.fetch(path)).status, 200)
  }
})

test('what was made elsewhere is unknown until an operator adopts it, for one user or for all', async () => {
  const [organization, other] = [await sharingOrganization(), await sharingOrganization()]
  const ask = (fields: object, userId = 'alice') =>
    organization.fetch('/v1/responses', {
      method: 'POST',
      userId,
      body: JSON.stringify({ model: MODEL, input: 'hi', ...fields }),
    })
  const mcp = { tools: [{ type: 'mcp', server_label: 'mail', connector_id: 'connector_gmail', authorization: 'x' }] }
  const adopt = (objectId: string, kind: 'connector' | 'file', userId: string | null, to = organization) =>
    adoptObject(system.server.context, OPERATOR, to.id, { objectId, kind, userId, apiKeyId: to.apiKeyId })
  const alice = await organization.createUser('alice')
  const made = await fetch(`${system.simulator.url}/files`, {
    method: 'POST',
    headers: { authorization: `Bearer ${SHARED_UPSTREAM_KEY}` },
    body: formWith('words'),
  })
  const { id: fileId } = (await made.json()) as { id: string }

  assert.equal((await ask(mcp)).status, 404)
  assert.equal((await organization.fetch(`/v1/files/${fileId}`)).status, 404)
  await adopt('connector_gmail', 'connector', null)
  await adopt(fileId, 'file', alice)

  assert.equal((await ask(mcp)).status, 200)
  assert.equal((await ask(mcp, 'bob')).status, 200)
  assert.equal((await organization.fetch(`/v1/files/${fileId}`)).status, 200)
  assert.equal((await organization.fetch(`/v1/files/${fileId}`, { userId: 'bob' })).status, 404)
  await assert.rejects(adopt(fileId, 'file', null, other), { code: 'conflict' })
  await assert.rejects(adopt(fileId, 'file', null), { code: 'conflict' })
  await assert.rejects(adopt('no id', 'file', null), { code: 'invalid_request' })
  await adopt('connector_gmail', 'connector', null, other)
  const [row] = await system.query(
    "select target from audit_log where action = 'object.adopt' and organization_id = $1",
    [organization.id],
  )
  assert.equal(row?.target, 'connector_gmail')
})

function formWith(text: string): FormData {
  const form = new FormData()
  form.set('purpose', 'user_data')
  form.set('file', new Blob([text]), 'a.txt')
  return form
}

test('C50: identifiers reach OpenAI as a hash for each organization and user, or as the organization has it', async () => {
  const [one, two] = [await system.organization(), await system.organization()]
  const sent = async (organization: TestOrganization, userId: string, extra: object = {}) => {
    const body = JSON.stringify({
      model: 'sim:echo',
      input: 'hi',
      prompt_cache_key: 'same',
      safety_identifier: 'alice@example.com',
      user: 'alice@example.com',
      seed: 9223372036854775807n.toString(),
      ...extra,
    })
    const answer = (await (await organization.fetch('/v1/responses', { method: 'POST', userId, body })).json()) as {
      body_base64: string
    }
    return JSON.parse(Buffer.from(answer.body_base64, 'base64').toString()) as Record<string, string>
  }

  const seen = [await sent(one, 'alice'), await sent(one, 'bob'), await sent(two, 'alice')]
  for (const field of ['prompt_cache_key', 'safety_identifier', 'user']) {
    const values = seen.map((body) => body[field])
    assert.equal(new Set(values).size, 3, field)
    for (const value of values) assert.match(value ?? '', /^[\w-]{43}$/)
  }
  assert.deepEqual(await sent(one, 'alice'), seen[0])
  await setPolicies(one, { identifiers: 'as_sent' })
  const asSent = await askUntil(
    () => sent(one, 'alice'),
    ({ user }) => user === 'alice@example.com',
  )
  assert.deepEqual([asSent.prompt_cache_key, asSent.safety_identifier], ['same', 'alice@example.com'])
  await setPolicies(one, { identifiers: 'always' })
  const always = await askUntil(
    () => sent(one, 'alice', { safety_identifier: undefined }),
    ({ safety_identifier }) => safety_identifier !== undefined,
  )
  assert.match(always.safety_identifier ?? '', /^[\w-]{43}$/)
})

test('C49: an Idempotency-Key that two tenants choose is not the same one at OpenAI', async () => {
  const seen = new Set<unknown>()
  for (const organization of [await sharingOrganization(), await sharingOrganization()]) {
    for (const userId of ['alice', 'bob', 'alice']) {
      const headers = { 'idempotency-key': 'one' }
      const body = JSON.stringify({ model: MODEL, input: 'hi' })
      assert.equal((await organization.fetch('/v1/responses', { method: 'POST', userId, headers, body })).status, 200)
      seen.add(calls().at(-1)?.requestHeaders['idempotency-key'])
    }
  }
  assert.equal(seen.size, 4)
  assert.ok(!seen.has('one') && !seen.has(undefined))
})

test('an organization that allows certain models gets no others: at the top, in tools, in forms, in lists, without a name, fine-tuned', async () => {
  const organization = await sharingOrganization()
  const client = organization.client()
  await setPolicies(organization, { models: [MODEL, 'gpt-image-*', 'ft:*'] })
  const post = (path: string, body: object) => organization.fetch(path, { method: 'POST', body: JSON.stringify(body) })
  await askUntil(
    () => post('/v1/embeddings', { model: 'text-embedding-3-small', input: 'x' }),
    ({ status }) => status === 404,
  )
  const before = calls().length

  for (const [path, body] of [
    ['/v1/responses', { model: 'gpt-5', input: 'hi' }],
    ['/v1/responses', { input: 'hi' }],
    ['/v1/responses', { model: MODEL, input: 'hi', tools: [{ type: 'image_generation', model: 'dall-e-3' }] }],
    ['/v1/responses', { model: 'ft:gpt-4o-mini:somebody::1', input: 'hi' }],
    ['/v1/responses', { model: 'GPT-4o-mini', input: 'hi' }],
    ['/v1/chat/completions', { model: `${MODEL}-2024-07-18`, messages: [] }],
    ['/v1/images/generations', { prompt: 'a cat' }],
    ['/v1/audio/speech', { model: 'tts-1', voice: 'alloy', input: 'hi' }],
    ['/v1/moderations', { input: 'hi' }],
  ] as const) {
    const answer = await post(path, body)
    const text = await answer.text()
    assert.equal(answer.status, 404, `${path} ${JSON.stringify(body)}: ${text}`)
    assert.match(text, /model_not_found|not_found/)
  }
  for (const filler of [10, 1_000_000]) {
    const file = await toFile(Buffer.alloc(filler), 'a.mp3')
    await assert.rejects(client.audio.transcriptions.create({ file, model: 'whisper-1' }), { status: 404 })
    await assert.rejects(client.images.edit({ image: file, prompt: 'x' }), { status: 404 })
  }
  await system.simulator.ledger.idle()
  assert.ok(
    !calls()
      .slice(before)
      .some(({ status }) => status === 200),
  )

  const models = (await client.models.list()).data.map(({ id }) => id)
  assert.deepEqual(
    models.filter((id) => id !== MODEL && !id.startsWith('gpt-image-')),
    [],
  )
  assert.ok(models.includes(MODEL))
  await assert.rejects(client.models.retrieve('gpt-5'), { status: 404, code: 'model_not_found' })
  assert.equal((await post('/v1/responses', { model: MODEL, input: 'hi' })).status, 200)
})

test('every line of a batch must be a call that could be made on its own', async () => {
  const [organization, stranger] = [await sharingOrganization(), await sharingOrganization()]
  const client = organization.client()
  const theirs = await makeEverything(stranger.client())
  await setPolicies(organization, { models: [MODEL] })
  const good = { custom_id: 'a', method: 'POST', url: '/v1/responses', body: { model: MODEL, input: 'hi' } }
  const make = async (lines: (object | string)[]) => {
    const text = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n')
    const file = await client.files.create({ file: await toFile(Buffer.from(text), 'b.jsonl'), purpose: 'batch' })
    return client.batches.create({ input_file_id: file.id, endpoint: '/v1/responses', completion_window: '24h' })
  }
  await askUntil(
    () => client.responses.create({ model: 'gpt-5', input: 'hi' }).catch((error: unknown) => error),
    (answer) => answer instanceof Error,
  )
  const bad: [object | string, RegExp][] = [
    [{ ...good, body: { ...good.body, previous_response_id: theirs.response } }, /previous_response_id/],
    [
      { ...good, body: { ...good.body, tools: [{ type: 'file_search', vector_store_ids: [theirs.vector_store] }] } },
      /vector/,
    ],
    [{ ...good, body: { ...good.body, model: 'gpt-5' } }, /gpt-5/],
    [{ ...good, body: { input: 'hi' } }, /models/],
    [{ ...good, body: { ...good.body, stream: true } }, /stream/],
    [{ ...good, body: { ...good.body, user: 'alice' } }, /user/],
    [{ ...good, url: '/v1/files' }, /url/],
    [{ ...good, url: '/v1/responses/compact' }, /url/],
    [{ ...good, url: '/v1/../v1/responses' }, /url/],
    [{ ...good, method: 'GET' }, /method/],
    [{ ...good, body: undefined }, /body/],
    ['no json', /JSON/],
    [
      `{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model":"${MODEL}","model":"gpt-5"}}`,
      /same field/,
    ],
    [`${JSON.stringify(good).slice(0, -1)},"body":{"model":"gpt-5"}}`, /same field/],
    [JSON.stringify(good).replace('hi', `hi\u2028{"url":"x"}`), /end of a line/],
  ]

  const isBatchMade = ({ method, path }: { method: string; path: string }) =>
    method === 'POST' && path === '/v1/batches'
  const madeBefore = calls().filter(isBatchMade).length

  for (const [line, why] of bad) {
    for (const lines of [[line], [good, '', line], [line, good]]) {
      await assert.rejects(make(lines), (error: { status: number; message: string }) => {
        assert.ok(error.status === 400 || error.status === 404, error.message)
        assert.match(error.message, /Line \d/)
        assert.match(error.message, why)
        return true
      })
    }
  }
  assert.equal(calls().filter(isBatchMade).length, madeBefore)
  const batch = await make([good, '', good])
  assert.ok(batch.id)
})

test('a persona goes into chats and not into batches, and the messages of a stored chat do not show it', async () => {
  const organization = await sharingOrganization()
  const client = organization.client()
  const { context } = system.server
  const persona = await createPersona(context, organization.admin, { name: 'Kind', content: 'Secret: be very kind.' })
  const messages = [{ role: 'user' as const, content: 'hello' }]
  const extra = { persona_id: persona.id }

  const stored = await client.chat.completions.create({ model: MODEL, messages, store: true, ...extra })
  const plain = await client.chat.completions.create({ model: MODEL, messages, store: true })
  const [one, list] = [await client.chat.completions.retrieve(stored.id), await client.chat.completions.list()]

  await assert.rejects(client.chat.completions.messages.list(stored.id), { status: 403 })
  assert.equal((await client.chat.completions.messages.list(plain.id)).data.length, 1)
  assert.equal(list.data.length, 2)
  assert.ok(!JSON.stringify([stored, one, list.data]).includes('Secret'))
  const batch = async (fields: object) => {
    const body = { model: MODEL, messages, ...fields }
    const line = JSON.stringify({ custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body })
    const file = await client.files.create({ file: await toFile(Buffer.from(line), 'b.jsonl'), purpose: 'batch' })
    return client.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    })
  }
  await assert.rejects(batch(extra), /without a persona/)
  assert.ok((await batch({})).id)
  await setPolicies(organization, { personas: 'enforce' })
  await askUntil(
    () => batch({}).catch((error: unknown) => error),
    (answer) => answer instanceof Error,
  )
  await assert.rejects(batch({}), /personas cannot be applied/)
})

test('client secrets lead past the proxy: they are refused unless the organization allows them', async () => {
  const organization = await sharingOrganization()
  const ask = () =>
    organization.fetch('/v1/realtime/client_secrets', {
      method: 'POST',
      body: JSON.stringify({ session: { type: 'realtime', model: 'gpt-realtime' } }),
    })

  const refused = await ask()
  await setPolicies(organization, { clientSecrets: 'allow' })
  const allowed = await askUntil(ask, ({ status }) => status !== 403)

  assert.equal(refused.status, 403)
  assert.notEqual(allowed.status, 403)
})

test('a query that names something of another’s, or says anything twice that decides, goes nowhere', async () => {
  const [owner, stranger] = [await sharingOrganization(), await sharingOrganization()]
  const theirs = await makeEverything(owner.client())
  const own = await makeEverything(stranger.client())
  const before = calls().length

  const path = `/v1/conversations/${own.conversation}/items`
  for (const [query, status] of [
    [`?after=${theirs.item}`, 404],
    [`?after=${own.item}&after=${theirs.item}`, 400],
    [`?after[]=${theirs.item}`, 400],
    [`?%61fter=${theirs.item}`, 404],
    [`?limit=1;after=${theirs.item}`, 404],
    [`?file_id=${theirs.file}`, 404],
    ['?after=%zz', 400],
  ] as const) {
    assert.equal((await stranger.fetch(`${path}${query}`)).status, status, query)
  }
  assert.equal(calls().length, before)
  assert.equal((await stranger.fetch(`${path}?after=${own.item}&include[]=a&include[]=b`)).status, 200)
})
