/** Everything of one organization and nothing of another, without secrets. */
import assert from 'node:assert/strict'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { OPERATOR } from '../src/auth/caller.ts'
import { EXPORTED_TABLES } from '../src/export/store.ts'
import { createOrganization } from '../src/organizations/service.ts'
import { runCommand } from './command.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const directory = await temporaryDirectory(stack)
const system = await startSystem()

test('an export has every row of the organization, exactly, and no other; nor a secret', async () => {
  const [own, other] = [await filled('own'), await filled('other')]
  await system.query("update organizations set name = 'The same name'")

  const { code, stderr } = await exported(own, 'whole')

  assert.equal(code, 0, stderr)
  const files = await readdir(join(directory, 'whole'))
  const text = (await Promise.all(files.map((file) => readFile(join(directory, 'whole', file), 'utf8')))).join('')
  const lines = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  for (const { type, table } of EXPORTED_TABLES) {
    const column = table === 'organizations' ? 'id' : 'organization_id'
    const [row] = await system.query(`select count(*)::int from ${table} where ${column} = $1`, [own.id])
    assert.equal(lines.filter((line) => line.type === type).length, row?.count, type)
  }
  const attempts = lines.filter(({ type }) => type === 'attempt')
  const rows = await system.query('select * from attempts where organization_id = $1 order by opened_at', [own.id])
  assert.deepEqual(
    attempts.map((line) => [line.attempt_id, String(line.cost_nano_usd), new Date(line.opened_at).getTime()]),
    rows.map((row) => [row.attempt_id, row.cost_nano_usd, Math.floor(row.opened_at.getTime())]),
  )
  assert.ok(attempts.length >= 3)
  assert.ok(!text.includes(other.id), 'nothing names the other organization')
  for (const secret of [own.token, own.syntheticKey, 'enc:v', 'sk-upstream']) assert.ok(!text.includes(secret), secret)
  assert.ok(!text.includes('What only own asked'), 'contents were not asked for')
  for (const file of files) assert.equal((await stat(join(directory, 'whole', file))).mode & 0o777, 0o600)
  assert.equal((await stat(join(directory, 'whole'))).mode & 0o777, 0o700)
})

test('with contents an export has what was asked and answered, in one file if so named, and the log says that it was made', async () => {
  const own = await filled('own')

  const { code, stdout } = await exported(own, 'one.jsonl', '--with-content', '--json')

  const lines = (await readFile(join(directory, 'one.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const contents = lines.filter(({ type }) => type === 'content')
  assert.equal(code, 0)
  assert.equal(contents.length, 6)
  assert.ok(contents.some(({ kind, text }) => kind === 'request' && text.includes('What only own asked')))
  assert.deepEqual(JSON.parse(stdout).lines.content, 6)
  const last = lines.filter(({ type }) => type === 'audit_entry').at(-1)
  assert.deepEqual([last.action, last.details], ['organization.export', { with_content: true }])
})

test('more rows than a page come out once each, in order', async () => {
  const own = await filled('own')
  await system.query(
    "insert into users (organization_id, external_id) select $1, 'user ' || n from generate_series(1, 1700) as n",
    [own.id],
  )

  await exported(own, 'many')

  const users = (await readFile(join(directory, 'many', 'user.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).id)
  assert.ok(users.length > 1700)
  assert.deepEqual(users, [...new Set(users)].sort())
})

test('an export writes over nothing, and what cannot be exported says so', async () => {
  const own = await filled('own')
  await writeFile(join(directory, 'taken.jsonl'), 'mine')
  const results = [
    await exported(own, 'taken.jsonl'),
    await exported(own, '.'),
    await runCommand(['export-org', 'x', '--to', 'a'], system.env, directory),
    await runCommand(['export-org', '00000000-0000-4000-8000-000000000000', '--to', 'a'], system.env, directory),
    await runCommand(['export-org', own.id], system.env, directory),
  ]

  assert.deepEqual(
    results.map(({ code, stderr }) => [code, stderr.split('\n')[0]]),
    [
      [1, 'Error: taken.jsonl is there already and not empty: name another file or directory.'],
      [1, 'Error: . is there already and not empty: name another file or directory.'],
      [1, 'Error: Invalid UUID format: x'],
      [1, 'Error: Organization not found: 00000000-0000-4000-8000-000000000000'],
      [2, "Error: Required option '--to <path>' not specified."],
    ],
  )
  assert.equal(await readFile(join(directory, 'taken.jsonl'), 'utf8'), 'mine')
  assert.ok(!(await readdir(directory)).some((name) => name.endsWith('.partial')))
})

test('every table of tenants is exported, or known not to be', async () => {
  const tables = await system.query<{ table_name: string; columns: string[] }>(
    `select c.table_name::text, array_agg(c.column_name::text) as columns from information_schema.columns c
     join pg_class on relname = c.table_name and not relispartition
     where c.table_schema = 'public' group by 1 having 'organization_id' = any(array_agg(c.column_name::text))`,
  )
  const secret = await system.query<{ table_name: string; column_name: string }>(
    `select table_name::text, column_name::text from information_schema.columns where table_schema = 'public'
     and (data_type = 'bytea' or column_name ~ 'seal|hash|secret')`,
  )

  const known = [...EXPORTED_TABLES.map(({ table }) => table), ...Object.keys(NOT_EXPORTED)]
  assert.deepEqual(
    tables.map(({ table_name }) => table_name).filter((table) => !known.includes(table)),
    [],
  )
  for (const { table, omit = [] } of EXPORTED_TABLES) {
    // The hashes of the audit log are what it is verified by.
    if (table === 'audit_log') continue
    const open = secret.filter((column) => column.table_name === table && !omit.includes(column.column_name))
    assert.deepEqual(
      open.map(({ column_name }) => column_name).filter((column) => column !== 'client_secrets'),
      [],
      table,
    )
  }
})

const NOT_EXPORTED: Record<string, string> = {
  organization_keys: 'secrets',
  contents: 'opened, when asked for',
  background_attempts: 'a queue: they become attempts',
  audit_heads: 'the end of the audit log, once more',
  attempt_retention: 'said by the audit log',
  usage_slices: 'the sums of usage_daily once more, as reports read them',
}

async function filled(name: string): Promise<TestOrganization> {
  const organization = await system.organization()
  for (const userId of ['alice', 'bob', 'carol']) {
    const answer = await organization
      .client({ userId })
      .responses.create({ model: 'gpt-4o-mini', input: `What only ${name} asked` })
    await organization.fetch(`/v1/responses/${answer._request_id}/rate`, {
      method: 'POST',
      body: '{"rating":1}',
      userId,
    })
  }
  await askUntil(
    () => system.query('select from contents where organization_id = $1', [organization.id]),
    (rows) => rows.length === 6,
  )
  return organization
}

function exported(organization: TestOrganization, to: string, ...options: string[]) {
  return runCommand(['export-org', organization.id, '--to', to, ...options], system.env, directory)
}

test('two organizations of one name never mix', async () => {
  const [one, two] = [
    await createOrganization(system.server.context, OPERATOR, { name: 'Twin' }),
    await createOrganization(system.server.context, OPERATOR, { name: 'Twin' }),
  ]

  await Promise.all(
    [one, two].map(({ id }) => runCommand(['export-org', id, '--to', `twin-${id}`], system.env, directory)),
  )

  for (const [own, other] of [
    [one, two],
    [two, one],
  ] as const) {
    const text = await readFile(join(directory, `twin-${own.id}`, 'organization.jsonl'), 'utf8')
    assert.ok(text.includes(own.id) && !text.includes(other.id))
  }
})
