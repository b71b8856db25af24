import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createApiKey } from '../src/api-keys/service.ts'
import { Secret } from '../src/secret.ts'
import { startServerProcess } from './faults/server-process.ts'
import { startSystem, temporaryDirectory } from './harness.ts'
import { until } from './raw-client.ts'

const system = await startSystem()
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

async function startProcess(env: Record<string, string> = {}, logLevel = 'info') {
  const directory = await temporaryDirectory(stack)
  const server = await startServerProcess({ ...system.env, DATA_DIR: directory, ...env }, logLevel)
  stack.defer(() => void server.child.kill('SIGKILL'))
  return { ...server, directory }
}

function post(url: string, token: string, body: unknown, headers: Record<string, string> = {}) {
  return fetch(`${url}/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'x-user-id': 'alice', ...headers },
    body: JSON.stringify(body),
  }).then(async (answer) => ({
    status: answer.status,
    head: JSON.stringify([...answer.headers]),
    requestId: answer.headers.get('x-request-id'),
    text: await answer.text().catch(() => ''),
  }))
}

test('each request is one line: its id, endpoint, organization, outcome, status and time, and nothing of what was in it', async () => {
  const organization = await system.organization()
  const server = await startProcess()
  const calls = [
    await post(server.url, organization.token, {
      model: 'sim:tokens=3,model=gpt-4o-mini',
      input: 'a private question',
    }),
    await post(server.url, organization.token, { model: 'sim:status=500', input: 'a private question' }),
    await post(server.url, 'wrong-token', { model: 'x' }),
    await post(server.url, organization.token, { model: 7 }),
  ]
  await fetch(`${server.url}/readyz`)
  await until('every line is there', () => server.log.filter(({ request_id }) => request_id).length >= 5)

  const lines = calls.map(({ requestId }) => server.log.filter(({ request_id }) => request_id === requestId))
  assert.deepEqual(
    lines.map((found) =>
      found.map(({ endpoint, organization_id, outcome, status, error_code }) => [
        endpoint,
        organization_id,
        outcome,
        status,
        error_code,
      ]),
    ),
    [
      [['responses.create', organization.id, 'completed', 200, undefined]],
      [['responses.create', organization.id, 'upstream_error', 500, undefined]],
      [['responses.create', undefined, 'refused', 401, 'invalid_authentication']],
      [['responses.create', organization.id, 'refused', 400, 'invalid_request']],
    ],
  )
  assert.ok(lines.flat().every(({ duration_ms }) => Number.isInteger(duration_ms)))
  assert.equal(server.log.find(({ path }) => path === '/readyz')?.endpoint, 'health')
  assert.ok(!JSON.stringify(server.log).includes('private question'))
})

test('C86: no OpenAI key, token or synthetic key is in the log at its most talkative, in an answer, a metric, the journal or on disk', async () => {
  const organization = await system.organization()
  const sentinels = Array.from({ length: 20 }, () => `sk-sentinel-${randomBytes(24).toString('base64url')}`)
  const env = {
    METRICS_TOKEN: `metrics-${randomBytes(12).toString('hex')}`,
    SHUTDOWN_TIMEOUT: '2',
    OPENAI_IDLE_TIMEOUT: '0.5',
  }
  const server = await startProcess(env, 'trace')
  const answers: string[] = []
  const models = [
    'sim:tokens=2',
    'sim:status=401',
    'sim:status=429',
    'sim:status=500,body=html',
    'sim:reset=head',
    'sim:reset=200',
    'sim:stall_after=2',
    'sim:garbage',
    'sim:redirect',
    'sim:usage=text',
  ]

  for (const [turn, sentinel] of sentinels.entries()) {
    const { syntheticKey } = await createApiKey(system.server.context, organization.admin, {
      upstreamKey: new Secret(sentinel),
    })
    for (const model of models.slice(turn % 2, models.length)) {
      const answer = await post(
        server.url,
        syntheticKey.reveal(),
        { model, input: 'hi', stream: turn % 3 === 0 },
        { 'x-sentinel': sentinel },
      ).catch(String)
      answers.push(typeof answer === 'string' ? answer : `${answer.head}${answer.text}`)
    }
    sentinels.push(...(turn < 20 ? [syntheticKey.reveal()] : []))
    if (turn === 19) break
  }
  const malformed = await post(server.url, `${sentinels[0]}\u00e9`, { input: sentinels[0] })
  answers.push(
    malformed.text,
    JSON.stringify(await (await fetch(`${server.url}/v1/responses?key=${sentinels[0]}`)).text()),
  )
  const metrics = await (
    await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${env.METRICS_TOKEN}` } })
  ).text()
  await server.kill('SIGTERM')

  const disk = await Promise.all(
    (await readdir(server.directory, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => readFile(join(entry.parentPath, entry.name), 'latin1')),
  )
  const rows = await system.query(
    "select (select string_agg(a::text, '') from attempts a) || (select string_agg(k::text, '') from api_keys k) as text",
  )
  const seen = {
    log: JSON.stringify(server.log),
    answers: answers.join('\n'),
    metrics,
    disk: disk.join('\n'),
    rows: JSON.stringify(rows),
  }
  assert.ok(server.log.length > 100 && metrics.includes('openai_proxy_requests_total'))
  for (const secret of [...sentinels, organization.token, env.METRICS_TOKEN]) {
    // A prefix of 12 characters is what lists show of a synthetic key.
    const windows = Array.from({ length: Math.max(1, secret.length - 30) }, (_, at) => secret.slice(at + 18, at + 30))
    const forms = [secret, Buffer.from(secret).toString('base64').slice(0, -4), ...windows]
    for (const [place, text] of Object.entries(seen)) {
      for (const form of forms) assert.ok(!text.includes(form), `${place} has ${form.slice(0, 6)}...`)
    }
  }
})

test('F36: a log that nobody reads holds up no request, is bounded, is counted, and does not keep the process from ending', async () => {
  const organization = await system.organization()
  const directory = await temporaryDirectory(stack)
  const port = await freePort()
  const child = spawn(process.execPath, [join(import.meta.dirname, '../src/main.ts')], {
    env: {
      PATH: process.env.PATH,
      ...system.env,
      LOG_LEVEL: 'info',
      PORT: String(port),
      DATA_DIR: directory,
      DRAIN_DELAY: '0.1',
      METRICS_TOKEN: 'metrics-of-this-test-installation',
    },
    // Nobody ever reads this pipe.
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  stack.defer(() => void child.kill('SIGKILL'))
  const url = `http://127.0.0.1:${port}`
  await until(
    'it listens',
    () =>
      fetch(`${url}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      ),
    60_000,
  )
  const longPath = `/${'x'.repeat(255)}`
  const dropped = async () => {
    const headers = { authorization: 'Bearer metrics-of-this-test-installation' }
    const text = await (await fetch(`${url}/metrics`, { headers })).text()
    return Number(/^openai_proxy_log_lines_dropped_total (\d+)$/m.exec(text)?.[1])
  }

  await until(
    'the log is full',
    async () => {
      await Promise.all(Array.from({ length: 200 }, () => fetch(`${url}${longPath}`).then((answer) => answer.text())))
      return (await dropped()) > 0
    },
    120_000,
  )
  const answers = await Promise.all(
    Array.from({ length: 20 }, () =>
      post(url, organization.token, { model: 'sim:tokens=3,model=gpt-4o-mini', input: 'hi', stream: true }),
    ),
  )
  child.kill('SIGTERM')
  const [code] = await once(child, 'exit')

  for (const { status, text } of answers) assert.ok(status === 200 && text.includes('response.completed'))
  assert.equal(code, 0)
  const rows = await system.query('select * from attempts where organization_id = $1', [organization.id])
  assert.equal(rows.length, 20)
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address ? address.port : 0
}
