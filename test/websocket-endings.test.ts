/** How WebSockets end: limits, shutdown, ends that vanish, and an OpenAI that does what it should not. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { type WebSocket, WebSocketServer } from 'ws'
import { readConfig } from '../src/config.ts'
import { serve } from '../src/serve.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { openRaw, rawHead, readToEnd, readUntil, until } from './raw-client.ts'
import { connectSocket, refusalOf } from './socket-client.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

/** An OpenAI whose every event a test writes itself. */
const odd = createServer()
const oddSockets = new WebSocketServer({ server: odd })
await new Promise<void>((resolve) => odd.listen(0, '127.0.0.1', resolve))
const oddUrl = `http://127.0.0.1:${(odd.address() as AddressInfo).port}`
stack.defer(() => {
  for (const socket of oddSockets.clients) socket.terminate()
  odd.close()
})

const system = await startSystem()
const create = { type: 'response.create', model: 'gpt-4o-mini', input: 'hello' }
const slow = { ...create, model: 'sim:tokens=9000,tps=100,model=gpt-4o-mini' }

test('a server that stops lets responses end, tells new frames so, and closes with 1012; idle sockets go at once', async () => {
  const organization = await system.organization()
  const { url, server } = await startServer({ SHUTDOWN_TIMEOUT: '30' })
  using idle = await connectSocket(url, organization)
  using busy = await connectSocket(url, organization)

  busy.send({ ...create, model: 'sim:tokens=300,tps=150,model=gpt-4o-mini', stream_id: 'first' })
  await busy.until('response.output_text.delta')
  const stopped = server.stop()
  assert.equal(await idle.closed, 1012)
  busy.send({ ...create, stream_id: 'second' })
  const refused = (await busy.until('error')).at(-1)
  await busy.until('response.completed', 'first')

  assert.equal(await busy.closed, 1012)
  await stopped
  assert.partialDeepStrictEqual(refused, { status: 503, error: { code: 'shutting_down' }, stream_id: 'second' })
  const rows = await rowsOf(organization)
  assert.deepEqual(
    rows.map(({ status, output_tokens }) => [status, output_tokens]),
    [['completed', '300']],
  )
})

test('what is not over at the deadline is cut: the client is told, and each response is a row', async () => {
  const organization = await system.organization()
  const { url, server } = await startServer({ SHUTDOWN_TIMEOUT: '0.3' })
  using socket = await connectSocket(url, organization)

  for (const stream_id of ['a', 'b']) socket.send({ ...slow, stream_id })
  for (const stream_id of ['a', 'b']) await socket.until('response.output_text.delta', stream_id)
  await server.stop()

  assert.equal(await socket.closed, 1012)
  const errors = socket.received.map((text) => JSON.parse(text)).filter(({ type }) => type === 'error')
  assert.deepEqual(
    errors.map(({ error, stream_id }) => [error.code, stream_id]),
    [
      ['shutting_down', 'a'],
      ['shutting_down', 'b'],
    ],
  )
  const rows = await rowsOf(organization)
  assert.deepEqual(
    rows.map(({ status, error_code, usage_source }) => [status, error_code, usage_source]),
    [
      ['upstream_error', 'shutting_down', 'estimated'],
      ['upstream_error', 'shutting_down', 'estimated'],
    ],
  )
})

test('an organization has as many sockets as it may, others are not touched, and one that is closed makes room', async () => {
  const [organization, other] = [await system.organization(), await system.organization()]
  const { url } = await startServer({ MAX_WEBSOCKETS_PER_ORGANIZATION: '2' })
  using first = await connectSocket(url, organization)
  using _second = await connectSocket(url, organization)

  const refused = await refusalOf(url, organization)
  using _others = await connectSocket(url, other)
  first.socket.close()
  await until('there is room', async () => (await refusalOf(url, organization)).status === 101)

  assert.deepEqual([refused.status, refused.error?.code, refused.headers['retry-after']], [429, 'rate_limited', '1'])
})

test('responses on sockets count as requests: more than the organization may have at one time are refused one by one', async () => {
  const organization = await system.organization()
  const { url } = await startServer({ MAX_CONCURRENT_REQUESTS_PER_ORGANIZATION: '2' })
  using socket = await connectSocket(url, organization)

  for (const stream_id of ['a', 'b', 'c']) socket.send({ ...slow, stream_id })
  const refused = (await socket.until('error')).at(-1)
  socket.socket.terminate()
  using next = await connectSocket(url, organization)
  await until('there is room again', async () => {
    next.send(create)
    return (await next.until(['error', 'response.completed'])).at(-1)?.type === 'response.completed'
  })

  assert.partialDeepStrictEqual(refused, {
    status: 429,
    error: { code: 'too_many_concurrent_requests' },
    stream_id: 'c',
  })
})

test('a socket on which nothing happens is closed with 1001, one with a response under way is not', async () => {
  const organization = await system.organization()
  const { url } = await startServer({ WEBSOCKET_IDLE_TIMEOUT: '0.5' })
  using busy = await connectSocket(url, organization)
  using idle = await connectSocket(url, organization)

  busy.send({ ...create, model: 'sim:first=1500,model=gpt-4o-mini' })

  assert.equal(await idle.closed, 1001)
  await busy.until('response.completed')
  assert.equal(await busy.closed, 1001)
})

test('a client that is gone without a goodbye is found out by its silence to pings', async () => {
  const organization = await system.organization()
  const { url, server } = await startServer({ WEBSOCKET_PING_INTERVAL: '0.3' })
  const head = rawHead('GET /v1/responses', {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version': 13,
  })

  const socket = await openRaw(server.port, head)
  await readUntil(socket, '101')
  await readToEnd(socket)

  using alive = await connectSocket(url, organization)
  alive.send({ ...create, model: 'sim:first=1500,model=gpt-4o-mini' })
  await alive.until('response.completed')
})

test('an OpenAI that is gone without a goodbye is found out, and the response under way is told', async () => {
  const organization = await system.organization()
  const { url } = await startServer({ WEBSOCKET_PING_INTERVAL: '0.3', OPENAI_API_BASE_URL: `${oddUrl}/v1` })
  using socket = await connectSocket(url, organization)
  socket.send(create)
  const upstream = await oddSocket()
  upstream.pause()

  const error = (await socket.until('error')).at(-1)
  assert.equal(error?.error?.code, 'upstream_unreachable')
  assert.equal(await socket.closed, 1011)
  assert.deepEqual(
    (await rowsOf(organization)).map(({ status }) => status),
    ['upstream_error'],
  )
})

test('a response that does not move is given up after its time', async () => {
  const organization = await system.organization()
  const { url } = await startServer({ WEBSOCKET_PING_INTERVAL: '0.3', OPENAI_IDLE_TIMEOUT: '0.6' })
  using socket = await connectSocket(url, organization)

  socket.send({ ...create, model: 'sim:stall_after=3,model=gpt-4o-mini' })
  const error = (await socket.until('error')).at(-1)

  assert.partialDeepStrictEqual(error, { status: 504, error: { code: 'upstream_timeout' } })
  assert.deepEqual(
    (await rowsOf(organization)).map(({ error_code }) => error_code),
    ['upstream_timeout'],
  )
})

test('an error that is not said to be of a response does not end its account: what it used is settled when it ends', async () => {
  const organization = await system.organization()
  const { socket, upstream } = await withOddUpstream(organization)

  upstream.send(eventOf('response.created', 'resp_odd1'))
  upstream.send(
    '{"type":"error","status":400,"error":{"type":"invalid_request_error","code":"bad_steer","message":"no"}}',
  )
  upstream.send(eventOf('response.completed', 'resp_odd1'))
  await socket.until('response.completed')

  const [row] = await rowsOf(organization)
  assert.partialDeepStrictEqual(row, { status: 'completed', usage_source: 'reported', output_tokens: '6' })
})

test('a response without an end makes way for the next, and responses that nobody asked for are rows too', async () => {
  const organization = await system.organization()
  const { socket, upstream } = await withOddUpstream(organization)

  upstream.send(eventOf('response.created', 'resp_odd2'))
  upstream.send(eventOf('response.created', 'resp_odd3'))
  upstream.send(eventOf('response.completed', 'resp_odd3'))
  upstream.send(eventOf('response.completed', 'resp_odd3'))
  upstream.send(eventOf('response.created', 'resp_odd4'))
  upstream.send(eventOf('response.completed', 'resp_odd4'))
  for (let count = 0; count < 3; count += 1) await socket.until('response.completed')

  const rows = await rowsOf(organization)
  assert.deepEqual(
    rows.map(({ response_id, status, error_code }) => [response_id, status, error_code]),
    [
      ['resp_odd2', 'upstream_error', 'no_terminal_event'],
      ['resp_odd3', 'completed', null],
      ['resp_odd4', 'completed', null],
    ],
  )
  assert.equal(new Set(rows.map(({ user_id }) => user_id)).size, 1)
})

for (const [what, frame] of [
  ['binary', Buffer.from(eventOf('response.completed', 'resp_odd5'))],
  ['cut short', '{"type":"response.created","sequence_num'],
  ['no event', '[]'],
] as const) {
  test(`what comes from OpenAI and is ${what} is not passed on: the client is told, and it is a row`, async () => {
    const organization = await system.organization()
    const { socket, upstream } = await withOddUpstream(organization)

    upstream.send(frame)

    const frames = await socket.until('error')
    assert.equal(frames.length, 1)
    assert.equal(await socket.closed, 1011)
    assert.deepEqual(
      (await rowsOf(organization)).map(({ status }) => status),
      ['upstream_error'],
    )
  })
}

test('when OpenAI closes with nothing under way, the client sees its code', async () => {
  const organization = await system.organization()
  const { socket, upstream } = await withOddUpstream(organization)

  upstream.send(eventOf('response.created', 'resp_odd6'))
  upstream.send(eventOf('response.completed', 'resp_odd6'))
  upstream.send(
    '{"type":"error","status":400,"error":{"code":"websocket_connection_limit_reached","message":"60 minutes"}}',
  )
  upstream.close(1001)

  const error = (await socket.until('error')).at(-1)
  assert.equal(error?.error?.code, 'websocket_connection_limit_reached')
  assert.equal(await socket.closed, 1001)
  assert.deepEqual(
    (await rowsOf(organization)).map(({ status }) => status),
    ['completed'],
  )
})

let oddServer: Awaited<ReturnType<typeof startServer>> | undefined

/** A socket on which one response has been asked for, and OpenAI's end of it. */
async function withOddUpstream(organization: TestOrganization) {
  oddServer ??= await startServer({ OPENAI_API_BASE_URL: `${oddUrl}/v1` })
  const socket = await connectSocket(oddServer.url, organization)
  stack.defer(() => socket.socket.terminate())
  socket.send(create)
  return { socket, upstream: await oddSocket() }
}

async function oddSocket(): Promise<WebSocket> {
  const [upstream] = (await once(oddSockets, 'connection')) as [WebSocket]
  await once(upstream, 'message')
  return upstream
}

function eventOf(type: string, id: string): string {
  const usage = { input_tokens: 8, output_tokens: 6, total_tokens: 14 }
  const status = type === 'response.completed' ? 'completed' : 'in_progress'
  return JSON.stringify({ type, response: { id, status, model: 'gpt-4o-mini-2024-07-18', output: [], usage } })
}

/** Another server on the system's database. */
async function startServer(env: Record<string, string>) {
  const config = readConfig({ ...system.env, DATA_DIR: await temporaryDirectory(stack), ...env })
  const server = await serve(config)
  stack.defer(() => server.stop())
  return { server, url: `http://127.0.0.1:${server.port}` }
}

/** Rows, when there are some and they stay as many. */
async function rowsOf(organization: TestOrganization): Promise<Record<string, unknown>[]> {
  const read = () =>
    system.query('select * from attempts where organization_id = $1 order by opened_at, attempt_id', [organization.id])
  await until('there are rows', async () => (await read()).length > 0)
  await oddServer?.server.context.ledger.flush()
  return read()
}
