/** Every relayed endpoint, called as its users call it: through OpenAI's SDK, against an OpenAI whose keys share one project. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toFile } from 'openai'
import { BATCHED, ENDPOINTS, findEndpoints, kindsInPath } from '../src/proxy/endpoints.ts'
import { startSystem } from './harness.ts'

const system = await startSystem()
const MODEL = 'gpt-4o-mini'

test('each entry of the table says what keeps tenants apart, and how its answers are metered', () => {
  for (const endpoint of ENDPOINTS) {
    const { name, method, path, body, isolation, meter, handsOut, lists } = endpoint
    const kinds = kindsInPath(path)
    const isCreation = method === 'POST' && body !== 'none' && kinds.length === 0
    if (isolation === 'named') {
      // What is named in neither path nor body would be everybody's.
      assert.ok(
        kinds.length > 0 || body !== 'none',
        `${name} names nothing: forwarded, it shows every tenant of the project`,
      )
      assert.equal(lists, undefined, name)
    } else if (isolation === 'own list') {
      assert.ok(method === 'GET' && kinds.length === 0 && lists && body === 'none', `${name} is no list of objects`)
      const single = ENDPOINTS.find((one) => one.method === 'GET' && one.path === `${path}/{${lists.kind}}`)
      assert.equal(single?.isolation, 'named', `${name}: nothing says how one of its objects is asked for`)
    } else if (isolation === 'catalogue') {
      assert.ok(method === 'GET' && path.startsWith('/models'), `${name}: only models are the same for everybody`)
    } else {
      assert.equal(isolation, 'here')
    }
    if (isCreation && isolation !== 'here' && meter === 'none') {
      assert.ok(handsOut, `${name} makes something and does not say where its id stands`)
    }
    if (meter !== 'none') assert.equal(isolation, 'named', name)
    if (meter === 'responses' || meter === 'chat' || meter === 'batch' || meter === 'compact') assert.ok(handsOut, name)
    assert.ok(
      !/^\/(?:organization|projects|fine_tuning|assistants|threads|evals)/.test(path),
      `${name} is not for tenants`,
    )
  }
  const names = ENDPOINTS.map(({ name }) => name)
  const calls = ENDPOINTS.map(({ method, path }) => `${method} ${path}`)
  assert.equal(new Set(names).size, names.length)
  assert.equal(new Set(calls).size, calls.length)
  for (const name of BATCHED) assert.ok(names.includes(name), name)
})

test('a path is found as it is written in the table, and in no other spelling', () => {
  for (const { path } of ENDPOINTS) {
    const real = `/v1${path.replaceAll('{response}', 'resp_1').replaceAll(/\{\w+\}/g, 'id-1')}`
    const found = findEndpoints(real)
    assert.equal(found?.endpoints[0]?.path, path, real)
    const spellings = [
      `${real}/`,
      `/${real}`,
      real.replace('/v1/', '/v1//'),
      real.replace('/v1/', '/v1/./'),
      real.replace('/v1/', '/v1/x/../'),
      real.replace('/v1/', '/V1/'),
      `${real};a=b`,
      `${real}%00`,
      `${real}\0`,
      real.replace('id-1', 'id%2d1'),
      real.replace('id-1', '..'),
      real.replace('id-1', 'id-1%2f..'),
      real.replace('id-1', 'id-1/../id-2'),
      real.replace('id-1', ''),
      real.replace('resp_1', 'resp_1%2e'),
    ].filter((spelling) => spelling !== real)
    for (const spelling of spellings) {
      assert.notEqual(findEndpoints(spelling)?.endpoints[0]?.path, path, spelling)
    }
  }
})

test('conversations and their items: made, read, changed, deleted, and gone on with', async () => {
  const client = (await system.organization()).client()
  const conversation = await client.conversations.create({ items: [{ role: 'user', content: 'hello' }] })

  const added = await client.conversations.items.create(conversation.id, {
    items: [{ role: 'user', content: 'and this' }],
  })
  const itemId = added.data[0]?.id ?? ''
  const answer = await client.responses.create({ model: MODEL, conversation: conversation.id, input: 'go on' })
  const items = await client.conversations.items.list(conversation.id)
  const item = await client.conversations.items.retrieve(itemId, { conversation_id: conversation.id })
  const next = await client.conversations.items.list(conversation.id, { after: itemId, order: 'asc' })
  await client.conversations.update(conversation.id, { metadata: { topic: 'tests' } })
  await client.conversations.items.delete(itemId, { conversation_id: conversation.id })
  const deleted = await client.conversations.delete(conversation.id)

  assert.ok(items.data.length >= 2 && next.data.length >= 1)
  assert.equal((item as { id?: string }).id, itemId)
  assert.equal(answer.status, 'completed')
  assert.equal(deleted.deleted, true)
})

test('chat completions: streamed and not, stored, listed, changed and deleted', async () => {
  const client = (await system.organization()).client()
  const messages = [{ role: 'user' as const, content: 'hello' }]

  const plain = await client.chat.completions.create({ model: MODEL, messages })
  const stored = await client.chat.completions.create({ model: MODEL, messages, store: true, metadata: { a: 'b' } })
  const chunks = []
  for await (const chunk of await client.chat.completions.create({ model: MODEL, messages, stream: true })) {
    chunks.push(chunk)
  }
  const read = await client.chat.completions.retrieve(stored.id)
  const said = await client.chat.completions.messages.list(stored.id)
  const listed = await client.chat.completions.list({ metadata: { a: 'b' } })
  const others = await client.chat.completions.list({ metadata: { a: 'c' } })
  await client.chat.completions.update(stored.id, { metadata: { a: 'd' } })
  await client.chat.completions.delete(stored.id)

  assert.ok(plain.choices[0]?.message.content && chunks.length > 1)
  assert.equal(read.id, stored.id)
  assert.equal(said.data.length, 1)
  assert.deepEqual([listed.data.map(({ id }) => id), others.data], [[stored.id], []])
  await assert.rejects(client.chat.completions.retrieve(plain.id), { status: 404 })
  assert.deepEqual((await client.chat.completions.list()).data, [])
})

test('completions, embeddings and moderations', async () => {
  const client = (await system.organization()).client()

  const completion = await client.completions.create({ model: 'gpt-3.5-turbo-instruct', prompt: 'hello' })
  const embedding = await client.embeddings.create({ model: 'text-embedding-3-small', input: ['one', 'two'] })
  const moderation = await client.moderations.create({ model: 'omni-moderation-latest', input: 'hello' })

  assert.ok(completion.choices[0])
  assert.equal(embedding.data.length, 2)
  assert.equal(moderation.results.length, 1)
})

test('responses are counted and compacted', async () => {
  const client = (await system.organization()).client()

  const counted = await client.responses.inputTokens.count({ model: MODEL, input: 'hello there' })
  const compacted = await client.responses.compact({ model: MODEL, input: 'a long story' })

  assert.ok(counted.input_tokens > 0)
  assert.equal(compacted.object, 'response.compaction')
})

test('images and sound: forms go up as they come, and sound comes down as it is', async () => {
  const client = (await system.organization()).client()
  const image = await toFile(Buffer.from('not really a picture'), 'a.png', { type: 'image/png' })
  const sound = await toFile(Buffer.from('not really a sound'), 'a.mp3', { type: 'audio/mpeg' })

  const made = await client.images.generate({ model: 'gpt-image-1', prompt: 'a cat' })
  const edited = await client.images.edit({ model: 'gpt-image-1', image, prompt: 'a dog', user: 'alice' })
  const varied = await client.images.createVariation({ model: 'dall-e-2', image })
  const speech = await client.audio.speech.create({ model: 'gpt-4o-mini-tts', voice: 'alloy', input: 'hello' })
  const text = await client.audio.transcriptions.create({ model: 'gpt-4o-transcribe', file: sound })
  const translated = await client.audio.translations.create({ model: 'whisper-1', file: sound })

  for (const { data } of [made, edited, varied]) assert.ok((data?.length ?? 0) > 0)
  assert.ok((await speech.arrayBuffer()).byteLength > 0)
  assert.ok(typeof text.text === 'string' && typeof translated.text === 'string')
})

test('files and uploads: their bytes arrive as they were', async () => {
  const client = (await system.organization()).client()
  const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 7919) % 256))

  const file = await client.files.create({ file: await toFile(bytes, 'data.bin'), purpose: 'user_data' })
  const read = await client.files.retrieve(file.id)
  const content = Buffer.from(await (await client.files.content(file.id)).arrayBuffer())
  const upload = await client.uploads.create({
    bytes: bytes.length,
    filename: 'parts.bin',
    mime_type: 'application/octet-stream',
    purpose: 'user_data',
  })
  const parts = []
  for (const half of [bytes.subarray(0, 1_000_000), bytes.subarray(1_000_000)]) {
    parts.push(await client.uploads.parts.create(upload.id, { data: await toFile(half, 'part') }))
  }
  const completed = await client.uploads.complete(upload.id, { part_ids: parts.map(({ id }) => id) })
  const assembled = await client.files.retrieve(completed.file?.id ?? '')
  const listed = await client.files.list()
  await client.files.delete(file.id)

  assert.equal(read.bytes, bytes.length)
  assert.ok(content.equals(bytes))
  assert.equal(assembled.bytes, bytes.length)
  assert.deepEqual(
    listed.data.map(({ id }) => id),
    [assembled.id, file.id],
  )
  assert.deepEqual(
    (await client.files.list({ purpose: 'user_data' })).data.map(({ id }) => id),
    [assembled.id],
  )
})

test('vector stores, their files and batches of files', async () => {
  const client = (await system.organization()).client()
  const file = await client.files.create({ file: await toFile(Buffer.from('words'), 'a.txt'), purpose: 'assistants' })
  const other = await client.files.create({ file: await toFile(Buffer.from('more'), 'b.txt'), purpose: 'assistants' })

  const store = await client.vectorStores.create({ name: 'mine', file_ids: [file.id] })
  await client.vectorStores.update(store.id, { name: 'still mine' })
  await client.vectorStores.files.create(store.id, { file_id: other.id })
  const files = await client.vectorStores.files.list(store.id)
  await client.vectorStores.files.retrieve(file.id, { vector_store_id: store.id })
  await client.vectorStores.files.update(file.id, { vector_store_id: store.id, attributes: { file_id: 'a word' } })
  const batch = await client.vectorStores.fileBatches.create(store.id, { file_ids: [file.id, other.id] })
  await client.vectorStores.fileBatches.retrieve(batch.id, { vector_store_id: store.id })
  await client.vectorStores.fileBatches.listFiles(batch.id, { vector_store_id: store.id })
  await client.vectorStores.search(store.id, { query: 'words' })
  await client.vectorStores.files.delete(other.id, { vector_store_id: store.id })
  const listed = await client.vectorStores.list()
  const found = await client.responses.create({
    model: MODEL,
    input: 'look it up',
    tools: [{ type: 'file_search', vector_store_ids: [store.id] }],
  })
  await client.vectorStores.delete(store.id)

  assert.equal(files.data.length, 2)
  assert.deepEqual(
    listed.data.map(({ id }) => id),
    [store.id],
  )
  assert.equal(found.status, 'completed')
})

test('containers and their files', async () => {
  const client = (await system.organization()).client()
  const file = await client.files.create({ file: await toFile(Buffer.from('words'), 'a.txt'), purpose: 'user_data' })

  const container = await client.containers.create({ name: 'mine', file_ids: [file.id] })
  const uploaded = await client.containers.files.create(container.id, { file: await toFile(Buffer.from('x'), 'b.txt') })
  const copied = await client.containers.files.create(container.id, { file_id: file.id })
  const files = await client.containers.files.list(container.id)
  await client.containers.files.retrieve(uploaded.id, { container_id: container.id })
  const content = await client.containers.files.content.retrieve(uploaded.id, { container_id: container.id })
  await client.containers.files.delete(copied.id, { container_id: container.id })
  const listed = await client.containers.list()
  await client.containers.delete(container.id)

  assert.ok(files.data.length >= 2)
  assert.equal(await content.text(), 'x')
  assert.deepEqual(
    listed.data.map(({ id }) => id),
    [container.id],
  )
})

test('models are listed and read', async () => {
  const client = (await system.organization()).client()

  const models = await client.models.list()
  const model = await client.models.retrieve(MODEL)

  assert.ok(models.data.some(({ id }) => id === MODEL))
  assert.equal(model.id, MODEL)
})

test('what the Agents SDK tells of its runs is taken and forgotten, from known callers only', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const post = (init: { token?: string; userId?: null }) =>
    organization.fetch('/v1/traces/ingest', { method: 'POST', body: '{"data":[]}', ...init })

  assert.equal((await post({})).status, 204)
  assert.equal((await post({ token: organization.syntheticKey, userId: null })).status, 204)
  assert.equal((await post({ token: 'nobody' })).status, 401)
  assert.equal(system.simulator.ledger.entries().length, callsBefore)
})

test('an endpoint that is not in the table is 404, whatever its method', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  for (const path of [
    '/v1/organization/users',
    '/v1/organization/admin_api_keys',
    '/v1/projects/p/roles',
    '/v1/fine_tuning/jobs',
    '/v1/assistants',
    '/v1/files/file-1/content/more',
    '/v1/videos',
    '/v1/skills',
  ]) {
    for (const method of ['GET', 'POST', 'DELETE']) {
      assert.equal((await organization.fetch(path, { method })).status, 404, `${method} ${path}`)
    }
  }
  assert.equal(system.simulator.ledger.entries().length, callsBefore)
})

test('a form that is no form, or too large, is refused before OpenAI hears of it', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const post = (contentType: string, body: string) =>
    organization.fetch('/v1/files', { method: 'POST', body, headers: { 'content-type': contentType } })

  assert.equal((await post('application/json', '{}')).status, 415)
  assert.equal((await post('multipart/form-data', '{}')).status, 415)
  assert.equal((await post('multipart/form-data; boundary=x', 'no form at all')).status, 400)
  assert.equal(system.simulator.ledger.entries().length, callsBefore)
})
