import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, test } from 'node:test'
import OpenAI from 'openai'
import { readConfig } from '../src/config.ts'
import { serve } from '../src/serve.ts'
import { type ServerProcess, startServerProcess } from './faults/server-process.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { openRaw, rawHead, readToEnd, readUntil, until } from './raw-client.ts'

const system = await startSystem()
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

/** The real thing: `src/main.ts` as a process of its own, on the system's database and simulated OpenAI. */
async function startProcess(env: Record<string, string> = {}) {
  const directory = await temporaryDirectory(stack)
  const server = await startServerProcess({ ...system.env, DATA_DIR: directory, SHUTDOWN_TIMEOUT: '20', ...env })
  stack.defer(() => void server.child.kill('SIGKILL'))
  const exit = once(server.child, 'exit').then(([code, signal]) => ({ code, signal }))
  return { ...server, exit }
}

function clientOf(organization: TestOrganization, { url }: ServerProcess): OpenAI {
  return organization.client().withOptions({ baseURL: `${url}/v1` })
}

function portOf({ url }: ServerProcess): number {
  return Number(new URL(url).port)
}

/** A stream of which the first delta has come; `rest` reads on to its end. */
async function openStream(organization: TestOrganization, server: ServerProcess, model: string) {
  const stream = await clientOf(organization, server).responses.create({ model, input: 'hello', stream: true })
  const events = stream[Symbol.asyncIterator]()
  const types: string[] = []
  while (types.at(-1) !== 'response.output_text.delta') types.push((await events.next()).value?.type)
  return {
    async rest(): Promise<string[]> {
      for (let next = await events.next(); !next.done; next = await events.next()) types.push(next.value.type)
      return types
    },
  }
}

async function rowsOf(organization: TestOrganization) {
  return system.query('select * from attempts where organization_id = $1', [organization.id])
}

/** What a load balancer sees: 503, or no connection at all. */
async function readiness({ url }: ServerProcess): Promise<number | 'refused'> {
  return fetch(`${url}/readyz`, { headers: { connection: 'close' } }).then(
    ({ status }) => status,
    () => 'refused',
  )
}

async function isStopping({ log }: ServerProcess): Promise<void> {
  await until('it says that it is stopping', () => log.some(({ msg }) => String(msg).startsWith('stopping')))
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal}: streams under way come to their end and are recorded, nothing new begins, and the exit code is 0`, async () => {
    const organization = await system.organization()
    const server = await startProcess()
    assert.equal(await readiness(server), 200)
    const idle = await openRaw(portOf(server), rawHead('GET /health', { Connection: 'keep-alive' }))
    const idleAnswer = readToEnd(idle)
    const streams = await Promise.all(
      Array.from({ length: 10 }, () => openStream(organization, server, 'sim:model=gpt-4o-mini,tokens=100,tps=80')),
    )

    server.child.kill(signal)
    await isStopping(server)

    const notReady = await readiness(server)
    assert.ok(notReady === 'refused' || notReady === 503)
    // Idle connections are closed at once; those of the streams when these are done, and not kept alive behind them.
    assert.match((await idleAnswer).toString(), /^HTTP\/1\.1 200/)
    const ended = performance.now()
    for (const { rest } of streams) assert.equal((await rest()).at(-1), 'response.completed')
    assert.deepEqual(await server.exit, { code: 0, signal: null })
    assert.ok(performance.now() - ended < 10_000, 'it waited for connections on which nothing was going on')
    const rows = await rowsOf(organization)
    assert.deepEqual(
      rows.map((row) => [row.status, row.usage_source, row.output_tokens]),
      Array(10).fill(['completed', 'reported', '100']),
    )
  })

  test(`a second ${signal} ends it at once: clients see that it ended, the rows are written, and the exit code is 0`, async () => {
    const organization = await system.organization()
    const server = await startProcess({ SHUTDOWN_TIMEOUT: '600' })
    const streams = await Promise.all(
      Array.from({ length: 5 }, () => openStream(organization, server, 'sim:model=gpt-4o-mini,tokens=100000,tps=50')),
    )
    const waiting = clientOf(organization, server).responses.create({ model: 'sim:delay=600000', input: 'hello' })
    const refused = Promise.resolve(waiting).catch((error: unknown) => error)
    await until(
      'all calls are under way',
      () =>
        system.simulator.ledger.entries().filter(({ finished, clientClosed }) => !finished && !clientClosed).length ===
        6,
    )

    server.child.kill(signal)
    await isStopping(server)
    server.child.kill(signal)

    for (const { rest } of streams) await assert.rejects(rest())
    assert.ok((await refused) instanceof OpenAI.APIError)
    assert.deepEqual(await server.exit, { code: 0, signal: null })
    await system.simulator.ledger.idle()
    const rows = await rowsOf(organization)
    assert.equal(rows.length, 6)
    assert.ok(rows.every(({ usage_source }) => usage_source === 'estimated'))
    assert.ok(rows.every(({ error_code }) => error_code === 'shutting_down'))
  })
}

test('F40: told to stop it is not ready at once, and serves whoever still comes until load balancers have noticed', async () => {
  const organization = await system.organization()
  const server = await startProcess({ DRAIN_DELAY: '5' })
  const kept = await openRaw(portOf(server), rawHead('GET /health', { Connection: 'keep-alive' }))
  await readUntil(kept, '"healthy"')

  server.child.kill('SIGTERM')
  await isStopping(server)

  assert.equal(await readiness(server), 503)
  kept.write(rawHead('GET /health', { Connection: 'keep-alive' }))
  assert.match((await readToEnd(kept)).toString(), /^HTTP\/1\.1 200 .*connection: close/is)
  const response = await clientOf(organization, server).responses.create({ model: 'sim:tokens=3', input: 'late' })
  assert.equal(response.status, 'completed')
  assert.deepEqual(await server.exit, { code: 0, signal: null })
  assert.equal((await rowsOf(organization)).length, 1)
})

test('connections that were made before the listener closes, and that a busy process has not taken yet, are served', async () => {
  const server = await serve(readConfig({ ...system.env, DATA_DIR: await temporaryDirectory(stack), PORT: '0' }))
  const sockets = await Promise.all(Array.from({ length: 50 }, () => openRaw(server.port, rawHead('GET /health', {}))))
  const answers = Promise.all(sockets.map(readToEnd))
  // The kernel makes the connections; nothing in this process has had a turn to take them.
  await new Promise(process.nextTick)

  const stopped = server.stop()
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)

  for (const answer of await answers) assert.match(answer.toString(), /^HTTP\/1\.1 200 /)
  await stopped
})

test('when the time to stop is over, what is left is ended visibly and recorded', async () => {
  const organization = await system.organization()
  const server = await startProcess({ SHUTDOWN_TIMEOUT: '0.2' })
  const { rest } = await openStream(organization, server, 'sim:model=gpt-4o-mini,tokens=100000,tps=50')

  server.child.kill('SIGTERM')

  await assert.rejects(rest(), (error) => error instanceof OpenAI.APIError && error.code === 'shutting_down')
  assert.deepEqual(await server.exit, { code: 0, signal: null })
  assert.equal((await rowsOf(organization)).length, 1)
})

test('a client that sends its body while the server stops is not waited for beyond the deadline', async () => {
  const organization = await system.organization()
  const server = await startProcess({ SHUTDOWN_TIMEOUT: '0.2' })
  const headers = {
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'Content-Type': 'application/json',
    'Content-Length': 1000,
    Expect: '100-continue',
  }
  const slow = await openRaw(portOf(server), rawHead('POST /v1/responses', headers), '{"model":')
  // The interim answer says that the request is under way.
  await once(slow, 'data')

  server.child.kill('SIGTERM')

  assert.deepEqual(await server.exit, { code: 0, signal: null })
  assert.equal((await rowsOf(organization)).length, 0)
})
