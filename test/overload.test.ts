import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type OpenAI from 'openai'
import { updatePolicies } from '../src/organizations/policies.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { askUntil } from './poll.ts'
import { openRaw, parseAnswers, rawHead, readToEnd, readUntil, sendRaw, until } from './raw-client.ts'

const MIB = 1024 * 1024
const system = await startSystem({
  MAX_BODY_BYTES: String(2 * MIB),
  MAX_BODY_MEMORY_BYTES: String(4 * MIB),
  MAX_CONCURRENT_REQUESTS_PER_ORGANIZATION: '10',
  METRICS_TOKEN: 'metrics-of-this-test-installation',
})

/** A stream whose first event has come and that goes on until `rest` is asked for, or the caller goes. */
async function openStream(organization: TestOrganization, model = 'sim:tokens=60,tps=20,model=gpt-4o-mini') {
  const stream = await organization.client().responses.create({ model, input: 'hello', stream: true })
  const events = stream[Symbol.asyncIterator]()
  await events.next()
  return {
    close: () => stream.controller.abort(),
    async rest(): Promise<string | undefined> {
      let last: OpenAI.Responses.ResponseStreamEvent | undefined
      for (let next = await events.next(); !next.done; next = await events.next()) last = next.value
      return last?.type
    },
  }
}

function ask(organization: TestOrganization, body: Record<string, unknown> = {}) {
  return organization.fetch('/v1/responses', {
    method: 'POST',
    body: JSON.stringify({ model: 'sim:tokens=3,model=gpt-4o-mini', input: 'hello', ...body }),
  })
}

async function codeOf(answer: Response): Promise<string> {
  return ((await answer.json()) as { error: { code: string } }).error.code
}

async function gauge(name: string): Promise<number> {
  const headers = { authorization: 'Bearer metrics-of-this-test-installation' }
  const text = await (await fetch(`${system.url}/metrics`, { headers })).text()
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1])
}

test('C83: an organization with as many requests as it may have gets 429, its own and in our words, and nobody else notices', async () => {
  const [greedy, other] = [await system.organization(), await system.organization()]
  const streams = await Promise.all(Array.from({ length: 10 }, () => openStream(greedy)))

  const refused = await Promise.all(Array.from({ length: 90 }, () => ask(greedy)))
  const served = await Promise.all(Array.from({ length: 10 }, () => ask(other)))

  for (const answer of refused) {
    assert.equal(answer.status, 429)
    assert.equal(answer.headers.get('retry-after'), '1')
    assert.equal(await codeOf(answer), 'too_many_concurrent_requests')
  }
  assert.deepEqual(
    served.map(({ status }) => status),
    Array(10).fill(200),
  )
  for (const { rest } of streams) assert.equal(await rest(), 'response.completed')
  // What is over makes room, and what was refused has taken none.
  assert.equal(
    (
      await askUntil(
        () => ask(greedy),
        ({ status }) => status === 200,
      )
    ).status,
    200,
  )
  const rows = await system.query('select status from attempts where organization_id = $1', [greedy.id])
  assert.equal(rows.length, 11)
})

test('the cap of an organization is its own policy where it has one, and holds within a second of a change', async () => {
  const organization = await system.organization()
  await updatePolicies(system.server.context, organization.admin, { maxConcurrentRequests: 1 })
  const stream = await openStream(organization)
  const refused = await askUntil(
    () => ask(organization),
    ({ status }) => status === 429,
  )
  await updatePolicies(system.server.context, organization.admin, { maxConcurrentRequests: 20 })
  const served = await askUntil(
    () => ask(organization),
    ({ status }) => status === 200,
  )
  stream.close()

  assert.deepEqual([refused.status, served.status], [429, 200])
  for (const maxConcurrentRequests of [0, -1, 1.5, 100_001, Number.NaN]) {
    await assert.rejects(
      updatePolicies(system.server.context, organization.admin, { maxConcurrentRequests }),
      /1 to 100000 requests/,
    )
  }
})

test('clients that go in the middle of everything leave no place taken', async () => {
  const organization = await system.organization()
  const head = headOf(organization, 'POST /v1/responses', { 'Content-Length': 100_000 })
  for (let turn = 0; turn < 30; turn += 1) {
    const socket = await openRaw(system.server.port, head, 'x'.repeat(turn * 1000))
    socket.resetAndDestroy()
  }
  const streams = await Promise.all(Array.from({ length: 10 }, () => openStreamWhenThereIsRoom(organization)))
  for (const { close } of streams) close()

  await until('every place is free', async () => (await gauge('openai_proxy_in_flight_requests')) === 0)
  assert.equal(await gauge('openai_proxy_request_body_bytes'), 0)
  assert.equal((await ask(organization)).status, 200)
})

test('bodies beyond the memory for them get 503 while streams go on, and are taken when there is room again', async () => {
  const organization = await system.organization()
  const stream = await openStream(organization)
  // Bodies that have arrived but for their end: each is held.
  const head = headOf(organization, 'POST /v1/responses', { 'Content-Length': 2 * MIB })
  const start = `{"model":"sim:tokens=3,model=gpt-4o-mini","input":"`
  const most = `${start}${'x'.repeat(2 * MIB - start.length - 100)}`
  const held: Socket[] = []
  while ((await gauge('openai_proxy_request_body_bytes')) < 3.9 * MIB) {
    held.push(await openRaw(system.server.port, head, most))
    await until(
      'it has arrived',
      async () => (await gauge('openai_proxy_request_body_bytes')) >= held.length * 2 * MIB - 200,
    )
  }

  const [refused] = await sendRaw(
    system.server.port,
    headOf(organization, 'POST /v1/responses', { 'Content-Length': MIB }),
    'x'.repeat(MIB),
  )
  const listed = await organization.fetch('/health')
  const first = held[0] as Socket
  const answer = readToEnd(first)
  first.write(`${'x'.repeat(98)}"}`)

  assert.equal(refused?.status, 503)
  assert.equal(refused?.headers['retry-after'], '1')
  assert.match(String(refused?.body), /"overloaded"/)
  assert.equal(listed.status, 200)
  assert.equal(parseAnswers(await answer)[0]?.status, 200)
  assert.equal(await stream.rest(), 'response.completed')
  for (const socket of held) socket.destroy()
  await until('all is given back', async () => (await gauge('openai_proxy_request_body_bytes')) === 0)
  assert.equal((await ask(organization, { input: 'x'.repeat(MIB) })).status, 200)
})

test('C72: while the event loop is late for seconds on end new work gets 503, streams go on, and it ends by itself', async () => {
  const busy = await startSystem({ MAX_EVENT_LOOP_DELAY_MS: '50' })
  const organization = await busy.organization()
  assert.equal((await ask(organization)).status, 200)
  const stream = await openStream(organization, 'sim:tokens=60,tps=10,model=gpt-4o-mini')
  // The server lives in this process: what blocks one blocks the other.
  const blocking = setInterval(() => {
    const until = performance.now() + 100
    while (performance.now() < until);
  }, 10)

  const refused = await askUntil(
    () => ask(organization),
    ({ status }) => status === 503,
  )
  const health = await fetch(`${busy.url}/livez`)
  clearInterval(blocking)
  const again = await askUntil(
    () => ask(organization),
    ({ status }) => status === 200,
  )

  assert.equal(await codeOf(refused), 'overloaded')
  assert.equal(refused.headers.get('retry-after'), '1')
  assert.equal(health.status, 200)
  assert.equal(again.status, 200)
  assert.equal(await stream.rest(), 'response.completed')
})

test('C72: near the limit of its memory new work gets 503, and the process lives', async () => {
  const small = await startSystem({ MAX_MEMORY_BYTES: String(64 * MIB) })
  const organization = await small.organization()

  const refused = await ask(organization)

  assert.equal(refused.status, 503)
  assert.equal(await codeOf(refused), 'overloaded')
  assert.equal((await fetch(`${small.url}/livez`)).status, 200)
})

test('C77: heads and bodies that do not arrive in time are answered and cut, while others are served', async () => {
  const slow = await startSystem({ REQUEST_TIMEOUT: '1' })
  const organization = await slow.organization()
  const heads = await Promise.all(
    Array.from({ length: 50 }, () => openRaw(slow.server.port, 'POST /v1/responses HTTP/1.1\r\nHost: proxy\r\nX-Sl')),
  )
  const bodies = await Promise.all(
    Array.from({ length: 9 }, () =>
      openRaw(slow.server.port, headOf(organization, 'POST /v1/responses', { 'Content-Length': 1000 }), '{"model":'),
    ),
  )
  const ends = [...heads, ...bodies].map(readToEnd)

  const served = await ask(organization)

  assert.equal(served.status, 200)
  for (const end of ends) {
    const [answer] = parseAnswers(await end)
    assert.ok(answer === undefined || answer.status === 400, String(answer?.status))
  }
  const rows = await slow.query('select * from attempts where organization_id = $1', [organization.id])
  assert.equal(rows.length, 1)
})

test('C78: a client that does not read holds OpenAI back instead of filling memory, and others are served', async () => {
  const organization = await system.organization()
  const huge = `sim:huge=${20 * MIB},tokens=5,model=gpt-4o-mini`
  const sockets = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const body = JSON.stringify({ model: huge, input: 'hi', stream: true })
      const socket = await openRaw(
        system.server.port,
        headOf(organization, 'POST /v1/responses', { 'Content-Length': body.length }),
        body,
      )
      await readUntil(socket, 'HTTP/1.1 200')
      socket.pause()
      return socket
    }),
  )

  // Whoever reads gets all of it; were the others read for their clients, they would be over by then too.
  const read = await ask(organization, { model: huge, stream: true })
  assert.ok((await read.text()).length > 20 * MIB)
  const calls = system.simulator.ledger.entries().slice(-9)

  assert.deepEqual(
    calls.map(({ model, finished }) => [model, finished]),
    [...Array(8).fill([huge, false]), [huge, true]],
  )
  for (const socket of sockets) socket.destroy()
  await Promise.all(sockets.map((socket) => socket.closed || once(socket, 'close')))
  await system.simulator.ledger.idle()
  const rows = await system.query('select status from attempts where organization_id = $1', [organization.id])
  assert.deepEqual(rows.map(({ status }) => status).sort(), [...Array(8).fill('client_closed'), 'completed'])
})

function headOf(organization: TestOrganization, line: string, headers: Record<string, string | number>): string {
  return rawHead(line, {
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'Content-Type': 'application/json',
    ...headers,
  })
}

async function openStreamWhenThereIsRoom(organization: TestOrganization) {
  await askUntil(
    () => ask(organization),
    ({ status }) => status === 200,
  )
  return openStream(organization)
}
