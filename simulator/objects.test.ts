import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import OpenAI, { toFile } from 'openai'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const clientWith = (apiKey: string) => new OpenAI({ baseURL: simulator.url, apiKey, maxRetries: 0 })
const client = clientWith('sk-test')
after(() => simulator[Symbol.asyncDispose]())

function upload(text: string, purpose: 'user_data' | 'batch' | 'assistants' = 'user_data') {
  return toFile(Buffer.from(text), 'note.txt').then((file) => client.files.create({ file, purpose }))
}

const notFound = { status: 404 }

test('a file is kept byte for byte until it is deleted', async () => {
  const bytes = Buffer.from([0, 255, 13, 10, 13, 10, 45, 45])
  const file = await client.files.create({ file: await toFile(bytes, 'odd.bin'), purpose: 'vision' })

  assert.partialDeepStrictEqual(file, { object: 'file', bytes: 8, filename: 'odd.bin', purpose: 'vision' })
  assert.deepEqual(await client.files.retrieve(file.id), file)
  assert.deepEqual(Buffer.from(await (await client.files.content(file.id)).arrayBuffer()), bytes)
  assert.deepEqual(await client.files.delete(file.id), { id: file.id, object: 'file', deleted: true })
  await assert.rejects(client.files.retrieve(file.id), notFound)
  await assert.rejects(client.files.content(file.id), notFound)
})

test('a list is paged in both orders, from both sides', async () => {
  const pager = clientWith('sk-proj-paging-1')
  const names = ['a', 'b', 'c', 'd', 'e']
  const ids: string[] = []
  for (const name of names) {
    ids.push((await pager.files.create({ file: await toFile(Buffer.from(name), name), purpose: 'vision' })).id)
  }
  const first = await pager.files.list({ limit: 2 })
  const { data, has_more } = (await pager.get('/files', { query: { order: 'asc', before: ids[4], limit: 2 } })) as {
    data: { id: string }[]
    has_more: boolean
  }

  assert.deepEqual([first.data.map(({ id }) => id), first.has_more], [[ids[4], ids[3]], true])
  const everything = await Array.fromAsync(pager.files.list({ limit: 2, order: 'asc' }))
  assert.deepEqual(
    everything.map(({ id }) => id),
    ids,
  )
  assert.deepEqual([data.map(({ id }) => id), has_more], [[ids[2], ids[3]], true])
  assert.deepEqual(await Array.fromAsync(pager.files.list({ purpose: 'batch' })), [])
  await assert.rejects(pager.files.list({ after: 'file-none' }).then(), { status: 400 })
})

test('an upload becomes a file of its parts in the order asked for, or is cancelled', async () => {
  const upload = await client.uploads.create({
    bytes: 6,
    filename: 'f.txt',
    mime_type: 'text/plain',
    purpose: 'vision',
  })
  const part = async (text: string) =>
    client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from(text), 'part') })
  const [one, two] = [await part('one'), await part('two')]
  const { file, status } = await client.uploads.complete(upload.id, { part_ids: [two.id, one.id] })

  assert.equal(status, 'completed')
  assert.equal(await (await client.files.content(file?.id ?? '')).text(), 'twoone')
  await assert.rejects(client.uploads.cancel(upload.id), { status: 400 })
  const second = await client.uploads.create({ bytes: 1, filename: 'f', mime_type: 'text/plain', purpose: 'vision' })
  assert.equal((await client.uploads.cancel(second.id)).status, 'cancelled')
})

test('a vector store finds the text of its files, and forgets a file that is taken out', async () => {
  const [first, second] = [await upload('the first secret'), await upload('the second secret')]
  const store = await client.vectorStores.create({ name: 'knowledge', file_ids: [first.id], metadata: { team: 'x' } })
  await client.vectorStores.files.createAndPoll(store.id, { file_id: second.id, attributes: { year: 2026 } })
  const found = await client.vectorStores.search(store.id, { query: 'secret' })

  assert.deepEqual(
    found.data.map(({ file_id, content }) => [file_id, content[0]?.text]),
    [
      [first.id, 'the first secret'],
      [second.id, 'the second secret'],
    ],
  )
  assert.equal((await client.vectorStores.retrieve(store.id)).file_counts.total, 2)
  const inStore = { vector_store_id: store.id }
  assert.deepEqual((await client.vectorStores.files.retrieve(second.id, inStore)).attributes, { year: 2026 })
  await client.vectorStores.files.update(second.id, { ...inStore, attributes: { year: 2027 } })
  assert.deepEqual((await client.vectorStores.files.retrieve(second.id, inStore)).attributes, { year: 2027 })
  assert.equal((await client.vectorStores.files.content(first.id, inStore)).data[0]?.text, 'the first secret')
  assert.equal((await client.vectorStores.files.delete(first.id, inStore)).deleted, true)
  assert.deepEqual(
    (await client.vectorStores.files.list(store.id)).data.map(({ id }) => id),
    [second.id],
  )
  assert.equal((await client.vectorStores.update(store.id, { name: 'renamed' })).name, 'renamed')
  assert.ok((await client.vectorStores.list()).data.some(({ id }) => id === store.id))
  assert.equal((await client.vectorStores.delete(store.id)).deleted, true)
  await assert.rejects(client.vectorStores.retrieve(store.id), notFound)
})

test('files are added to a vector store in batches', async () => {
  const files = [await upload('one'), await upload('two')]
  const store = await client.vectorStores.create({})
  const file_ids = files.map(({ id }) => id)
  const batch = await client.vectorStores.fileBatches.createAndPoll(store.id, { file_ids })

  assert.equal(batch.file_counts.completed, 2)
  const inStore = { vector_store_id: store.id }
  const listed = await client.vectorStores.fileBatches.listFiles(batch.id, { ...inStore, order: 'asc' })
  assert.deepEqual(
    listed.data.map(({ id }) => id),
    file_ids,
  )
  assert.equal((await client.vectorStores.fileBatches.cancel(batch.id, inStore)).id, batch.id)
  await assert.rejects(client.vectorStores.fileBatches.create(store.id, { file_ids: ['file-none'] }), notFound)
})

test('a container holds files of the project and files of its own', async () => {
  const file = await upload('from the project')
  const container = await client.containers.create({ name: 'lab', file_ids: [file.id] })
  const own = await client.containers.files.create(container.id, { file: await toFile(Buffer.from('own'), 'own.txt') })
  const copied = await client.containers.files.create(container.id, { file_id: file.id })

  const inContainer = { container_id: container.id }
  const texts = []
  for await (const { id } of client.containers.files.list(container.id, { order: 'asc' })) {
    texts.push(await (await client.containers.files.content.retrieve(id, inContainer)).text())
  }
  assert.deepEqual(texts, ['from the project', 'own', 'from the project'])
  assert.equal((await client.containers.files.retrieve(own.id, inContainer)).path, '/mnt/data/own.txt')
  await client.containers.files.delete(copied.id, inContainer)
  await assert.rejects(client.containers.files.retrieve(copied.id, inContainer), notFound)
  assert.equal((await client.containers.retrieve(container.id)).name, 'lab')
  assert.ok((await client.containers.list({ name: 'lab' })).data.some(({ id }) => id === container.id))
  await client.containers.delete(container.id)
  await assert.rejects(client.containers.retrieve(container.id), notFound)
})

test('a conversation remembers its items, and those of the responses in it', async () => {
  const conversation = await client.conversations.create({
    metadata: { topic: 'colours' },
    items: [{ type: 'message', role: 'user', content: 'My colour is teal.' }],
  })
  const response = await client.responses.create({ model: 'gpt-5', conversation: conversation.id, input: 'Which?' })
  assert.match(response.output_text, /Which\? Before that you said: My colour is teal\./)
  assert.deepEqual(response.conversation, { id: conversation.id })

  const items = await Array.fromAsync(client.conversations.items.list(conversation.id, { order: 'asc' }))
  assert.deepEqual(
    items.map((item) => 'role' in item && item.role),
    ['user', 'user', 'assistant'],
  )
  const added = await client.conversations.items.create(conversation.id, {
    items: [{ type: 'message', role: 'user', content: 'And now?' }],
  })
  const id = added.data[0]?.id ?? ''
  const inConversation = { conversation_id: conversation.id }
  assert.equal((await client.conversations.items.retrieve(id, inConversation)).id, id)
  await client.conversations.items.delete(id, inConversation)
  await assert.rejects(client.conversations.items.retrieve(id, inConversation), notFound)
  assert.deepEqual((await client.conversations.update(conversation.id, { metadata: { a: 'b' } })).metadata, { a: 'b' })
  await client.conversations.delete(conversation.id)
  await assert.rejects(client.conversations.retrieve(conversation.id), notFound)
})

test('a stored chat completion is listed, changed and deleted, and one not stored is not there', async () => {
  const messages = [{ role: 'user' as const, content: 'hello' }]
  const metadata = { run: 'stored' }
  const stored = await client.chat.completions.create({ model: 'gpt-4o', messages, store: true, metadata })
  const passing = await client.chat.completions.create({ model: 'gpt-4o', messages })

  const listed = await Array.fromAsync(client.chat.completions.list({ metadata }))
  assert.deepEqual(
    listed.map(({ id }) => id),
    [stored.id],
  )
  assert.equal((await client.chat.completions.retrieve(stored.id)).choices[0]?.message.content, 'You said: hello')
  const kept = await Array.fromAsync(client.chat.completions.messages.list(stored.id))
  assert.deepEqual(
    kept.map(({ content }) => content),
    ['hello'],
  )
  const updated = await client.chat.completions.update(stored.id, { metadata: { run: 'changed' } })
  assert.deepEqual((updated as unknown as { metadata: unknown }).metadata, { run: 'changed' })
  assert.equal((await client.chat.completions.delete(stored.id)).deleted, true)
  await assert.rejects(client.chat.completions.retrieve(stored.id), notFound)
  await assert.rejects(client.chat.completions.retrieve(passing.id), notFound)
})

test('every key of a project sees what the others made, and no other project does', async () => {
  const colleague = clientWith('sk-another')
  const stranger = clientWith('sk-upstream-proj-elsewhere-1')
  const file = await upload('seen by all')

  assert.equal((await colleague.files.retrieve(file.id)).id, file.id)
  assert.ok((await Array.fromAsync(colleague.files.list())).some(({ id }) => id === file.id))
  await assert.rejects(stranger.files.retrieve(file.id), notFound)
  assert.deepEqual(await Array.fromAsync(stranger.files.list()), [])
})
