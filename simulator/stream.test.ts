import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import OpenAI from 'openai'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0, logLevel: 'off' })
after(() => simulator[Symbol.asyncDispose]())

function open(model: string, signal?: AbortSignal): Promise<Response> {
  return fetch(`${simulator.url}/responses`, {
    method: 'POST',
    headers: { authorization: 'Bearer sk-test' },
    body: JSON.stringify({ model, input: 'hello', stream: true }),
    ...(signal && { signal }),
  })
}

async function textOf(model: string): Promise<string> {
  return (await open(model)).text()
}

async function typesOf(model: string): Promise<string[]> {
  const stream = await client.responses.create({ model, input: 'hello', stream: true })
  return (await Array.fromAsync(stream)).map(({ type }) => type)
}

async function lastEntry() {
  await simulator.ledger.idle()
  const entry = simulator.ledger.entries().at(-1)
  assert.ok(entry)
  return entry
}

test('a generation fails, is cut short or breaks with an error event on request', async () => {
  assert.equal((await typesOf('sim:ending=failed,code=rate_limit_exceeded')).at(-1), 'response.failed')
  assert.equal((await typesOf('sim:ending=incomplete,reason=content_filter')).at(-1), 'response.incomplete')
  await assert.rejects(typesOf('sim:ending=error'), OpenAI.APIError)
  assert.match(
    await textOf('sim:ending=error'),
    /event: error\ndata: \{"type":"error",.*"code":"server_error".*\}\n\n$/,
  )
})

test('a generation has as many tokens as asked for', async () => {
  const response = await client.responses.stream({ model: 'sim:tokens=500', input: 'x' }).finalResponse()

  assert.equal(response.usage?.output_tokens, 500)
  assert.equal(response.output_text.split(/\s+/).length, 500)
})

test('a paced generation sends each delta on its own', async () => {
  const { body } = await open('sim:tokens=5,tps=200')
  const chunks: string[] = []
  for await (const chunk of body?.pipeThrough(new TextDecoderStream()) ?? []) chunks.push(chunk)

  assert.ok(chunks.filter((chunk) => chunk.includes('output_text.delta')).length >= 3)
})

test('line endings, comments, keepalives and missing event lines are all read as the same answer', async () => {
  for (const spec of ['eol=crlf', 'comments', 'keepalive=2', 'no_event_lines', 'done', 'chunk=7']) {
    const response = await client.responses.stream({ model: `sim:${spec}`, input: 'hello' }).finalResponse()
    assert.equal(response.output_text, 'You said: hello', spec)
  }
})

test('the bytes are as asked for', async () => {
  const crlf = await textOf('sim:eol=crlf')
  assert.ok(crlf.endsWith('}\r\n\r\n') && !/[^\r]\n/.test(crlf))
  const cr = await textOf('sim:eol=cr')
  assert.ok(cr.endsWith('}\r\r') && !cr.includes('\n'))
  assert.ok(!(await textOf('sim:no_event_lines')).includes('event:'))
  assert.ok((await textOf('sim:done')).endsWith('data: [DONE]\n\n'))
  assert.ok((await textOf('sim:comments')).startsWith(': ping\n\nevent: response.created\n'))
  assert.match(await textOf('sim:keepalive'), /data: \{"type":"keepalive","sequence_number":4\}\n/)
  assert.ok(!(await textOf('gpt-5')).includes('[DONE]'))
})

test('a stream can end cleanly without a terminal event', async () => {
  const text = await textOf('sim:end_after=5')

  assert.equal(text.match(/^event: /gm)?.length, 5)
  const entry = await lastEntry()
  assert.deepEqual([entry.finished, entry.terminalSent, entry.usage?.output_tokens], [true, false, 1])
})

test('a reset breaks a stream at that byte', async () => {
  await assert.rejects(textOf('sim:reset=1500'), TypeError)

  const entry = await lastEntry()
  assert.deepEqual([entry.bytesSent, entry.finished, entry.clientClosed], [1500, false, false])
})

test('broken events are no answer', async () => {
  await assert.rejects(typesOf('sim:garbage'))
})

test('a huge event arrives whole', async () => {
  const response = await client.responses.stream({ model: 'sim:huge=3000000', input: 'x' }).finalResponse()

  assert.ok(response.output_text.startsWith('x'.repeat(3_000_000)))
})

test('a stalled stream says nothing more, and ends when the client goes', async () => {
  const abort = new AbortController()
  const { body } = await open('sim:stall_after=6', abort.signal)
  const reader = body?.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!text.includes('"delta":" said:"')) text += (await reader?.read())?.value ?? ''
  abort.abort()

  const entry = await lastEntry()
  assert.equal(entry.clientClosed, true)
  assert.equal(entry.usage?.output_tokens, 2)
})

test('nothing is generated for a client that has gone', async () => {
  const stream = await client.responses.create({ model: 'sim:tokens=100000,tps=100', input: 'x', stream: true })
  for await (const event of stream) if (event.type === 'response.output_text.delta') break

  const entry = await lastEntry()
  assert.deepEqual([entry.clientClosed, entry.terminalSent, entry.finished], [true, false, false])
  assert.ok(entry.usage && entry.usage.output_tokens > 0 && entry.usage.output_tokens < 1000)
})

test('nothing is generated ahead of a client that does not read', async () => {
  const abort = new AbortController()
  await open('sim:tokens=1000000', abort.signal)
  // Two answers to other calls: the generation has had its turns meanwhile, and must have stopped at a full socket.
  await textOf('gpt-5')
  await textOf('gpt-5')
  const entry = simulator.ledger.entries().at(-3)
  abort.abort()
  await simulator.ledger.idle()

  assert.ok(entry?.usage && entry.usage.output_tokens < 500_000)
  assert.equal(entry.clientClosed, true)
})

test('three hundred slow streams at once all come to their end', async () => {
  const texts = await Promise.all(Array.from({ length: 300 }, () => textOf('sim:tokens=20,tps=100')))

  assert.ok(texts.every((text) => text.includes('event: response.completed\n')))
})
