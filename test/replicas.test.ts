import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { OPERATOR } from '../src/auth/caller.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { revokeToken } from '../src/tokens/service.ts'
import { startServerProcess } from './faults/server-process.ts'
import { startTcpProxy } from './faults/tcp-proxy.ts'
import { startSystem, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'
import { until } from './raw-client.ts'
import { startTransactionPooler } from './transaction-pooler.ts'

const system = await startSystem()
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

async function startReplica(env: Record<string, string> = {}) {
  const server = await startServerProcess({ ...system.env, DATA_DIR: await temporaryDirectory(stack), ...env })
  stack.defer(() => void server.child.kill('SIGKILL'))
  return server
}

interface Status {
  replicas: {
    id: string
    name: string | null
    version: string
    started_at: string
    last_seen_at: string
    unshipped_records: number
    journal_bytes: number
  }[]
}

async function runStatus(...options: string[]): Promise<string> {
  const binary = join(import.meta.dirname, '../bin/openai-proxy.cjs')
  const env = { PATH: process.env.PATH, ...system.env }
  return (await promisify(execFile)(process.execPath, [binary, 'status', ...options], { env })).stdout
}

async function listReplicas(): Promise<Status['replicas']> {
  return (JSON.parse(await runStatus('--json')) as Status).replicas
}

async function readiness(url: string): Promise<{ code: number; status: string }> {
  const answer = await fetch(`${url}/readyz`)
  return { code: answer.status, ...((await answer.json()) as { status: string }) }
}

function callWith(url: string, token: string, body: object = { model: 'sim:tokens=3,model=gpt-4o-mini', input: 'hi' }) {
  return fetch(`${url}/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'x-user-id': 'alice', 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
}

test('status lists the servers that live, by the names that they were given; those that end or die drop out', async () => {
  const named = await startReplica({ REPLICA_NAME: 'proxy-1' })
  const nameless = await startReplica()

  const three = await askUntil(listReplicas, (found) => found.length === 3)
  const text = await runStatus()

  assert.deepEqual(
    three.map(({ name }) => name),
    [null, 'proxy-1', null],
  )
  for (const replica of three) {
    assert.match(replica.id, /^[0-9a-f-]{36}$/)
    assert.match(replica.version, /^\d+\.\d+\.\d+/)
    assert.ok(Math.abs(new Date(replica.last_seen_at).getTime() - Date.now()) < 60_000)
    assert.ok(replica.unshipped_records >= 0 && replica.journal_bytes >= 0)
  }
  assert.match(text, /^Replicas: 3$/m)
  assert.match(text, new RegExp(`^${three[1]?.id} +proxy-1 +\\d+\\.\\d+\\.\\d+ `, 'm'))

  await named.kill('SIGTERM')
  assert.deepEqual(
    (await listReplicas()).map(({ name }) => name),
    [null, null],
  )
  await nameless.kill('SIGKILL')
  // A minute passes.
  const died = three[2]?.id
  await system.query("update replicas set last_seen_at = last_seen_at - interval '1 minute' where id = $1", [died])
  assert.ok(!(await listReplicas()).some(({ id }) => id === died))
})

test('F38: a server whose clock is not that of the database is not ready, and says so', async () => {
  const shift = (seconds: number) => {
    const module = `const now=Date.now.bind(Date);Date.now=()=>now()+${seconds * 1000}`
    return startReplica({ NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(module)}` })
  }

  const [ahead, behind, right] = await Promise.all([shift(300), shift(-10), startReplica()])

  assert.deepEqual(await readiness(ahead.url), { code: 503, status: 'clock_skew' })
  assert.deepEqual(await readiness(behind.url), { code: 503, status: 'clock_skew' })
  assert.deepEqual(await readiness(right.url), { code: 200, status: 'ready' })
  assert.equal((await fetch(`${ahead.url}/livez`)).status, 200)
})

test('F46: a server whose master key does not open the database any more is not ready; one with a wrong key does not start', async () => {
  const apart = await startSystem()
  const organization = await apart.organization()
  assert.deepEqual(await readiness(apart.url), { code: 200, status: 'ready' })
  const [secret] = await apart.query<{ sealed: string }>('select sealed from instance_secrets')

  await apart.query("update instance_secrets set sealed = 'enc:m-00000000:' || split_part(sealed, ':', 3)")
  const wrong = await readiness(apart.url)
  const known = await callWith(apart.url, organization.token)
  await apart.query('update instance_secrets set sealed = $1', [secret?.sealed])
  const right = await readiness(apart.url)
  const { ENCRYPTION_KEY } = generateSecrets()

  assert.deepEqual(wrong, { code: 503, status: 'wrong_encryption_key' })
  assert.notEqual(known.status, 403)
  assert.deepEqual(right, { code: 200, status: 'ready' })
  await assert.rejects(
    startServerProcess({ ...apart.env, DATA_DIR: await temporaryDirectory(stack), ENCRYPTION_KEY }),
    /sealed under another ENCRYPTION_KEY/,
  )
})

test('a pooler that gives out connections by the transaction serves everything but LISTEN, which has a way of its own', async () => {
  const url = new URL(system.env.DATABASE_URL ?? '')
  const socket = { path: `${url.searchParams.get('host')}/.s.PGSQL.${url.port}` }
  const login = { user: url.username, database: url.pathname.slice(1) }
  const pooler = stack.use(await startTransactionPooler(socket, login, 3))
  const pooled = `postgresql://${url.username}@127.0.0.1:${pooler.port}${url.pathname}`
  const server = await startReplica({ DATABASE_URL: pooled, DATABASE_LISTEN_URL: url.href })
  const [one, other] = [await system.organization(), await system.organization()]
  const revocable = await one.createToken()

  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, turn) => callWith(server.url, [one.token, other.token, revocable][turn % 3] ?? '')),
  )
  const admin = await Promise.all(
    [one, other].map(({ token }) =>
      fetch(`${server.url}/v1/api/users`, { headers: { authorization: `Bearer ${token}` } }),
    ),
  )
  const claims = JSON.parse(Buffer.from(revocable.split('.')[1] ?? '', 'base64url').toString())
  await revokeToken(system.server.context, OPERATOR, claims.jti)
  const refused = await askUntil(
    () => callWith(server.url, revocable),
    ({ status }) => status === 401,
  )
  const exitCode = await server.kill('SIGTERM')

  assert.deepEqual(
    answers.map(({ status }) => status),
    Array(60).fill(200),
  )
  for (const answer of admin) assert.equal((await answer.text()).match(/"alice"/g)?.length, 1)
  assert.equal(refused.status, 401)
  assert.equal(exitCode, 0)
  const rows = await system.query('select organization_id from attempts where organization_id = any($1)', [
    [one.id, other.id],
  ])
  assert.ok(rows.length >= 60)
  // It did change from connection to connection.
  assert.ok(
    pooler.transactions.every((count) => count >= 5),
    String(pooler.transactions),
  )
})

test('F14: a listener that is silently dead is noticed within seconds, and a revocation is seen all the same', async () => {
  const url = new URL(system.env.DATABASE_URL ?? '')
  const proxy = stack.use(await startTcpProxy({ path: `${url.searchParams.get('host')}/.s.PGSQL.${url.port}` }))
  const server = await startReplica({
    DATABASE_LISTEN_URL: `postgresql://${url.username}@127.0.0.1:${proxy.port}${url.pathname}`,
  })
  const organization = await system.organization()
  const token = await organization.createToken()
  assert.equal((await callWith(server.url, token)).status, 200)

  proxy.mode = 'blackhole'
  await until('it is noticed', () =>
    server.log.some(({ msg }) => String(msg).includes('hears of revoked keys was lost')),
  )
  const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
  await revokeToken(system.server.context, OPERATOR, claims.jti)
  const refused = await askUntil(
    () => callWith(server.url, token),
    ({ status }) => status === 401,
  )

  assert.equal(refused.status, 401)
  assert.equal((await callWith(server.url, organization.token)).status, 200)
})

test('DATABASE_LISTEN_URL is for an own database, and as well formed as DATABASE_URL', async () => {
  await assert.rejects(
    startServerProcess({ DATA_DIR: await temporaryDirectory(stack), DATABASE_LISTEN_URL: 'postgresql://u@h/d' }),
    /DATABASE_LISTEN_URL needs DATABASE_URL/,
  )
  await assert.rejects(
    startServerProcess({ ...system.env, DATABASE_LISTEN_URL: 'mysql://u:hunter2@h/d' }),
    (error: Error) => /DATABASE_LISTEN_URL must look like/.test(error.message) && !error.message.includes('hunter2'),
  )
})
