import assert from 'node:assert/strict'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import type { LedgerEntry } from '../simulator/ledger.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { openRaw, parseAnswers, rawHead, readToEnd, readUntil, until } from './raw-client.ts'

/** An OpenAI that says its whole answer and then neither ends the stream nor hangs up. */
const lingering = createServer((request, response) => {
  request.resume()
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(COMPLETED)
  lingeringAnswers.push(response)
})
const lingeringAnswers: ServerResponse[] = []
await new Promise<void>((resolve) => lingering.listen(0, '127.0.0.1', resolve))
const lingeringUrl = `http://127.0.0.1:${(lingering.address() as AddressInfo).port}`
after(() => {
  lingering.close()
  lingering.closeAllConnections()
})

const COMPLETED = `event: response.completed\ndata: ${JSON.stringify({
  type: 'response.completed',
  sequence_number: 0,
  response: {
    id: 'resp_lingering',
    object: 'response',
    status: 'completed',
    model: 'gpt-4o-mini-2024-07-18',
    output: [],
    usage: { input_tokens: 8, output_tokens: 6, total_tokens: 14 },
  },
})}\n\n`

const system = await startSystem({ OPENAI_ALLOWED_ORIGINS: lingeringUrl })
const { port } = system.server

function requestBytes(organization: TestOrganization, model: string, fields: Record<string, unknown> = {}): string {
  const body = JSON.stringify({ model, input: 'hello', stream: true, ...fields })
  const headers = {
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
  }
  return rawHead('POST /v1/responses', headers) + body
}

async function rowsOf(organization: TestOrganization) {
  return system.query('select * from attempts where organization_id = $1', [organization.id])
}

/** The simulator's entry of the next call. */
async function nextCall(after: number): Promise<LedgerEntry> {
  await until('OpenAI is called', () => system.simulator.ledger.entries().length > after)
  return system.simulator.ledger.entries()[after] as LedgerEntry
}

/** Fails unless OpenAI's side of the call is cut within the second that is promised. */
async function cutWithinOneSecond(entry: LedgerEntry): Promise<void> {
  await until('OpenAI is hung up on', () => entry.bodyOutSha256 !== null, 1000)
  assert.equal(entry.clientClosed, true)
}

test('C85: a client that hangs up before the answer takes OpenAI with it within a second, and the call is recorded', async () => {
  for (const isStream of [true, false]) {
    const organization = await system.organization()
    const callsBefore = system.simulator.ledger.entries().length
    const socket = await openRaw(port, requestBytes(organization, 'sim:delay=600000', { stream: isStream }))
    const call = await nextCall(callsBefore)
    await until('the body has arrived', () => call.bodySha256 !== null)

    socket.destroy()

    await cutWithinOneSecond(call)
    await until('the row is written', async () => (await rowsOf(organization)).length > 0)
    const [row, ...more] = await rowsOf(organization)
    assert.equal(more.length, 0)
    assert.deepEqual([row?.status, row?.usage_source, row?.http_status], ['client_closed', 'estimated', null])
    assert.ok(Number(row?.input_tokens) > 0)
    assert.equal(row?.output_tokens, '0')
  }
})

test('C85: a client that hangs up in mid-stream takes OpenAI with it within a second, and what was said is estimated', async () => {
  for (const hangUp of ['destroy', 'resetAndDestroy', 'end'] as const) {
    const organization = await system.organization()
    const callsBefore = system.simulator.ledger.entries().length
    const request = requestBytes(organization, 'sim:model=gpt-4o-mini,tokens=100000,tps=200')
    const socket = await openRaw(port, request)
    await readUntil(socket, '"delta":" hello"')

    socket[hangUp]()

    await cutWithinOneSecond(await nextCall(callsBefore))
    await until('the row is written', async () => (await rowsOf(organization)).length > 0)
    const [row, ...more] = await rowsOf(organization)
    assert.equal(more.length, 0)
    assert.deepEqual([row?.status, row?.usage_source, row?.http_status], ['client_closed', 'estimated', 200])
    assert.ok(Number(row?.output_tokens) > 0 && Number(row?.output_tokens) < 100_000)
    assert.ok(Number(row?.cost_nano_usd) > 0)
    assert.match(row?.response_id, /^resp_/)
  }
})

test("the SDK's abort is a hang-up like any other", async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const stream = await organization
    .client()
    .responses.create({ model: 'sim:tokens=100000,tps=100', input: 'hello', stream: true })
  for await (const event of stream) if (event.type === 'response.output_text.delta') break

  await cutWithinOneSecond(await nextCall(callsBefore))
  await until('the row is written', async () => (await rowsOf(organization)).length === 1)
  assert.equal((await rowsOf(organization))[0]?.status, 'client_closed')
})

test('a client that hangs up right behind the terminal event has had its answer: completed, with the usage reported', async () => {
  const organization = await system.organization()
  const key = await organization.createKey({
    baseUrl: `${lingeringUrl}/v1`,
    userId: await organization.createUser('carol'),
  })
  assert.ok(key.id)
  const request = requestBytes(organization, 'gpt-4o-mini').replace('X-User-ID: alice', 'X-User-ID: carol')
  const socket = await openRaw(port, request)
  await readUntil(socket, COMPLETED.slice(-40))

  socket.destroy()

  await until('OpenAI is hung up on', () => lingeringAnswers[0]?.destroyed === true, 1000)
  const [row, ...more] = await rowsOf(organization)
  assert.equal(more.length, 0)
  assert.deepEqual(
    [row?.status, row?.usage_source, row?.input_tokens, row?.output_tokens, row?.cost_nano_usd],
    ['completed', 'reported', '8', '6', '4800'],
  )
})

test('a client that hangs up while it sends its body leaves nothing: no call, no row, nothing under way', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const request = requestBytes(organization, 'gpt-4o-mini', { input: 'x'.repeat(200_000) })
  for (const share of [0.1, 0.5, 0.99]) {
    const socket = await openRaw(port)
    await new Promise<void>((resolve) => {
      socket.write(request.slice(0, Math.floor(request.length * share)), () => resolve())
    })
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.destroy()
    await closed
  }
  // What comes later on other connections is served after what came before: the hang-ups have been seen by then.
  const other = await system.organization()
  await other.client().responses.create({ model: 'gpt-4o-mini', input: 'hello' })

  assert.equal(system.simulator.ledger.entries().length, callsBefore + 1)
  assert.equal((await rowsOf(organization)).length, 0)
  assert.equal(system.server.context.ledger.pendingCount, 0)
})

test('a thousand streams that their clients leave make a thousand rows and leave no connection open', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const idleBefore = system.simulator.openSockets()
  const request = requestBytes(organization, 'sim:model=gpt-4o-mini,tokens=100000,tps=50')
  for (let batch = 0; batch < 10; batch += 1) {
    await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const socket = await openRaw(port, request)
        await readUntil(socket, LEAVE_AFTER[index % LEAVE_AFTER.length] as string)
        if (index % 2 === 0) socket.resetAndDestroy()
        else socket.destroy()
      }),
    )
  }
  await until('every call is over at OpenAI and here', async () => {
    await system.simulator.ledger.idle()
    return (await rowsOf(organization)).length >= 1000
  })
  await until('every connection to OpenAI that was cut is closed', () => system.simulator.openSockets() <= idleBefore)

  const rows = await rowsOf(organization)
  assert.equal(rows.length, 1000)
  assert.ok(rows.every(({ status, usage_source }) => status === 'client_closed' && usage_source === 'estimated'))
  const calls = system.simulator.ledger.entries().slice(callsBefore)
  assert.equal(calls.length, 1000)
  assert.ok(calls.every(({ clientClosed }) => clientClosed))
  assert.equal(system.server.context.ledger.pendingCount, 0)
})

/** At the head, the first event, the first delta and the third. */
const LEAVE_AFTER = ['HTTP/1.1 200', 'response.created', '"delta":"You"', '"delta":" hello"']

test('C78: a client that stops reading holds OpenAI back, and has every byte when it reads on', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const megabytes = 2 ** 20
  const socket = connect({ port, host: '127.0.0.1' })
  socket.pause()
  socket.write(requestBytes(organization, `sim:model=gpt-4o-mini,huge=${10 * megabytes},chunk=65536`))
  const call = await nextCall(callsBefore)
  // Held back is what no longer moves: the same count at every one of many looks.
  let [last, looks] = [-1, 0]
  await until('OpenAI is held back', () => {
    looks = call.bytesSent > 0 && call.bytesSent === last ? looks + 1 : 0
    last = call.bytesSent
    return looks > 60
  })
  const heldBytes = call.bytesSent

  // Kernel buffers of two connections, and next to nothing in the process.
  assert.ok(heldBytes < 15 * megabytes, `${heldBytes} bytes are on their way to a client that does not read`)
  const all = readToEnd(socket)
  socket.resume()
  const [answer] = parseAnswers(await all)
  await system.simulator.ledger.idle()
  assert.ok(call.bytesSent > 50 * megabytes)
  assert.equal(call.finished, true)
  assert.ok(answer?.body.includes('event: response.completed'))
  assert.equal((await rowsOf(organization))[0]?.status, 'completed')
})
