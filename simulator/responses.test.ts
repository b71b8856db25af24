import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import OpenAI from 'openai'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
after(() => simulator[Symbol.asyncDispose]())

const WEATHER = {
  type: 'function' as const,
  name: 'get_weather',
  strict: true,
  parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer', minimum: 3 } } },
}

test('an answer is a whole response object, from the snapshot that answered', async () => {
  const response = await client.responses.create({
    model: 'gpt-4o-mini',
    input: 'What is the capital of France?',
    instructions: 'Be brief.',
    metadata: { team: 'blue' },
    service_tier: 'flex',
  })

  assert.equal(response.output_text, 'The capital of France is Paris.')
  assert.equal(response.model, 'gpt-4o-mini-2024-07-18')
  assert.equal(response.status, 'completed')
  assert.equal(response.instructions, 'Be brief.')
  assert.deepEqual(response.metadata, { team: 'blue' })
  assert.equal(response.service_tier, 'flex')
  assert.match(response.id, /^resp_[0-9a-f]{48}$/)
})

test('tokens are a quarter of the characters in, and one per word out', async () => {
  const { usage } = await client.responses.create({
    model: 'sim:cached=3,cache_write=2,reasoning=7',
    input: [{ role: 'user', content: [{ type: 'input_text', text: 'one two three four five six' }] }],
    instructions: 'abc',
  })

  assert.deepEqual(usage, {
    input_tokens: Math.ceil((27 + 3) / 4),
    input_tokens_details: { cached_tokens: 3, cache_write_tokens: 2 },
    output_tokens: 8 + 7,
    output_tokens_details: { reasoning_tokens: 7 },
    total_tokens: 8 + 15,
  })
})

test('the service tier is the one that served', async () => {
  const tierOf = async (service_tier?: 'auto' | 'priority' | 'fast') =>
    (await client.responses.create({ model: 'gpt-5', input: 'x', ...(service_tier && { service_tier }) })).service_tier

  assert.equal(await tierOf(), 'default')
  assert.equal(await tierOf('auto'), 'default')
  assert.equal(await tierOf('priority'), 'priority')
  assert.equal(await tierOf('fast'), 'priority')
})

test('an answer that does not fit max_output_tokens is incomplete', async () => {
  const response = await client.responses.create({ model: 'gpt-5', input: 'a b c d e f', max_output_tokens: 3 })

  assert.equal(response.status, 'incomplete')
  assert.deepEqual(response.incomplete_details, { reason: 'max_output_tokens' })
  assert.equal(response.usage?.output_tokens, 3)
  assert.equal(response.output_text, 'You said: a')
})

test('a stream brings the events in their order, numbered, and the response only at the end complete', async () => {
  const stream = await client.responses.create({ model: 'gpt-5', input: 'hello', stream: true })
  const events = await Array.fromAsync(stream)

  assert.deepEqual(
    events.map(({ type }) => type.replace('response.', '')),
    [
      'created',
      'in_progress',
      'output_item.added',
      'content_part.added',
      ...Array(3).fill('output_text.delta'),
      'output_text.done',
      'content_part.done',
      'output_item.done',
      'completed',
    ],
  )
  assert.deepEqual(
    events.map((event) => event.sequence_number),
    events.map((_, index) => index),
  )
  const [first, last] = [events[0], events.at(-1)]
  assert.ok(first?.type === 'response.created' && last?.type === 'response.completed')
  assert.equal(first.response.usage, null)
  assert.equal(last.response.usage?.output_tokens, 3)
  assert.equal(last.response.id, first.response.id)
})

test('the helper of the SDK puts a stream together to the same response as without streaming', async () => {
  const final = await client.responses.stream({ model: 'gpt-5', input: 'hello there' }).finalResponse()
  const plain = await client.responses.create({ model: 'gpt-5', input: 'hello there' })

  assert.equal(final.output_text, 'You said: hello there')
  assert.equal(final.output_text, plain.output_text)
  assert.deepEqual(final.usage, plain.usage)
})

test('deltas are padded unless the request says no', async () => {
  const deltasOf = async (include_obfuscation: boolean) => {
    const stream = await client.responses.create({
      model: 'gpt-5',
      input: 'hello',
      stream: true,
      stream_options: { include_obfuscation },
    })
    return (await Array.fromAsync(stream)).filter(({ type }) => type === 'response.output_text.delta')
  }

  for (const delta of await deltasOf(true)) {
    assert.ok(delta.type === 'response.output_text.delta' && 'obfuscation' in delta)
    assert.equal((delta.delta.length + String(delta.obfuscation).length) % 16, 0)
  }
  assert.ok((await deltasOf(false)).every((delta) => !('obfuscation' in delta)))
})

test('a required tool is called with arguments that fit its schema, streamed or not', async () => {
  const request = { model: 'gpt-5', input: 'weather?', tools: [WEATHER], tool_choice: 'required' as const }
  const plain = await client.responses.create(request)
  const streamed = await client.responses.stream(request).finalResponse()

  for (const { output } of [plain, streamed]) {
    const [call] = output
    assert.ok(call?.type === 'function_call')
    assert.equal(call.name, 'get_weather')
    assert.deepEqual(JSON.parse(call.arguments), { city: 'sample', days: 3 })
    assert.match(call.call_id, /^call_/)
  }
})

test('sim-tool calls a tool until its output has come, then answers', async () => {
  const first = await client.responses.create({ model: 'sim-tool', input: 'weather?', tools: [WEATHER] })
  const [call] = first.output
  assert.ok(call?.type === 'function_call')
  const second = await client.responses.create({
    model: 'sim-tool',
    tools: [WEATHER],
    previous_response_id: first.id,
    input: [{ type: 'function_call_output', call_id: call.call_id, output: 'sunny' }],
  })

  assert.match(second.output_text, /sunny/)
})

test('structured output fits the schema', async () => {
  const schema = {
    type: 'object',
    properties: { mood: { enum: ['good', 'bad'] }, tags: { type: 'array', items: { $ref: '#/$defs/tag' } } },
    $defs: { tag: { type: 'string' } },
  }
  const response = await client.responses.create({
    model: 'gpt-5',
    input: 'how?',
    text: { format: { type: 'json_schema', name: 'mood', schema } },
  })

  assert.deepEqual(JSON.parse(response.output_text), { mood: 'good', tags: ['sample'] })
})

test('a follow-up remembers, and pays for, what was said before', async () => {
  const first = await client.responses.create({ model: 'gpt-5', input: 'my name is Ada' })
  const second = await client.responses.create({ model: 'gpt-5', input: 'hm', previous_response_id: first.id })

  assert.match(second.output_text, /my name is Ada/)
  assert.equal(second.usage?.input_tokens, Math.ceil((14 + first.output_text.length + 2) / 4))
  assert.equal(second.previous_response_id, first.id)
})

test('a stored response can be read, listed and deleted, by its own project only', async () => {
  const stranger = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-proj-other-1', maxRetries: 0 })
  const { id } = await client.responses.create({ model: 'gpt-5', input: 'keep me' })

  assert.equal((await client.responses.retrieve(id)).output_text, 'You said: keep me')
  const items = await client.responses.inputItems.list(id)
  assert.deepEqual(items.data[0]?.type === 'message' && items.data[0].content, [
    { type: 'input_text', text: 'keep me' },
  ])
  await assert.rejects(stranger.responses.retrieve(id), OpenAI.NotFoundError)
  await client.responses.delete(id)
  await assert.rejects(client.responses.retrieve(id), OpenAI.NotFoundError)
})

test('input items come in pages', async () => {
  const words = ['a', 'b', 'c', 'd', 'e']
  const { id } = await client.responses.create({
    model: 'gpt-5',
    input: words.map((content) => ({ role: 'user', content })),
  })
  const seen: string[] = []
  for await (const item of client.responses.inputItems.list(id, { limit: 2, order: 'asc' })) {
    if (item.type === 'message' && item.content[0]?.type === 'input_text') seen.push(item.content[0].text)
  }

  assert.deepEqual(seen, words)
})

test('what must not be stored is not', async () => {
  const { id } = await client.responses.create({ model: 'gpt-5', input: 'forget me', store: false })

  await assert.rejects(client.responses.retrieve(id), OpenAI.NotFoundError)
  await assert.rejects(client.responses.create({ model: 'gpt-5', input: 'x', previous_response_id: id }), {
    status: 400,
    code: 'previous_response_not_found',
    param: 'previous_response_id',
  })
})

test('input tokens are counted as they would be billed', async () => {
  const request = { model: 'gpt-5', input: 'twelve chars', instructions: 'ab' }
  const counted = await client.responses.inputTokens.count(request)

  assert.equal(counted.input_tokens, (await client.responses.create(request)).usage?.input_tokens)
})

test('compaction is billed', async () => {
  const compacted = await client.responses.compact({ model: 'gpt-5', input: 'a long story' })

  assert.equal(compacted.object, 'response.compaction')
  assert.deepEqual([compacted.usage.input_tokens, compacted.usage.output_tokens], [3, 10])
})
