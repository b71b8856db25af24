import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import OpenAI from 'openai'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
after(() => simulator[Symbol.asyncDispose]())

test('a background response is queued without usage and completed with it', async () => {
  const queued = await client.responses.create({ model: 'gpt-5', input: 'hello', background: true })
  await simulator.ledger.idle()
  const completed = await client.responses.retrieve(queued.id)

  assert.equal(queued.status, 'queued')
  assert.equal(queued.usage, null)
  assert.equal(completed.status, 'completed')
  assert.equal(completed.usage?.output_tokens, 3)
  const entry = simulator.ledger.entries().find(({ responseId }) => responseId === queued.id)
  assert.equal(entry?.usage?.output_tokens, 3)
  assert.equal(entry?.background, true)
})

test('a background response that was cancelled stays cancelled', async () => {
  const { id } = await client.responses.create({ model: 'sim:background_ms=60000', input: 'hello', background: true })
  const cancelled = await client.responses.cancel(id)
  await simulator.ledger.idle()

  assert.equal(cancelled.status, 'cancelled')
  assert.equal((await client.responses.retrieve(id)).status, 'cancelled')
})

test('only a background response can be cancelled', async () => {
  const { id } = await client.responses.create({ model: 'gpt-5', input: 'hello' })

  await assert.rejects(client.responses.cancel(id), OpenAI.BadRequestError)
})

test('a watched background response goes on when the watcher leaves, and can be watched again from there', async () => {
  const stream = await client.responses.create({ model: 'gpt-5', input: 'hello', background: true, stream: true })
  let id = ''
  for await (const event of stream) {
    if (event.type === 'response.created') id = event.response.id
    if (event.sequence_number === 2) break
  }
  const rest = await Array.fromAsync(await client.responses.retrieve(id, { stream: true, starting_after: 2 }))

  assert.equal(rest[0]?.sequence_number, 3)
  assert.equal(rest.at(-1)?.type, 'response.completed')
  await simulator.ledger.idle()
  const produced = simulator.ledger.entries().filter(({ responseId }) => responseId === id)
  assert.deepEqual(
    produced.map(({ usage }) => usage?.output_tokens),
    [3],
  )
})

test('what runs in the background can not be kept from being stored', async () => {
  const request = { model: 'gpt-5', input: 'hello', background: true, store: false }

  await assert.rejects(client.responses.create(request), OpenAI.BadRequestError)
})
