import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import OpenAI from 'openai'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
after(() => simulator[Symbol.asyncDispose]())

const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }]

test('a chat completion has an answer and its usage', async () => {
  const completion = await client.chat.completions.create({ model: 'gpt-4o-mini', messages })

  assert.equal(completion.choices[0]?.message.content, 'The capital of France is Paris.')
  assert.equal(completion.model, 'gpt-4o-mini-2024-07-18')
  assert.deepEqual([completion.usage?.prompt_tokens, completion.usage?.completion_tokens], [8, 6])
})

test('a chat stream tells usage only when asked', async () => {
  const chunksOf = async (include_usage: boolean) =>
    Array.fromAsync(
      await client.chat.completions.create({
        model: 'gpt-4o',
        messages,
        stream: true,
        stream_options: { include_usage },
      }),
    )
  const [without, asked] = [await chunksOf(false), await chunksOf(true)]

  assert.ok(without.every((chunk) => !('usage' in chunk)))
  assert.equal(
    without.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''),
    'The capital of France is Paris.',
  )
  assert.deepEqual(asked.at(-1)?.choices, [])
  assert.equal(asked.at(-1)?.usage?.total_tokens, 14)
  await simulator.ledger.idle()
  assert.partialDeepStrictEqual(simulator.ledger.entries().at(-1), { usage: { output_tokens: 6 }, terminalSent: true })
})

test('a chat stream ends with [DONE] and has no event lines', async () => {
  const answer = await fetch(`${simulator.url}/chat/completions`, {
    method: 'POST',
    headers: { authorization: 'Bearer sk-test' },
    body: JSON.stringify({ model: 'gpt-4o', messages, stream: true, max_tokens: 2 }),
  })
  const text = await answer.text()

  assert.ok(text.endsWith('"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'))
  assert.ok(!text.includes('event:'))
})

test('a tool is called until its output has come, and an answer has the form asked for', async () => {
  const tools = [{ type: 'function' as const, function: { name: 'look', parameters: { type: 'object' } } }]
  const called = await client.chat.completions.create({ model: 'sim-tool', messages, tools })
  const runner = client.chat.completions.stream({ model: 'sim-tool', messages, tools })
  const output = { role: 'tool' as const, tool_call_id: 'call_1', content: 'nothing there' }
  const after = await client.chat.completions.create({ model: 'sim-tool', messages: [...messages, output], tools })
  const schema = { type: 'object', properties: { city: { type: 'string' } } }
  const formed = await client.chat.completions.create({
    model: 'gpt-4o',
    messages,
    response_format: { type: 'json_schema', json_schema: { name: 'place', schema } },
  })

  assert.partialDeepStrictEqual(called.choices[0], {
    finish_reason: 'tool_calls',
    message: { tool_calls: [{ function: { name: 'look', arguments: '{}' } }] },
  })
  const streamed = (await runner.finalChatCompletion()).choices[0]
  assert.partialDeepStrictEqual(streamed?.message.tool_calls?.[0], { function: { name: 'look', arguments: '{}' } })
  assert.equal(after.choices[0]?.message.content, 'You said: nothing there')
  assert.equal(formed.choices[0]?.message.content, '{"city":"sample"}')
})

test('what was said aloud can be named when the conversation goes on', async () => {
  const audio = { voice: 'alloy' as const, format: 'mp3' as const }
  const ask = { model: 'gpt-4o-audio-preview', modalities: ['text' as const, 'audio' as const], audio }
  const said = (await client.chat.completions.create({ ...ask, messages })).choices[0]?.message.audio
  const next = (id: string) =>
    client.chat.completions.create({
      model: 'gpt-4o',
      messages: [...messages, { role: 'assistant', audio: { id } }, { role: 'user', content: 'Again?' }],
    })

  assert.equal(said?.transcript, 'The capital of France is Paris.')
  assert.match((await next(said.id)).choices[0]?.message.content ?? '', /I found: The capital of France is Paris\./)
  await assert.rejects(next('audio_none'), { status: 404 })
})

test('embeddings are unit vectors, the same for the same text, in both encodings', async () => {
  const embed = async (input: string | string[], encoding_format?: 'float') =>
    client.embeddings.create({ model: 'text-embedding-3-small', input, ...(encoding_format && { encoding_format }) })
  const [base64, float] = [await embed('hello'), await embed(['hello', 'world'], 'float')]

  const [hello, world] = float.data.map(({ embedding }) => embedding)
  assert.deepEqual(Array.from(base64.data[0]?.embedding ?? []), hello)
  assert.notDeepEqual(hello, world)
  assert.equal(hello?.length, 1536)
  assert.ok(Math.abs(Math.hypot(...(hello ?? [])) - 1) < 1e-6)
  assert.deepEqual(float.usage, { prompt_tokens: 3, total_tokens: 3 })
})
