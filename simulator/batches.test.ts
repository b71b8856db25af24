import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import OpenAI, { toFile } from 'openai'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
after(() => simulator[Symbol.asyncDispose]())

type Line = { custom_id: string; url: string; model: string; input: string }

async function start(lines: Line[]): Promise<string> {
  const text = lines.map(({ custom_id, url, ...body }) => JSON.stringify({ custom_id, method: 'POST', url, body }))
  const file = await client.files.create({
    file: await toFile(Buffer.from(text.join('\n')), 'in.jsonl'),
    purpose: 'batch',
  })
  const batch = await client.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/responses',
    completion_window: '24h',
    metadata: { for: 'test' },
  })
  return batch.id
}

async function ended(id: string): Promise<OpenAI.Batch> {
  for (;;) {
    const batch = await client.batches.retrieve(id)
    if (['completed', 'failed', 'cancelled'].includes(batch.status)) return batch
    await setImmediate()
  }
}

async function linesOf(fileId: string | undefined): Promise<Record<string, unknown>[]> {
  const text = await (await client.files.content(fileId ?? '')).text()
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

const url = '/v1/responses'

test('a batch answers every line, keeps failures apart, and sums its usage', { timeout: 30_000 }, async () => {
  const batch = await ended(
    await start([
      { custom_id: 'a', url, model: 'gpt-5', input: 'hello' },
      { custom_id: 'b', url, model: 'sim:status=500', input: 'hello' },
    ]),
  )
  const [answer] = await linesOf(batch.output_file_id)
  const [failure] = await linesOf(batch.error_file_id)

  assert.deepEqual(batch.request_counts, { total: 2, completed: 1, failed: 1 })
  assert.partialDeepStrictEqual(answer, {
    custom_id: 'a',
    response: { status_code: 200, body: { object: 'response' } },
  })
  assert.partialDeepStrictEqual(failure, { custom_id: 'b', response: { status_code: 500 } })
  assert.partialDeepStrictEqual(batch.usage, { input_tokens: 2, output_tokens: 3, total_tokens: 5 })
  await simulator.ledger.idle()
  const served = simulator.ledger.entries().filter(({ transport }) => transport === 'batch')
  assert.deepEqual(served.map(({ path, status }) => [path, status]).sort(), [
    [url, 200],
    [url, 500],
  ])
  assert.ok((await Array.fromAsync(client.batches.list())).some(({ id }) => id === batch.id))
})

test('a batch with a line for another endpoint fails and calls nothing', { timeout: 30_000 }, async () => {
  const batch = await ended(await start([{ custom_id: 'a', url: '/v1/embeddings', model: 'gpt-5', input: 'x' }]))

  assert.equal(batch.status, 'failed')
  assert.match(batch.errors?.data?.[0]?.message ?? '', /Line 1 is not a POST to/)
})

test('a cancelled batch keeps the answers it has', { timeout: 30_000 }, async () => {
  const slow = { url, model: 'sim:delay=600000', input: 'x' }
  const id = await start([
    { custom_id: 'a', url, model: 'gpt-5', input: 'x' },
    ...['b', 'c'].map((custom_id) => ({ custom_id, ...slow })),
  ])
  while ((await client.batches.retrieve(id)).request_counts?.completed !== 1) await setImmediate()

  assert.equal((await client.batches.cancel(id)).status, 'cancelling')
  const batch = await ended(id)
  assert.equal(batch.status, 'cancelled')
  assert.equal((await linesOf(batch.output_file_id)).length, 1)
  await assert.rejects(client.batches.cancel(id), { status: 409 })
})
