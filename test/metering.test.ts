import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import OpenAI, { toFile } from 'openai'
import type { LedgerEntry } from '../simulator/ledger.ts'
import { repriceLedger } from '../src/ledger/maintenance.ts'
import { ENDPOINTS } from '../src/proxy/endpoints.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { askUntil } from './poll.ts'

const SLOW_LINE = {
  custom_id: 'a',
  method: 'POST',
  url: '/v1/embeddings',
  body: { model: 'text-embedding-3-small', input: 'hello' },
}
const SLOW_BATCH = { id: 'batch_slow', object: 'batch', endpoint: '/v1/embeddings', status: 'validating' }
const slowAnswers: ServerResponse[] = []
const MEASURED = `data: {"id":"chatcmpl-1","model":"gpt-4o-mini","choices":[{"delta":{"content":"hi"}}],"usage":null}

data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}

data: [DONE]

`
/** An OpenAI that takes its time to say that it has made a batch, and has done it when it is asked. */
const slow = createServer((request, response) => {
  request.resume()
  if (request.method === 'POST' && request.url?.endsWith('/batches')) {
    slowAnswers.push(response)
    return
  }
  if (request.url?.endsWith('/chat/completions')) {
    const head = { 'content-type': 'text/event-stream', 'content-length': Buffer.byteLength(MEASURED) }
    response.writeHead(200, head).end(MEASURED)
    return
  }
  const usage = { input_tokens: 100, output_tokens: 0, total_tokens: 100 }
  const answer = request.url?.endsWith('/content')
    ? SLOW_LINE
    : request.url?.endsWith('/files')
      ? { id: 'file-slow', object: 'file', purpose: 'batch' }
      : { ...SLOW_BATCH, status: 'completed', model: 'text-embedding-3-small', usage, output_file_id: 'file-out' }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
})
await new Promise<void>((resolve) => slow.listen(0, '127.0.0.1', resolve))
const slowUrl = `http://127.0.0.1:${(slow.address() as AddressInfo).port}/v1`
after(() => {
  slow.close()
  slow.closeAllConnections()
})

const system = await startSystem({ OPENAI_ALLOWED_ORIGINS: new URL(slowUrl).origin })
const { ledger } = system.simulator

/** Nano-dollars per token by OpenAI's page ($1 per million is 1,000), or per second or character where these are billed. */
const RATES = {
  'gpt-4o-mini-2024-07-18': { input: 150, cached: 75, output: 600 },
  'gpt-4o-2024-08-06': { input: 2500, cached: 1250, output: 10_000 },
  'gpt-3.5-turbo-instruct': { input: 1500, output: 2000 },
  'text-embedding-3-small': { input: 20 },
  'gpt-image-2': { input: 5000, inputImage: 8000, output: 30_000, outputImage: 30_000 },
  'gpt-4o-transcribe': { input: 2500, inputAudio: 6000, output: 10_000 },
  'gpt-4o-mini-tts': { input: 600, output: 12_000, outputAudio: 12_000 },
  'whisper-1': { second: 100_000 },
  'tts-1': { character: 15_000 },
} as const

interface Rates {
  input?: number
  cached?: number
  output?: number
  inputImage?: number
  inputAudio?: number
  outputImage?: number
  outputAudio?: number
  second?: number
  character?: number
}

/** What the simulated OpenAI itself knows that it took in and put out. */
type Used = NonNullable<LedgerEntry['usage']>

/** An independent calculator: the simulator's own counts at the prices above. */
function costOf(used: Used, model: keyof typeof RATES): bigint {
  const rates: Rates = RATES[model]
  if (rates.second !== undefined) return BigInt((used.seconds ?? 0) * rates.second)
  if (rates.character !== undefined) return BigInt((used.characters ?? 0) * rates.character)
  const { input_image_tokens: images = 0, input_audio_tokens: audio = 0 } = used
  const { output_image_tokens: imagesOut = 0, output_audio_tokens: audioOut = 0 } = used
  return BigInt(
    (used.input_tokens - used.cached_tokens - images - audio) * (rates.input ?? 0) +
      used.cached_tokens * (rates.cached ?? rates.input ?? 0) +
      images * (rates.inputImage ?? 0) +
      audio * (rates.inputAudio ?? 0) +
      (used.output_tokens - imagesOut - audioOut) * (rates.output ?? 0) +
      imagesOut * (rates.outputImage ?? 0) +
      audioOut * (rates.outputAudio ?? 0),
  )
}

interface Case {
  endpoint: string
  ask(openai: OpenAI): Promise<unknown>
  /** Its price, or what is to be said of one that has none. */
  model: keyof typeof RATES | 'free' | 'unknown'
}

/** What the simulated OpenAI is to do is written in the model's name. */
const sim = (behaviour: string) => `sim:${behaviour},model=gpt-4o-mini`
const CACHED = sim('cached=12,input=40,reasoning=3')
const MESSAGES = [{ role: 'user' as const, content: 'hello there, how are you?' }]
const SAID = { model: 'gpt-4o-mini', messages: MESSAGES }
const wav = () => toFile(Buffer.from('ID3 some recorded words of a meeting'), 'meeting.mp3')
const png = () => toFile(Buffer.from([0x89, 0x50, 0x4e, 0x47]), 'a.png', { type: 'image/png' })

const CASES: Record<string, Case> = {
  'a response': {
    endpoint: 'responses.create',
    ask: (openai) => openai.responses.create({ model: CACHED, input: 'hello' }),
    model: 'gpt-4o-mini-2024-07-18',
  },
  'a streamed response': {
    endpoint: 'responses.create',
    ask: async (openai) => readAll(await openai.responses.create({ model: 'gpt-4o', input: 'hello', stream: true })),
    model: 'gpt-4o-2024-08-06',
  },
  'a compaction': {
    endpoint: 'responses.compact',
    ask: (openai) => openai.responses.compact({ model: 'gpt-4o-mini-2024-07-18', input: 'a long talk '.repeat(50) }),
    model: 'gpt-4o-mini-2024-07-18',
  },
  'counted input tokens': {
    endpoint: 'responses.input_tokens',
    ask: (openai) => openai.responses.inputTokens.count({ model: 'gpt-4o-mini', input: 'hello' }),
    model: 'free',
  },
  'a chat completion': {
    endpoint: 'chat.completions.create',
    ask: (openai) => openai.chat.completions.create({ ...SAID, model: CACHED }),
    model: 'gpt-4o-mini-2024-07-18',
  },
  'a chat stream that was not asked for its usage': {
    endpoint: 'chat.completions.create',
    ask: async (openai) => {
      const chunks = await readAll(await openai.chat.completions.create({ ...SAID, model: CACHED, stream: true }))
      assert.ok(chunks.length > 3)
      for (const chunk of chunks) assert.ok(!('usage' in chunk) && chunk.choices.length === 1, JSON.stringify(chunk))
    },
    model: 'gpt-4o-mini-2024-07-18',
  },
  'a chat stream that was asked for its usage': {
    endpoint: 'chat.completions.create',
    ask: async (openai) => {
      const asked = { ...SAID, stream: true, stream_options: { include_usage: true } } as const
      const chunks = await readAll(await openai.chat.completions.create(asked))
      assert.deepEqual(chunks.at(-1)?.choices, [])
      assert.ok(chunks.at(-1)?.usage?.total_tokens)
      assert.ok(chunks.slice(0, -1).every(({ usage }) => usage === null))
    },
    model: 'gpt-4o-mini-2024-07-18',
  },
  'a chat stream that calls a tool': {
    endpoint: 'chat.completions.create',
    ask: async (openai) => {
      const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
      const tools = [{ type: 'function' as const, function: { name: 'weather', parameters } }]
      const asked = { ...SAID, model: sim('tool'), tools, tool_choice: 'required' as const, stream: true as const }
      const chunks = await readAll(await openai.chat.completions.create(asked))
      assert.ok(chunks.some(({ choices }) => choices[0]?.delta.tool_calls))
    },
    model: 'gpt-4o-mini-2024-07-18',
  },
  'a completion': {
    endpoint: 'completions.create',
    ask: (openai) => openai.completions.create({ model: 'gpt-3.5-turbo-instruct', prompt: 'once upon a time' }),
    model: 'gpt-3.5-turbo-instruct',
  },
  'a completion stream': {
    endpoint: 'completions.create',
    ask: async (openai) => {
      const asked = { model: 'gpt-3.5-turbo-instruct', prompt: 'once upon a time', stream: true } as const
      const chunks = await readAll(await openai.completions.create(asked))
      for (const chunk of chunks) assert.ok(!('usage' in chunk) && chunk.choices.length === 1, JSON.stringify(chunk))
    },
    model: 'gpt-3.5-turbo-instruct',
  },
  embeddings: {
    endpoint: 'embeddings.create',
    ask: (openai) => openai.embeddings.create({ model: 'text-embedding-3-small', input: ['one text', 'another one'] }),
    model: 'text-embedding-3-small',
  },
  moderations: {
    endpoint: 'moderations.create',
    ask: (openai) => openai.moderations.create({ model: 'omni-moderation-latest', input: 'hello' }),
    model: 'free',
  },
  images: {
    endpoint: 'images.generations',
    ask: (openai) => openai.images.generate({ model: 'gpt-image-2', prompt: 'a house by the sea', n: 2 }),
    model: 'gpt-image-2',
  },
  'streamed images': {
    endpoint: 'images.generations',
    ask: async (openai) =>
      readAll(await openai.images.generate({ model: 'gpt-image-2', prompt: 'a house by the sea', stream: true })),
    model: 'gpt-image-2',
  },
  'edited images': {
    endpoint: 'images.edits',
    ask: async (openai) => openai.images.edit({ model: 'gpt-image-2', prompt: 'make it blue', image: await png() }),
    model: 'gpt-image-2',
  },
  'variations of an image, of a model that reports nothing': {
    endpoint: 'images.variations',
    ask: async (openai) => openai.images.createVariation({ model: 'dall-e-2', image: await png() }),
    model: 'unknown',
  },
  'a transcription by tokens': {
    endpoint: 'audio.transcriptions',
    ask: async (openai) => openai.audio.transcriptions.create({ model: 'gpt-4o-transcribe', file: await wav() }),
    model: 'gpt-4o-transcribe',
  },
  'a streamed transcription': {
    endpoint: 'audio.transcriptions',
    ask: async (openai) => {
      const file = await wav()
      return readAll(await openai.audio.transcriptions.create({ model: 'gpt-4o-transcribe', file, stream: true }))
    },
    model: 'gpt-4o-transcribe',
  },
  'a transcription by time': {
    endpoint: 'audio.transcriptions',
    ask: async (openai) => openai.audio.transcriptions.create({ model: 'whisper-1', file: await wav() }),
    model: 'whisper-1',
  },
  'a verbose translation': {
    endpoint: 'audio.translations',
    ask: async (openai) =>
      openai.audio.translations.create({ model: 'whisper-1', file: await wav(), response_format: 'verbose_json' }),
    model: 'whisper-1',
  },
  'a transcription as bare text': {
    endpoint: 'audio.transcriptions',
    ask: async (openai) =>
      openai.audio.transcriptions.create({ model: 'whisper-1', file: await wav(), response_format: 'srt' }),
    model: 'unknown',
  },
  'speech that is billed by its text': {
    endpoint: 'audio.speech',
    ask: async (openai) =>
      readBytes(await openai.audio.speech.create({ model: 'tts-1', voice: 'alloy', input: 'Grüß Gott' })),
    model: 'tts-1',
  },
  'speech that is billed by tokens, and says nothing of them': {
    endpoint: 'audio.speech',
    ask: async (openai) =>
      readBytes(await openai.audio.speech.create({ model: 'gpt-4o-mini-tts', voice: 'alloy', input: 'hello' })),
    model: 'unknown',
  },
  'streamed speech': {
    endpoint: 'audio.speech',
    ask: async (openai) => {
      const asked = { model: 'gpt-4o-mini-tts', voice: 'alloy', input: 'hello', stream_format: 'sse' } as const
      return readBytes(await openai.audio.speech.create(asked))
    },
    model: 'gpt-4o-mini-tts',
  },
}

for (const [name, { endpoint, ask, model }] of Object.entries(CASES)) {
  test(`${name}: row, sums and the simulated OpenAI's own ledger say the same, to the token and the nano-dollar`, async () => {
    const organization = await system.organization()
    ledger.reset()

    await ask(organization.client())
    await ledger.idle()

    const [entry, ...more] = ledger.entries()
    assert.deepEqual([more.length, entry?.status], [0, 200])
    const row = await onlyRow(organization)
    assert.deepEqual([row.endpoint, row.status, row.user_id !== null], [endpoint, 'completed', true])
    if (model === 'unknown') {
      assert.deepEqual([row.usage_source, row.input_tokens, row.cost_nano_usd], ['unknown', null, null])
    } else if (model === 'free') {
      assert.deepEqual([row.usage_source, row.cost_nano_usd], ['reported', '0'])
    } else {
      const used = entry?.usage ?? assert.fail('the simulator counted nothing')
      const isByTokens = !('second' in RATES[model]) && !('character' in RATES[model])
      if (isByTokens) assert.deepEqual(tokensOf(row), expectedTokens(used))
      assert.deepEqual([row.usage_source, row.model_used], ['reported', model])
      assert.equal(row.cost_nano_usd, String(costOf(used, model)))
      assert.ok(costOf(used, model) > 0n)
    }
    await assertSums(organization, [row])
  })
}

test('every endpoint that is metered is in the table above, or has a test of its own', () => {
  const metered = ENDPOINTS.filter(({ meter }) => meter !== 'none').map(({ name }) => name)
  const shown = new Set(Object.values(CASES).map(({ endpoint }) => endpoint))
  const elsewhere = ['batches.create', 'responses.websocket']
  assert.deepEqual(
    metered.filter((name) => !shown.has(name)),
    metered.filter((name) => elsewhere.includes(name)),
  )
})

test('a synthetic key is metered as its user, its key and its organization', async () => {
  const organization = await system.organization()
  const userId = await organization.createUser('carol')
  const { id, syntheticKey } = await organization.createKey({ userId })

  await organization.client({ apiKey: syntheticKey }).chat.completions.create(SAID)

  const row = await onlyRow(organization)
  assert.deepEqual([row.user_id, row.api_key_id], [userId, id])
  await assertSums(organization, [row])
})

test('a client that leaves a chat stream has one row, estimated from what had been said', async () => {
  const organization = await system.organization()
  const stream = await organization
    .client()
    .chat.completions.create({ ...SAID, model: sim('tokens=1000,tps=40'), stream: true })
  let seen = 0
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content && ++seen === 5) break

  const rows = await askUntil(
    () => rowsOf(organization),
    (found) => found.length > 0,
  )
  assert.equal(rows.length, 1)
  const [row] = rows
  assert.deepEqual([row?.status, row?.usage_source, row?.is_stream], ['client_closed', 'estimated', true])
  assert.ok(Number(row?.output_tokens) >= 5 && Number(row?.output_tokens) < 1000, String(row?.output_tokens))
  assert.ok(Number(row?.input_tokens) > 0 && Number(row?.cost_nano_usd) > 0)
  await assertSums(organization, rows)
})

test('I8: a chat stream that OpenAI ends without `[DONE]` is visibly broken, and keeps the usage that it had said', async () => {
  for (const [after, source] of [
    [3, 'estimated'],
    // All but the last event: the usage has come, and was hidden.
    [8, 'reported'],
  ] as const) {
    const organization = await system.organization()
    const asked = { ...SAID, model: sim(`tokens=5,end_after=${after}`), stream: true } as const
    const stream = await organization.client().chat.completions.create(asked)
    await assert.rejects(readAll(stream), OpenAI.APIError)

    const row = await onlyRow(organization)
    assert.deepEqual([row.status, row.usage_source], ['upstream_error', source], `after ${after}`)
  }
})

test('a chat stream that fails on its way is failed, and its error reaches the client as OpenAI sent it', async () => {
  const organization = await system.organization()
  const stream = await organization
    .client()
    .chat.completions.create({ ...SAID, model: sim('tokens=5,ending=error'), stream: true })
  await assert.rejects(readAll(stream), { type: 'server_error' })

  const row = await onlyRow(organization)
  assert.deepEqual([row.status, row.error_code, row.usage_source], ['failed', 'server_error', 'estimated'])
})

test('cut short by its limit is incomplete, and is paid for', async () => {
  for (const stream of [true, false]) {
    const organization = await system.organization()
    const answer = await organization.fetch('/v1/chat/completions', {
      method: 'POST',
      body: JSON.stringify({ ...SAID, stream, max_completion_tokens: 2 }),
    })
    assert.equal(answer.status, 200)
    await answer.text()

    const row = await onlyRow(organization)
    assert.deepEqual([row.status, row.error_code, row.usage_source], ['incomplete', 'length', 'reported'])
  }
})

test('usage that is missing or makes no sense is one row that says so, of every kind of answer', async () => {
  for (const usage of ['null', 'missing', 'negative', 'fractional', 'absurd', 'text']) {
    for (const isStream of [true, false]) {
      const organization = await system.organization()
      const answer = await organization.fetch('/v1/chat/completions', {
        method: 'POST',
        body: JSON.stringify({ ...SAID, model: sim(`usage=${usage}`), stream: isStream }),
      })
      const text = await answer.text()
      if (isStream) assert.ok(!text.includes('"usage"') && text.endsWith('data: [DONE]\n\n'), usage)

      const row = await onlyRow(organization)
      assert.deepEqual(
        [row.status, row.usage_source, row.input_tokens, row.cost_nano_usd],
        ['completed', 'unknown', null, null],
      )
      await assertSums(organization, [row])
    }
  }
})

test('a client that did not ask sees a chat stream as it is without asking, in pieces of any size and with any line ending', async () => {
  const organization = await system.organization()
  for (const behaviour of ['', 'chunk=1', 'chunk=7', 'eol=crlf', 'eol=cr,chunk=3', 'comments=2']) {
    const init = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        ...SAID,
        model: sim(`${behaviour},tokens=6`),
        stream: true,
        stream_options: { include_obfuscation: false },
      }),
    }
    const proxied = await organization.fetch('/v1/chat/completions', init)
    const headers = { ...init.headers, authorization: 'Bearer sk-direct' }
    const direct = await fetch(`${system.simulator.url}/chat/completions`, { ...init, headers })

    assert.equal(anonymous(await proxied.text()), anonymous(await direct.text()), behaviour)
  }
})

test('a chat stream that comes with its length is as long as what is left of it', async () => {
  const organization = await system.organization()
  const { syntheticKey: token } = await organization.createKey({ baseUrl: slowUrl })
  const body = JSON.stringify({ ...SAID, stream: true })
  const answer = await organization.fetch('/v1/chat/completions', { method: 'POST', body, token, userId: null })

  const text =
    'data: {"id":"chatcmpl-1","model":"gpt-4o-mini","choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
  assert.equal(await answer.text(), text)
  assert.equal((await onlyRow(organization)).usage_source, 'reported')
})

test('the options of a stream that a client sends go on beside ours, byte for byte', async () => {
  const organization = await system.organization()
  const body =
    '{"model":"gpt-4o-mini","stream":true, "stream_options" : {"include_obfuscation":false,"n":1.0},"messages":[]}'

  const answer = await organization.fetch('/v1/chat/completions', { method: 'POST', body })
  await answer.text()

  const sent = body.replace('"n":1.0}', '"n":1.0,"include_usage":true}')
  assert.equal(ledger.entries().at(-1)?.bodySha256, hash('sha256', sent))
})

test('a batch is metered once, when it has ended, however often it is asked for: half the price, by its requests', async () => {
  const organization = await system.organization()
  const openai = organization.client()
  const lines = ['hello', 'how are you', 'good bye'].map((content, index) => ({
    custom_id: `line-${index}`,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'gpt-4o-mini', messages: [{ role: 'user', content }] },
  }))
  const file = await toFile(Buffer.from(lines.map((line) => JSON.stringify(line)).join('\n')), 'batch.jsonl')
  const input = await openai.files.create({ purpose: 'batch', file })
  ledger.reset()

  const batch = await openai.batches.create({
    input_file_id: input.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  })
  const ended = await askUntil(
    () => openai.batches.retrieve(batch.id),
    ({ status }) => status === 'completed',
  )
  assert.equal(ended.status, 'completed')
  await askUntil(
    () => rowsOf(organization),
    (rows) => rows.length > 0,
  )
  for (let again = 0; again < 5; again += 1) await openai.batches.retrieve(batch.id)

  const used = ledger
    .entries()
    .flatMap(({ requestHeaders, usage }) => (requestHeaders['x-sim-batch'] && usage ? [usage] : []))
  assert.equal(used.length, 3)
  const row = await onlyRow(organization)
  assert.deepEqual(
    [row.endpoint, row.status, row.usage_source, row.service_tier, row.response_id],
    ['batches.create', 'completed', 'reported', 'batch', batch.id],
  )
  const sum = (name: 'input_tokens' | 'output_tokens') => used.reduce((total, one) => total + one[name], 0)
  assert.deepEqual([Number(row.input_tokens), Number(row.output_tokens)], [sum('input_tokens'), sum('output_tokens')])
  const full = used.reduce((total, one) => total + costOf(one, 'gpt-4o-mini-2024-07-18'), 0n)
  assert.equal(row.cost_nano_usd, String(full / 2n))
  await assertSums(organization, [row])
  assert.deepEqual(
    await system.query('select * from background_attempts where organization_id = $1', [organization.id]),
    [],
  )
})

test('a batch of long and short requests is priced by each of them, and again to the same', async () => {
  const organization = await system.organization()
  const openai = organization.client()
  const model = (input: number) => `sim:input=${input},tokens=10,model=gpt-6-sol`
  const lines = [300_000, 200_000, 200_000].map((input, index) => ({
    custom_id: `line-${index}`,
    method: 'POST',
    url: '/v1/responses',
    body: { model: model(input), input: 'hello' },
  }))
  const file = await toFile(Buffer.from(lines.map((line) => JSON.stringify(line)).join('\n')), 'batch.jsonl')
  const { id } = await openai.files.create({ purpose: 'batch', file })

  await openai.batches.create({ input_file_id: id, endpoint: '/v1/responses', completion_window: '24h' })

  const [row] = await askUntil(
    () => rowsOf(organization),
    (rows) => rows.length > 0,
  )
  // Nano-dollars: (300,000 * 4,000 + 10 * 15,000 + 400,000 * 2,000 + 20 * 10,000) / 2
  assert.deepEqual([row?.input_tokens, row?.output_tokens, row?.cost_nano_usd], ['700000', '30', '1000175000'])
  const day = { from: new Date(Date.now() - 86_400_000), to: new Date(Date.now() + 86_400_000), isDryRun: false }
  assert.equal((await repriceLedger(system.server.context, day)).changed, 0)
})

test('a batch whose client goes before it has its id is not lost', async () => {
  const organization = await system.organization()
  const { syntheticKey } = await organization.createKey({ baseUrl: slowUrl })
  const openai = organization.client({ apiKey: syntheticKey })
  const file = await toFile(Buffer.from(JSON.stringify(SLOW_LINE)), 'batch.jsonl')
  const { id } = await openai.files.create({ purpose: 'batch', file })
  const leaving = new AbortController()
  const asked = openai.batches.create(
    { input_file_id: id, endpoint: '/v1/embeddings', completion_window: '24h' },
    { signal: leaving.signal },
  )
  const held = await askUntil(
    async () => slowAnswers[0],
    (answer) => answer !== undefined,
  )

  leaving.abort()
  await assert.rejects(asked)
  // What comes behind the hanging up has been seen behind it.
  await openai.files.retrieve(id)
  held?.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(SLOW_BATCH))

  const rows = await askUntil(
    () => rowsOf(organization),
    (found) => found.length > 0,
  )
  assert.deepEqual(
    rows.map((row) => [row.status, row.response_id, row.input_tokens, row.cost_nano_usd]),
    [['completed', SLOW_BATCH.id, '100', '1000']],
  )
})

test('a batch that nobody asks for again is metered all the same', async () => {
  const organization = await system.organization()
  const openai = organization.client()
  const line = {
    custom_id: 'a',
    method: 'POST',
    url: '/v1/embeddings',
    body: { model: 'text-embedding-3-small', input: 'x'.repeat(400) },
  }
  const file = await toFile(Buffer.from(JSON.stringify(line)), 'batch.jsonl')
  const input = await openai.files.create({ purpose: 'batch', file })

  await openai.batches.create({ input_file_id: input.id, endpoint: '/v1/embeddings', completion_window: '24h' })

  const [row] = await askUntil(
    () => rowsOf(organization),
    (rows) => rows.length > 0,
  )
  assert.deepEqual([row?.input_tokens, row?.output_tokens, row?.cost_nano_usd], ['100', '0', '1000']) // 100 * 20 / 2
})

interface Row {
  endpoint: string
  status: string
  error_code: string | null
  usage_source: string
  is_stream: boolean
  user_id: string | null
  api_key_id: string
  model_used: string | null
  service_tier: string | null
  response_id: string | null
  input_tokens: string | null
  cached_tokens: string | null
  output_tokens: string | null
  reasoning_tokens: string | null
  total_tokens: string | null
  cost_nano_usd: string | null
}

function rowsOf(organization: TestOrganization): Promise<Row[]> {
  return system.query<Row & Record<string, unknown>>('select * from attempts where organization_id = $1', [
    organization.id,
  ])
}

async function onlyRow(organization: TestOrganization): Promise<Row> {
  const rows = await rowsOf(organization)
  assert.equal(rows.length, 1)
  return rows[0] as Row
}

function tokensOf(row: Row) {
  const { input_tokens, cached_tokens, output_tokens, reasoning_tokens, total_tokens } = row
  return [input_tokens, cached_tokens, output_tokens, reasoning_tokens, total_tokens].map(Number)
}

function expectedTokens({ input_tokens, cached_tokens, output_tokens, reasoning_tokens }: Used) {
  return [input_tokens, cached_tokens, output_tokens, reasoning_tokens, input_tokens + output_tokens]
}

/** The sums by user, by key and of the organization are what the rows add up to. */
async function assertSums(organization: TestOrganization, rows: readonly Row[]): Promise<void> {
  const sum = (name: 'input_tokens' | 'output_tokens' | 'cost_nano_usd') =>
    String(rows.reduce((total, row) => total + BigInt(row[name] ?? 0), 0n))
  const expected = {
    requests: String(rows.length),
    unpriced: String(rows.filter(({ cost_nano_usd }) => cost_nano_usd === null).length),
    input: sum('input_tokens'),
    output: sum('output_tokens'),
    cost: sum('cost_nano_usd'),
  }
  const { user_id, api_key_id } = rows[0] as Row
  for (const [column, id] of [
    ['user_id', user_id],
    ['api_key_id', api_key_id],
    ['organization_id', organization.id],
  ] as const) {
    const sums = await system.query(
      `select sum(request_count)::text as requests, sum(unpriced_count)::text as unpriced, sum(input_tokens)::text as input,
         sum(output_tokens)::text as output, sum(cost_nano_usd)::text as cost
       from usage_daily where organization_id = $1 and ${column} = $2`,
      [organization.id, id],
    )
    assert.deepEqual(sums, [expected], column)
  }
}

async function readAll<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const one of stream) all.push(one)
  return all
}

async function readBytes(answer: Response): Promise<number> {
  return (await answer.arrayBuffer()).byteLength
}

/** Without what differs from call to call. */
function anonymous(stream: string): string {
  return stream.replaceAll(/chatcmpl-\w+/g, 'id').replaceAll(/"created":\d+/g, '"created":0')
}
