import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, test } from 'node:test'
import { Agent, OpenAIProvider, Runner, setTracingDisabled } from '@openai/agents'
import OpenAI from 'openai'
import { WebSocket } from 'ws'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
after(() => simulator[Symbol.asyncDispose]())

type Event = Record<string, unknown> & { type: string; response?: { id: string; status: string; output: unknown[] } }

/** A connection as a queue: `until` takes events from it up to one of a kind. */
async function connect(path = '/responses', headers: Record<string, string> = { authorization: 'Bearer sk-test' }) {
  const socket = new WebSocket(`${simulator.url.replace('http', 'ws')}${path}`, { headers })
  const received: Event[] = []
  let arrived = () => {}
  socket.on('message', (data) => {
    received.push(JSON.parse(String(data)))
    arrived()
  })
  await once(socket, 'open')
  return {
    send: (frame: unknown) => socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame)),
    async until(...types: string[]): Promise<Event[]> {
      for (;;) {
        const index = received.findIndex(({ type }) => types.includes(type))
        if (index >= 0) return received.splice(0, index + 1)
        await new Promise<void>((resolve) => {
          arrived = resolve
        })
      }
    },
    [Symbol.dispose]: () => socket.terminate(),
  }
}

const create = { type: 'response.create', model: 'gpt-5', input: 'hello' }

test('one socket serves several responses, each with its own end and entry', { timeout: 20_000 }, async () => {
  simulator.ledger.reset()
  using socket = await connect()
  socket.send({ ...create, store: false })
  const first = (await socket.until('response.completed')).at(-1)
  socket.send({ ...create, input: 'again', previous_response_id: first?.response?.id })
  const events = await socket.until('response.completed')

  assert.equal(events[0]?.type, 'response.created')
  assert.match(JSON.stringify(events.at(-1)), /Before that you said: hello/)
  await simulator.ledger.idle()
  const entries = simulator.ledger.entries()
  assert.deepEqual(
    entries.map(({ method, status }) => [method, status]),
    [
      ['GET', 101],
      ['response.create', 200],
      ['response.create', 200],
    ],
  )
  assert.partialDeepStrictEqual(entries[1], {
    transport: 'websocket',
    usage: { input_tokens: 2, output_tokens: 3 },
    finished: true,
  })
})

test('lanes run side by side, and say which they are', { timeout: 20_000 }, async () => {
  using socket = await connect()
  socket.send({ ...create, model: 'sim:stall_after=1', stream_id: 'slow' })
  socket.send({ ...create, stream_id: 'fast' })
  const events = await socket.until('response.completed')

  assert.equal(events.at(-1)?.stream_id, 'fast')
  assert.deepEqual(
    events.filter(({ stream_id }) => stream_id === 'slow').map(({ type }) => type),
    ['response.created'],
  )
})

test('a warm-up has no output, and is something to continue from even when it is not stored', {
  timeout: 20_000,
}, async () => {
  using socket = await connect()
  socket.send({ ...create, generate: false, store: false })
  const warm = (await socket.until('response.completed')).at(-1)?.response
  socket.send({ ...create, previous_response_id: warm?.id })
  await socket.until('response.completed')

  assert.deepEqual(warm?.output, [])
  using other = await connect()
  other.send({ ...create, previous_response_id: warm?.id })
  const [error] = await other.until('error')
  assert.partialDeepStrictEqual(error, { status: 400, error: { code: 'previous_response_not_found' } })
})

test('what can not be served is told in a frame, and the socket lives on', { timeout: 20_000 }, async () => {
  using socket = await connect()
  const errorOf = async (frame: unknown) => {
    socket.send(frame)
    return ((await socket.until('error')).at(-1) as { status?: number }).status
  }

  assert.equal(await errorOf('no JSON'), 400)
  assert.equal(await errorOf({ type: 'response.frobnicate' }), 400)
  assert.equal(await errorOf({ ...create, background: true }), 400)
  assert.equal(await errorOf({ ...create, model: 'sim:status=429' }), 429)
  socket.send(create)
  assert.ok(await socket.until('response.completed'))
})

test('steering ends a response early and begins another with the new input', { timeout: 20_000 }, async () => {
  using socket = await connect()
  socket.send({ ...create, model: 'sim:tokens=2000,tps=200' })
  const before = await socket.until('response.output_text.delta')
  const previous_response_id = before[0]?.response?.id
  socket.send({ type: 'response.steer', previous_response_id, input: 'rather the weather' })
  const steered = await socket.until('response.incomplete')
  const [created] = await socket.until('response.created')

  assert.ok(steered.some(({ type }) => type === 'response.steer.accepted'))
  assert.partialDeepStrictEqual(steered.at(-1), { response: { incomplete_details: { reason: 'steered' } } })
  assert.partialDeepStrictEqual(created, { response: { previous_response_id } })
  socket.send({ type: 'response.steer', previous_response_id: 'resp_none', input: 'x' })
  const failed = (await socket.until('response.steer.failed')).at(-1)
  assert.partialDeepStrictEqual(failed, { error: { code: 'response_not_found' } })
})

test('the Agents SDK talks over a socket, turn after turn', { timeout: 20_000 }, async () => {
  setTracingDisabled(true)
  const options = { apiKey: 'sk-test', baseURL: simulator.url, useResponses: true, useResponsesWebSocket: true }
  const modelProvider = new OpenAIProvider(options)
  const runner = new Runner({ modelProvider })
  const agent = new Agent({ name: 'Assistant', model: 'gpt-5' })
  const first = await runner.run(agent, 'ping')
  const second = await runner.run(agent, 'pong', { previousResponseId: first.lastResponseId ?? '' })
  await modelProvider.close()

  assert.equal(second.finalOutput, 'You said: pong Before that you said: ping')
})

test('a socket is refused without a key, with a wrong one, elsewhere, and when sockets are switched off', async () => {
  const statusOf = async (path: string, authorization?: string) => {
    const socket = new WebSocket(
      `${simulator.url.replace('http', 'ws')}${path}`,
      authorization ? { headers: { authorization } } : {},
    )
    const [request, answer] = await once(socket, 'unexpected-response')
    request.destroy()
    return answer.statusCode
  }

  assert.equal(await statusOf('/responses'), 401)
  assert.equal(await statusOf('/responses', 'Bearer sk-invalid'), 401)
  assert.equal(await statusOf('/files', 'Bearer sk-test'), 404)
  simulator.refuseUpgradesWith = 426
  assert.equal(await statusOf('/responses', 'Bearer sk-test'), 426)
  simulator.refuseUpgradesWith = null
})

test('a realtime session answers with its usage, also to a client secret', { timeout: 20_000 }, async () => {
  const secret = await client.realtime.clientSecrets.create({ session: { type: 'realtime', instructions: 'Be kind.' } })
  using socket = await connect('/realtime?model=gpt-realtime-2', { authorization: `Bearer ${secret.value}` })
  const item = { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'hello' }] }
  socket.send({ type: 'session.update', session: { instructions: 'Be brief.' } })
  socket.send({ type: 'conversation.item.create', item })
  socket.send({ type: 'response.create' })
  const events = await socket.until('response.done')

  assert.match(secret.value, /^ek_/)
  assert.equal(events[0]?.type, 'session.created')
  assert.partialDeepStrictEqual(events.at(-1), { response: { usage: { input_tokens: 4, output_tokens: 3 } } })
})
