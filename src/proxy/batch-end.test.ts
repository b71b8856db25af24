import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPriceTable } from '../ledger/pricing.ts'
import { readUsage } from '../ledger/usage.ts'
import { readPart } from '../ledger/usage-parts.ts'
import { readBatchEnd } from './batch-end.ts'
import { slices } from './watchers/reading.ts'

const AT = new Date('2026-11-20T12:00:00Z')
const prices = openPriceTable()
const BATCH = {
  id: 'batch_1',
  object: 'batch',
  endpoint: '/v1/chat/completions',
  status: 'completed',
  output_file_id: 'file-out',
}

type Found = Awaited<ReturnType<typeof find>>

/** What is read of a batch and its file of results; either may be a status instead. */
async function find(batch: object | number, results: string | number = 404, size = 64) {
  const asked: string[] = []
  const found = await readBatchEnd(
    async (path) => {
      asked.push(path)
      const answer = path.startsWith('/batches/') ? batch : results
      const text = typeof answer === 'object' ? JSON.stringify(answer, null, 1) : String(answer)
      const body = Object.assign(streamOf(slices(Buffer.from(text), size)), { dump: async () => {} })
      return { status: typeof answer === 'number' ? answer : 200, body }
    },
    'batch_1',
    prices,
    AT,
  )
  return { ...found, asked }
}

async function* streamOf(chunks: Buffer[]): AsyncGenerator<Buffer> {
  yield* chunks
}

function costOf(found: Found): bigint | string {
  assert.equal(found.kind, 'ended')
  const { usage, modelUsed: model, serviceTier } = found.kind === 'ended' ? found.end : assert.fail()
  assert.equal(serviceTier, 'batch')
  if (usage.source === 'none') return 0n
  if (usage.source !== 'reported') return usage.source
  const parts = usage.parts?.map((part) =>
    readPart({
      model: part.model === undefined ? model : part.model,
      service_tier: part.serviceTier === undefined ? serviceTier : part.serviceTier,
      usage: part.usage,
    }),
  )
  const priced = prices.price({
    model,
    serviceTier,
    usage: readUsage(usage.raw),
    parts,
    tools: usage.toolCalls,
    at: AT,
  })
  return priced.kind === 'priced' ? priced.costNanoUsd : 'unpriced'
}

function totalOf(found: Found) {
  const usage =
    found.kind === 'ended' && found.end.usage.source === 'reported' ? readUsage(found.end.usage.raw) : undefined
  return usage && [usage.inputTokens, usage.outputTokens]
}

function line(body: object, status_code = 200): string {
  return `${JSON.stringify({ id: 'batch_req_1', custom_id: 'a', response: { status_code, request_id: 'r', body }, error: null })}\n`
}

function chat(model: string, prompt_tokens: number, completion_tokens: number): object {
  const choices = [{ message: { content: 'a "usage":{"prompt_tokens":1} \n line' }, finish_reason: 'stop' }]
  return { id: 'c', object: 'chat.completion', model, choices, usage: { prompt_tokens, completion_tokens } }
}

test('a batch that is under way has not ended, one that nobody knows is gone, and a failure of OpenAI is neither', async () => {
  for (const status of [
    'validating',
    'in_progress',
    'finalizing',
    'cancelling',
    'new',
    '__proto__',
    'constructor',
    5,
  ]) {
    assert.equal((await find({ ...BATCH, status })).kind, 'pending', String(status))
  }
  assert.equal((await find(404)).kind, 'gone')
  for (const status of [401, 429, 500, 503]) assert.equal((await find(status)).kind, 'unreachable')
  assert.equal((await find(BATCH, 500)).kind, 'unreachable')
})

test('a batch ends as its status says', async () => {
  for (const [status, ending, errorCode] of [
    ['completed', 'completed', null],
    ['failed', 'failed', 'batch_failed'],
    ['expired', 'incomplete', 'batch_expired'],
    ['cancelled', 'cancelled', null],
  ] as const) {
    const found = await find({ ...BATCH, status }, line(chat('gpt-4o-mini', 10, 2)))
    assert.equal(found.kind, 'ended')
    if (found.kind === 'ended') assert.deepEqual([found.end.ending, found.end.errorCode], [ending, errorCode])
    assert.equal(costOf(found), 1350n) // (10*0.15 + 2*0.6) / 2, in thousands
  }
})

test('the sum that OpenAI gives is enough where it tells the price, and then no results are read', async () => {
  const usage = {
    input_tokens: 1000,
    input_tokens_details: { cached_tokens: 200 },
    output_tokens: 100,
    total_tokens: 1100,
  }
  const found = await find({ ...BATCH, model: 'gpt-6-sol', usage })
  assert.deepEqual(found.asked, ['/batches/batch_1'])
  assert.equal(costOf(found), 1_320_000n) // (800*2 + 200*0.2 + 100*10) / 2
  const embeddings = { input_tokens: 1_000_000, output_tokens: 0, total_tokens: 1_000_000 }
  const large = await find({ ...BATCH, endpoint: '/v1/embeddings', model: 'text-embedding-3-small', usage: embeddings })
  assert.deepEqual(large.asked, ['/batches/batch_1'])
  assert.equal(costOf(large), 10_000_000n) // 1,000,000*0.02 / 2
})

test('where the sum does not tell the price, each request is priced by its own length', async () => {
  const usage = { input_tokens: 572_001, output_tokens: 3000, total_tokens: 575_001 }
  const results =
    line(chat('gpt-6-sol', 272_001, 1000)) +
    line(chat('gpt-6-sol', 200_000, 1000)) +
    line(chat('gpt-6-sol', 100_000, 1000))
  const found = await find({ ...BATCH, model: 'gpt-6-sol', usage }, results)
  // (272001*4 + 1000*15 + 300000*2 + 2000*10) / 2
  assert.equal(costOf(found), 861_502_000n)
  assert.deepEqual(totalOf(found), [572_001, 3000])
})

test('many short requests are not taken for long context, however many they are', async () => {
  const usage = { input_tokens: 400_000, output_tokens: 4000, total_tokens: 404_000 }
  const results = line(chat('gpt-6-sol', 100_000, 1000)).repeat(4)
  const found = await find({ ...BATCH, model: 'gpt-6-sol', usage }, results)
  assert.equal(costOf(found), 420_000_000n) // (400000*2 + 4000*10) / 2
})

test('without a sum the results are read, wherever they are cut; what failed costs nothing', async () => {
  const results = [
    line(chat('gpt-4o-mini-2024-07-18', 10, 2)),
    '\n \n',
    line({ error: { message: 'x' } }, 400),
    `${JSON.stringify({ id: 'x', custom_id: 'b', response: null, error: { code: 'batch_expired' } })}\r\n`,
    line(chat('gpt-4o-mini-2024-07-18', 30, 4)).trimEnd(),
  ].join('')
  for (const size of [1, 7, 100, 100_000]) {
    const found = await find(BATCH, results, size)
    assert.deepEqual(totalOf(found), [40, 6])
    assert.equal(found.kind === 'ended' && found.end.modelUsed, 'gpt-4o-mini-2024-07-18')
    assert.equal(costOf(found), 4800n) // (40*0.15 + 6*0.6) / 2
  }
})

test('requests of several models are priced by model, and the one with most requests names the batch', async () => {
  const results = line(chat('gpt-4o', 10, 1)) + line(chat('gpt-4o-mini', 10, 1)) + line(chat('gpt-4o-mini', 10, 1))
  const found = await find(BATCH, results)
  assert.equal(found.kind === 'ended' && found.end.modelUsed, 'gpt-4o-mini')
  assert.deepEqual(totalOf(found), [30, 3])
  assert.equal(costOf(found), 19_600n) // (10*2.5 + 10 + 20*0.15 + 2*0.6) / 2 = 39.2 / 2
  const unknown = await find(BATCH, results + line(chat('gpt-7', 1, 1)))
  assert.equal(costOf(unknown), 'unpriced')
})

test('tools that the requests of a batch called are billed, at no discount', async () => {
  const body = {
    id: 'resp_1',
    status: 'completed',
    model: 'gpt-4o-mini',
    output: [{ type: 'file_search_call' }],
    tool_usage: { web_search: { num_requests: 2 } },
    usage: { input_tokens: 10, output_tokens: 2 },
  }
  const usage = { input_tokens: 10, output_tokens: 2, total_tokens: 12 }
  const found = await find({ ...BATCH, endpoint: '/v1/responses', model: 'gpt-4o-mini', usage }, line(body))
  assert.equal(costOf(found), 22_501_350n) // 2 * $0.01 + $0.0025 + 1.35
})

test('results that are gone or can not be read are unpriced or unknown, never a guess', async () => {
  const usage = { input_tokens: 10, output_tokens: 2, total_tokens: 12 }
  const gone = await find({ ...BATCH, endpoint: '/v1/responses', model: 'gpt-4o-mini', usage }, 404)
  assert.deepEqual([costOf(gone), totalOf(gone)], ['unpriced', [10, 2]])
  assert.equal(costOf(await find(BATCH, 404)), 'unknown')
  const good = line(chat('gpt-4o-mini', 10, 2))
  for (const bad of [
    '{"response":{"status_code":200,"body":{"usage":',
    'garbage\n',
    line({ model: 'm' }),
    line({ usage: { prompt_tokens: -1, completion_tokens: 1 } }),
  ]) {
    assert.equal(costOf(await find(BATCH, good + bad)), 'unknown', bad)
  }
})

test('a batch that came to nothing costs nothing', async () => {
  const { output_file_id, ...withoutResults } = BATCH
  assert.equal(costOf(await find({ ...withoutResults, status: 'failed' })), 0n)
  assert.equal(costOf(await find({ ...withoutResults, output_file_id: null })), 0n)
  const nothing = { input_tokens: 0, output_tokens: 0, total_tokens: 0 }
  assert.equal(costOf(await find({ ...withoutResults, usage: nothing })), 0n)
  assert.equal(
    costOf(await find({ ...withoutResults, endpoint: '/v1/videos', usage: { ...nothing, output_tokens: 5 } })),
    'unpriced',
  )
  assert.equal(costOf(await find(BATCH, '')), 0n)
  const moderations = line({ id: 'modr-1', model: 'omni-moderation-latest', results: [] })
  assert.equal(costOf(await find({ ...BATCH, endpoint: '/v1/moderations' }, moderations)), 0n)
})
