/** Secrets are changed while servers serve, and nobody notices. */
import assert from 'node:assert/strict'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createApiKey } from '../src/api-keys/service.ts'
import { readConfig } from '../src/config.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { Secret } from '../src/secret.ts'
import { type RunningServer, serve } from '../src/serve.ts'
import { runCommand, startCommand } from './command.ts'
import { startServerProcess } from './faults/server-process.ts'
import { type System, startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const directory = await temporaryDirectory(stack)

test('both secrets are rotated under load, with replicas that have different keys, and no request fails', async () => {
  const system = await startSystem()
  const organizations = await Promise.all([fill(system, 10, 20), fill(system, 10, 20)])
  const next = nextSecrets(system.env)
  const load = startLoad(organizations, [system.url])
  stack.defer(async () => {
    await load.stop()
  })

  // One replica after the other is restarted with the new secrets; the first one has only the old ones until then.
  const second = await replica(next)
  load.urls.push(`http://127.0.0.1:${second.port}`)
  load.newKeysOn(second.context)
  const third = await replica(next)
  load.urls.splice(0, 1, `http://127.0.0.1:${third.port}`)
  const rotated = await runCommand(['rotate-encryption-key', '--data-keys', '--json'], next, directory)
  const token = await runCommand(
    ['create-jwt', '--org-name', 'Any', '--org-id', organizations[0].id, '--json'],
    next,
    directory,
  )
  load.tokens.push(JSON.parse(token.stdout).token)
  const fourth = await replica({
    ...next,
    ENCRYPTION_KEY_PREVIOUS: '',
    JWT_SECRET_KEY_PREVIOUS: next.JWT_SECRET_KEY_PREVIOUS ?? '',
  })
  load.urls.push(`http://127.0.0.1:${fourth.port}`)
  const seen = load.count
  await askUntil(
    async () => load.count,
    (count) => count > seen + 100,
  )
  const failures = await load.stop()

  assert.deepEqual(failures, [])
  assert.equal(rotated.code, 0, rotated.stderr)
  const document = JSON.parse(rotated.stdout)
  assert.equal(document.retired.length, 1)
  assert.ok(document.data_keys.resealed >= 2 * (10 + 20 * 2), rotated.stdout)
  assert.equal(document.data_keys.retired, 2)
  await assertAllSealedUnder(system, document.encryption_key)
})

test('a replica without the new key is not ready, says so, and never says that there is no API key', async () => {
  const system = await startSystem()
  const organization = await fill(system, 1, 1)
  const next = nextSecrets(system.env)

  const rotated = await runCommand(['rotate-encryption-key'], next, directory)
  // What it has not opened yet it cannot open now.
  await system.query('update api_keys set updated_at = now()')
  const ready = await askUntil(
    () => readiness(system.server.port),
    (status) => status !== 'ready',
  )
  const refusals = await Promise.all(
    Array.from({ length: 20 }, () => organization.fetch('/v1/responses', { method: 'POST', body: BODY })),
  )
  const restarted = await serve(readConfig({ ...system.env, PORT: '0' })).catch((error: Error) => error)
  const without = await serve(readConfig({ ...next, ENCRYPTION_KEY_PREVIOUS: '', PORT: '0' }))
  stack.defer(() => without.stop())

  assert.equal(rotated.code, 0, rotated.stderr)
  assert.equal(ready, 'wrong_encryption_key')
  for (const { status } of refusals) assert.ok(status === 200 || status === 503, `${status}`)
  assert.ok(restarted instanceof Error)
  assert.match(restarted.message, /sealed under another ENCRYPTION_KEY/)
})

test('killed again and again, a rotation leaves every row readable, and the last run finishes it', async () => {
  const system = await startSystem()
  const organization = await fill(system, 40, 60)
  const next = nextSecrets(system.env)
  const second = await replica(next)
  const requestIds = (await system.query<{ request_id: string }>('select request_id from attempts')).map(
    (row) => row.request_id,
  )

  for (const place of ['organization_keys', 'api_keys', 'contents']) {
    const { child, ended } = startCommand(['rotate-encryption-key', '--data-keys'], next, directory)
    const before = await fingerprint(system, place)
    await Promise.race([
      ended,
      askUntil(
        () => fingerprint(system, place),
        (now) => now !== before,
      ),
    ])
    child.kill('SIGKILL')
    await ended
    await assertReadable(second.port, organization, requestIds)
  }
  const last = await runCommand(['rotate-encryption-key', '--data-keys', '--json'], next, directory)

  assert.equal(last.code, 0, last.stderr)
  await assertReadable(second.port, organization, requestIds)
  await assertAllSealedUnder(system, JSON.parse(last.stdout).encryption_key)
  const again = await runCommand(['rotate-encryption-key', '--json'], next, directory)
  assert.deepEqual([JSON.parse(again.stdout).resealed, JSON.parse(again.stdout).retired], [0, []])
})

test('two rotations at once: one waits its turn by saying so, and nothing is lost', async () => {
  const system = await startSystem()
  const organization = await fill(system, 5, 5)
  const next = nextSecrets(system.env)

  const results = await Promise.all(
    [1, 2, 3].map(() => runCommand(['rotate-encryption-key', '--data-keys'], next, directory)),
  )

  assert.ok(
    results.some(({ code }) => code === 0),
    JSON.stringify(results),
  )
  for (const { code, stderr } of results) if (code !== 0) assert.match(stderr, /Another process is changing keys/)
  const second = await replica(next)
  const rows = await system.query<{ request_id: string }>('select request_id from attempts')
  await assertReadable(
    second.port,
    organization,
    rows.map((row) => row.request_id),
  )
})

test('a key that was retired never comes into force again, and one that is in force is not rotated to itself', async () => {
  const system = await startSystem()
  await fill(system, 1, 1)
  const next = nextSecrets(system.env)
  const nothing = await runCommand(['rotate-encryption-key'], system.env, directory)
  await runCommand(['rotate-encryption-key'], next, directory)

  const back = {
    ...system.env,
    ENCRYPTION_KEY_PREVIOUS: next.ENCRYPTION_KEY ?? '',
  }
  const refused = await runCommand(['rotate-encryption-key'], back, directory)

  assert.equal(nothing.code, 1)
  assert.match(nothing.stderr, /^Error: ENCRYPTION_KEY is in force already. To change it/)
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /was in force before and is retired/)
})

test('with the embedded database both secrets are changed in the data directory under a running server', async () => {
  const data = join(await temporaryDirectory(stack), 'data')
  const env = { DATA_DIR: data }
  const server = await startServerProcess(env)
  stack.defer(async () => {
    await server.kill('SIGTERM')
  })
  const command = async (...args: string[]) => {
    const { stdout, stderr, code } = await runCommand([...args, '--json'], { ...env, PORT: '1' }, directory)
    assert.equal(code, 0, stderr)
    return JSON.parse(stdout)
  }
  const { id } = await command('create-org', 'Embedded')
  await command('create-key', id, 'sk-upstream-0123456789abcdef')
  const { token: former } = await command('create-jwt', '--org-name', 'Embedded', '--org-id', id)
  const before = await readFile(join(data, 'encryption-key'), 'utf8')

  const rotated = await command('rotate-encryption-key', '--data-keys')
  await command('rotate-jwt-secret', '--grace-days', '1')
  const { token: fresh } = await command('create-jwt', '--org-name', 'Embedded', '--org-id', id)
  await command('create-key', id, 'sk-upstream-0123456789abcdef')
  const statuses = await Promise.all(
    [former, fresh].map(async (token) => {
      const response = await fetch(`${server.url}/v1/api/keys`, { headers: { authorization: `Bearer ${token}` } })
      return [response.status, ((await response.json()) as { api_keys: unknown[] }).api_keys?.length]
    }),
  )
  const ready = await readiness(Number(new URL(server.url).port))
  const twice = await runCommand(['rotate-jwt-secret'], { ...env }, directory)

  assert.equal(rotated.retired.length, 1)
  assert.deepEqual(statuses, [
    [200, 2],
    [200, 2],
  ])
  assert.equal(ready, 'ready')
  assert.match(twice.stderr, /still accepted until/)
  const files = (await readdir(data)).filter((name) => /key|jwt/.test(name)).sort()
  assert.deepEqual(files, [
    'encryption-key',
    'encryption-key-previous',
    'jwt-previous-until',
    'jwt-secret-key',
    'jwt-secret-key-previous',
  ])
  for (const name of files) assert.equal((await stat(join(data, name))).mode & 0o777, 0o600, name)
  assert.equal(await readFile(join(data, 'encryption-key-previous'), 'utf8'), before)
})

test("synthetic keys and tokens of now outlive the encryption key, and the former JWT secret's end refuses its tokens", async () => {
  const system = await startSystem()
  const organization = await fill(system, 1, 1)
  const next = nextSecrets(system.env)
  await runCommand(['rotate-encryption-key'], next, directory)

  const graceOver = await replica({ ...next, JWT_PREVIOUS_UNTIL: '2026-01-01T00:00:00Z' })
  const call = async (credential: string) => {
    const response = await fetch(`http://127.0.0.1:${graceOver.port}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${credential}`, 'content-type': 'application/json', 'x-user-id': 'alice' },
      body: BODY,
    })
    await response.text()
    return response.status
  }

  assert.equal(await call(organization.syntheticKey), 200)
  assert.equal(await call(organization.token), 401)
})

const BODY = JSON.stringify({ model: 'gpt-4o-mini', input: 'Hello' })

function nextSecrets(env: Record<string, string>): Record<string, string> {
  return {
    ...env,
    ...generateSecrets(),
    ENCRYPTION_KEY_PREVIOUS: env.ENCRYPTION_KEY ?? '',
    JWT_SECRET_KEY_PREVIOUS: env.JWT_SECRET_KEY ?? '',
  }
}

async function replica(env: Record<string, string>) {
  const server = await serve(readConfig({ ...env, DATA_DIR: await temporaryDirectory(stack), PORT: '0' }))
  stack.defer(() => server.stop())
  return server
}

/** An organization with so many keys, and so many calls whose content is kept. */
async function fill(system: System, keys: number, calls: number): Promise<TestOrganization> {
  const organization = await system.organization()
  for (let at = 1; at < keys; at += 1) await organization.createKey({ name: `key ${at}` })
  for (let at = 0; at < calls; at += 10) {
    await Promise.all(
      Array.from({ length: Math.min(10, calls - at) }, () =>
        organization.client().responses.create({ model: 'gpt-4o-mini', input: 'What is the capital of France?' }),
      ),
    )
  }
  await askUntil(
    async () => (await system.query('select from contents where organization_id = $1', [organization.id])).length,
    (count) => count === calls * 2,
  )
  return organization
}

/** Four callers at a time, by token and by synthetic key, on whatever replicas there are; what failed is told in the end. */
function startLoad(organizations: readonly TestOrganization[], urls: string[]) {
  const failures: string[] = []
  const tokens = organizations.map(({ token }) => token)
  let isStopped = false
  const load = {
    urls,
    tokens,
    count: 0,
    newKeysOn(context: RunningServer['context']) {
      makers.push(makeKeys(context))
    },
    async stop() {
      isStopped = true
      await Promise.all([...callers, ...makers])
      return failures
    },
  }
  const makers: Promise<void>[] = []
  const callers = Array.from({ length: 4 }, async (_, caller) => {
    for (let turn = caller; !isStopped; turn += 1) {
      const url = load.urls[turn % load.urls.length] ?? ''
      const organization = organizations[turn % organizations.length]
      const credential = turn % 3 === 0 ? organization?.syntheticKey : tokens[turn % tokens.length]
      const response = await fetch(`${url}/v1/responses`, {
        method: 'POST',
        headers: { authorization: `Bearer ${credential}`, 'content-type': 'application/json', 'x-user-id': 'alice' },
        body: BODY,
      })
      const text = await response.text()
      if (response.status !== 200) failures.push(`${response.status} ${text}`)
      load.count += 1
    }
  })
  async function makeKeys({ db, vault }: RunningServer['context']): Promise<void> {
    while (!isStopped) {
      for (const { admin } of organizations) {
        await createApiKey({ db, vault }, admin, { upstreamKey: new Secret('sk-upstream-made-under-load') }).catch(
          (error: Error) => failures.push(error.message),
        )
      }
    }
  }
  return load
}

/** Every kept body opens, and the server is ready. */
async function assertReadable(port: number, organization: TestOrganization, requestIds: readonly string[]) {
  const seen = new Set<string>()
  for (const requestId of requestIds) {
    const response = await fetch(`http://127.0.0.1:${port}/v1/requests/${requestId}/content`, {
      headers: { authorization: `Bearer ${organization.token}` },
    })
    const content = (await response.json()) as { request: { text: string } | null; response: { text: string } | null }
    seen.add(`${response.status} ${content.request?.text.includes('gpt-4o-mini')} ${content.response !== null}`)
  }
  assert.deepEqual([...seen], ['200 true true'])
  assert.equal(await readiness(port), 'ready')
}

async function readiness(port: number): Promise<string> {
  const { status } = (await (await fetch(`http://127.0.0.1:${port}/readyz`)).json()) as { status: string }
  return status
}

/** What a kill is waited for: the names of the keys in this table. */
async function fingerprint(system: System, table: string): Promise<string> {
  const text = table === 'contents' ? "convert_from(substring(sealed from 1 for 7), 'latin1')" : SEALED_COLUMN[table]
  const rows = await system.query(
    `select split_part(${text}, ':', 2) as name, count(*) from ${table} group by 1 order by 1`,
  )
  return JSON.stringify(rows)
}

const SEALED_COLUMN: Record<string, string> = { organization_keys: 'sealed', api_keys: 'upstream_key_sealed' }

async function assertAllSealedUnder(system: System, masterName: string): Promise<void> {
  const wrong = await system.query(
    `select sealed from organization_keys where split_part(sealed, ':', 2) <> $1
     union all select sealed from instance_secrets where split_part(sealed, ':', 2) <> $1`,
    [masterName],
  )
  const old = await system.query(
    `with newest as (select organization_id, 'v' || max(version) as name from organization_keys group by 1)
     select 'key' as kind from api_keys join newest using (organization_id) where split_part(upstream_key_sealed, ':', 2) <> newest.name
     union all
     select 'content' from contents join newest using (organization_id)
     where split_part(convert_from(substring(sealed from 1 for 7), 'latin1'), ':', 2) <> newest.name`,
  )
  assert.deepEqual([wrong, old], [[], []])
}
