/** An installation of the earlier system is taken over, odd rows and all, and goes on here. */
import assert from 'node:assert/strict'
import { hash, randomBytes, randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { asAdministrator, OPERATOR } from '../src/auth/caller.ts'
import { verifyLedger } from '../src/ledger/maintenance.ts'
import { createToken } from '../src/tokens/service.ts'
import { runCommand, startCommand } from './command.ts'
import { type System, startSystem, temporaryDirectory } from './harness.ts'
import { createLegacyDatabase, type LegacyDatabase, UPSTREAM_KEY } from './legacy/database.ts'
import { askUntil } from './poll.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const directory = await temporaryDirectory(stack)

test('everything that has a place here is here, under its id, to the nano-dollar; again changes nothing', async () => {
  const system = await startSystem()
  const legacy = await filledLegacy()

  const dry = await runImport(system, legacy, '--dry-run')
  assert.deepEqual(await dump(system), [], 'a dry run changes nothing')
  const done = await runImport(system, legacy)
  const after_ = await dump(system)
  const again = await runImport(system, legacy)

  assert.deepEqual(dry.tables, done.tables)
  assert.deepEqual(await dump(system), after_)
  for (const [table, { imported }] of Object.entries(again.tables)) assert.equal(imported, 0, table)
  assert.deepEqual(
    Object.entries(done.tables).map(([table, report]) => [table, report.found, report.imported, report.skipped.length]),
    [
      ['organizations', 2, 2, 0],
      ['users', 5, 5, 0],
      ['api_keys', 6, 3, 3],
      ['personas', 4, 3, 1],
      ['requests', 13, 12, 1],
      ['ratings', 3, 2, 1],
      ['response_ids', 5, 3, 2],
    ],
  )
  assert.deepEqual(done.not_imported, { analysis_configs: 1, analysis_results: 0, sessions_without_requests: 0 })
  const [sums] = await system.query(
    'select sum(request_count)::int as requests, sum(cost_nano_usd)::text as cost, sum(unpriced_count)::int as unpriced from usage_daily',
  )
  const [rows] = await system.query(
    'select count(*)::int as requests, sum(cost_nano_usd)::text as cost, count(*) filter (where cost_nano_usd is null)::int as unpriced from attempts',
  )
  assert.deepEqual(sums, rows)
  const [source] = await legacy.client
    .query('select sum(cost_usd) * 1000000000 as cost from usage_logs where cost_usd <> $1', ['NaN'])
    .then((r) => r.rows)
  assert.equal(Number(rows?.cost), Number(source.cost))
  const { wrongSums } = await verifyLedger({ db: system.server.context.db, journalDirectory: '/nowhere' })
  assert.deepEqual(wrongSums, [])
})

test('an imported installation goes on: keys call, personas speak as written, responses are gone on with, labels stay labels', async () => {
  const system = await startSystem()
  const legacy = await filledLegacy()
  await runImport(system, legacy)
  const { context } = system.server
  const admin = asAdministrator(OPERATOR, legacy.organizationId)
  const token = (await createToken(context, admin, { days: 1 })).jwt.reveal()
  const call = async (body: object, userId = 'bob', credential = token) => {
    const response = await fetch(`${system.url}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${credential}`, 'x-user-id': userId, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'gpt-4o-mini', input: 'Hello', ...body }),
    })
    await response.text()
    return response.status
  }

  assert.equal(await call({}), 200)
  assert.equal(await call({ persona_id: legacy.personas.braces }), 200)
  const sent = system.simulator.ledger.entries().filter(({ path }) => path === '/v1/responses')
  assert.deepEqual(new Set(sent.map(({ keyHash }) => keyHash)), new Set([hash('sha256', UPSTREAM_KEY)]))
  const instructions = await system.query<{ content: string; variables: object }>(
    'select content, variables from persona_versions where persona_id = $1',
    [legacy.personas.braces],
  )
  assert.deepEqual(instructions, [{ content: 'Say {{hello}} twice: {{hello}}.', variables: { hello: '{{hello}}' } }])
  // The simulated OpenAI never made it, which it says itself: the proxy knows whose it is and lets the request through.
  assert.equal(await call({ previous_response_id: 'resp_known' }, 'alice'), 400)
  assert.equal(await call({ previous_response_id: 'resp_known' }, 'bob'), 404)
  const [label] = (await legacy.client.query('select synthetic_key from api_keys where id = $1', [legacy.keys.wide]))
    .rows
  assert.equal(await call({}, 'alice', label.synthetic_key), 401, 'a label never was a credential')
  const off = await runCommand(['deactivate-key', label.synthetic_key], system.env, directory)
  assert.match(off.stdout, /^API key deactivated: sk-proxy-\w{8}\.\.\.\w{4}\n$/)
})

test('odd users keep what is theirs: who cannot be sent is renamed, who is here already is the same person', async () => {
  const system = await startSystem()
  const legacy = await createLegacyDatabase(stack)
  await legacy.request({ user: legacy.users.blanks })
  await legacy.request({ user: legacy.users.bob })
  await system.query('insert into organizations (id, name) values ($1, $2)', [legacy.organizationId, 'Here first'])
  const [here] = await system.query<{ id: string }>(
    "insert into users (organization_id, external_id) values ($1, 'bob') returning id",
    [legacy.organizationId],
  )

  const done = await runImport(system, legacy)

  const users = await system.query('select id, external_id from users where organization_id = $1', [
    legacy.organizationId,
  ])
  assert.deepEqual(Object.fromEntries(users.map((user) => [user.external_id, user.id])), {
    alice: legacy.users.alice,
    bob: here?.id,
    [`legacy-${legacy.users.empty}`]: legacy.users.empty,
    [`legacy-${legacy.users.blanks}`]: legacy.users.blanks,
  })
  const [organization] = await system.query('select name from organizations where id = $1', [legacy.organizationId])
  assert.equal(organization?.name, 'Here first')
  const owners = await system.query('select user_id from attempts')
  assert.deepEqual(new Set(owners.map((row) => row.user_id)), new Set([here?.id, legacy.users.blanks]))
  assert.equal(done.tables.users?.changed.length, 2)
})

test('a host whose clock was local: its times are put right by its time zone, and the report says when they look wrong', async () => {
  const system = await startSystem()
  const legacy = await createLegacyDatabase(stack)
  // 12:00:05 UTC, written as local time of a host seven hours behind.
  const id = await legacy.request({ completed_at: '2025-08-10T19:00:05Z', rating: 1, rated_at: '2025-08-10T19:01:00Z' })

  const suspicious = await runImport(system, legacy, '--dry-run')
  await runImport(system, legacy, '--source-time-zone', 'America/Los_Angeles')

  assert.match(suspicious.tables.requests?.changed[0]?.why ?? '', /--source-time-zone/)
  const [row] = await system.query('select opened_at, settled_at, duration_ms from attempts where attempt_id = $1', [
    id,
  ])
  assert.deepEqual(
    [row?.opened_at.toISOString(), row?.settled_at.toISOString(), row?.duration_ms],
    ['2025-08-10T12:00:00.123Z', '2025-08-10T12:00:05.000Z', 4877],
  )
  const [rating] = await system.query('select rated_at from ratings')
  assert.equal(rating?.rated_at.toISOString(), '2025-08-10T12:01:00.000Z')
})

test('killed and begun again, an import comes to the same end', async () => {
  const system = await startSystem()
  const legacy = await createLegacyDatabase(stack)
  for (let at = 0; at < 500; at += 1) {
    await legacy.request({
      usage: [[at, 1, '0.000001']],
      created_at: new Date(Date.UTC(2025, at % 5, 3)).toISOString(),
    })
  }
  const args = await importArgs(legacy)
  const { child, ended } = startCommand(['import-legacy', ...args], system.env, directory)
  await askUntil(
    () => system.query('select from attempts'),
    (rows) => rows.length > 0,
  )
  child.kill('SIGKILL')
  await ended

  const done = await runImport(system, legacy)

  assert.equal((done.tables.requests?.imported ?? 0) + (done.tables.requests?.present ?? 0), 500)
  const [sums] = await system.query(
    'select sum(request_count)::int as requests, sum(cost_nano_usd)::int as cost from usage_daily',
  )
  assert.deepEqual(sums, { requests: 500, cost: 500_000 })
})

test('what cannot be imported says why and changes nothing', async () => {
  const system = await startSystem()
  const legacy = await createLegacyDatabase(stack)
  const keyFile = join(directory, 'fernet-key.txt')
  const wrongFile = join(directory, 'wrong-key.txt')
  await writeFile(keyFile, `${legacy.fernetKey}\n`)
  await writeFile(wrongFile, randomBytes(32).toString('base64url'))
  await writeFile(join(directory, 'no-key.txt'), 'ENCRYPTION_KEY=x')
  const run = (...args: string[]) => runCommand(['import-legacy', ...args], system.env, directory)
  const url = ['--database-url', legacy.url]

  const results = [
    await run(...url, '--fernet-key-file', wrongFile),
    await run(...url, '--fernet-key-file', join(directory, 'no-key.txt')),
    await run(...url, '--fernet-key-file', 'missing.txt'),
    await run('--fernet-key-file', keyFile),
    await run('--database-url', 'mysql://x', '--fernet-key-file', keyFile),
    await run('--database-url', 'postgresql://nobody:secret-word@127.0.0.1:1/x', '--fernet-key-file', keyFile),
    await run('--database-url', system.env.DATABASE_URL ?? '', '--fernet-key-file', keyFile),
    await run(...url, '--fernet-key-file', keyFile, '--source-time-zone', 'Mars/Olympus'),
    await run(...url),
  ]

  const sentences = [
    /The Fernet key opens none of the 6 API keys/,
    /holds no Fernet key/,
    /The file missing.txt cannot be read/,
    /Name the database with --database-url or --database-url-file/,
    /The URL must look like postgresql:/,
    /cannot be reached/,
    /no database of the earlier system: it lacks /,
    /The time zone is a name such as UTC/,
    /Required option '--fernet-key-file <file>' not specified/,
  ]
  for (const [at, { stderr, stdout, code }] of results.entries()) {
    assert.match(stderr, sentences[at] ?? /never/)
    assert.ok(code !== 0 && stdout === '', stderr)
    assert.ok(!stderr.includes('secret-word') && !stderr.includes(legacy.fernetKey))
  }
  assert.deepEqual(await dump(system), [])
})

interface Report {
  tables: Record<
    string,
    { found: number; imported: number; present: number; changed: { why: string }[]; skipped: { why: string }[] }
  >
  not_imported: Record<string, number>
}

async function importArgs(legacy: LegacyDatabase): Promise<string[]> {
  const files = [`${randomUUID()}.url`, `${randomUUID()}.key`].map((name) => join(directory, name)) as [string, string]
  await writeFile(files[0], legacy.url)
  await writeFile(files[1], `${legacy.fernetKey}\n`)
  return ['--database-url-file', files[0], '--fernet-key-file', files[1]]
}

async function runImport(system: System, legacy: LegacyDatabase, ...options: string[]): Promise<Report> {
  const args = ['import-legacy', ...(await importArgs(legacy)), ...options]
  const { stdout, stderr, code } = await runCommand([...args, '--json'], system.env, directory)
  assert.deepEqual([code, stderr], [0, ''])
  return JSON.parse(stdout)
}

/** Requests of every kind that years leave behind. */
async function filledLegacy(): Promise<LegacyDatabase> {
  const legacy = await createLegacyDatabase(stack)
  const { users, keys, personas } = legacy
  const usage = (cost: string | null = '0.012345'): [number, number, string | null][] => [[100, 20, cost]]
  await legacy.request({ usage: usage('0.000001'), response_id: 'resp_known', rating: 1, feedback: 'f'.repeat(5000) })
  await legacy.request({
    usage: usage(),
    response_id: 'resp_twice',
    user: users.bob,
    persona: personas.plain,
    rating: -1,
  })
  await legacy.request({ usage: usage('9999.999999'), response_id: 'resp_twice', key: keys.personal })
  await legacy.request({ usage: usage('NaN'), model: 'm'.repeat(100), response_id: 'r'.repeat(255) })
  await legacy.request({ usage: usage(), key: keys.wrongFernet, response_id: 'resp_keyless', rating: 0 })
  await legacy.request({
    usage: [
      [1, 1, '0.5'],
      [1, 1, '0.25'],
    ],
  })
  await legacy.request({
    request: '{"input":"a\\u0000b","stream":true}',
    response: '{"output":["\\u0000"],"model":"gpt-4o"}',
    usage: usage(),
  })
  await legacy.request({ status: 'failed', error: '{"type":"invalid_request_error","code":"bad"}' })
  await legacy.request({ status: 'pending', completed_at: null })
  await legacy.request({ status: 'completed', error: '{"type":"proxy_error","code":"HTTP_502"}' })
  await legacy.request({ status: 'odd', created_at: null, completed_at: null })
  await legacy.request({ usage: usage('0.000000'), created_at: '2023-01-31T23:59:59.999999Z' })
  await legacy.request({ user: users.foreign })
  return legacy
}

/** Everything that an import could change. */
async function dump(system: System) {
  const tables = [
    'organizations',
    'users',
    'api_keys',
    'personas',
    'persona_versions',
    'attempts',
    'ratings',
    'rating_history',
    'sessions',
    'upstream_objects',
    'usage_daily',
  ]
  const lines: string[] = []
  for (const table of tables) {
    const rows = await system.query<{ line: string }>(`select to_jsonb(t)::text as line from ${table} t order by 1`)
    lines.push(...rows.map(({ line }) => `${table} ${line}`))
  }
  return lines
}
