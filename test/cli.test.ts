/** The operator's command line, as the processes that operators start. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { asAdministrator, OPERATOR } from '../src/auth/caller.ts'
import { readConfig } from '../src/config.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { createOrganization } from '../src/organizations/service.ts'
import { serve } from '../src/serve.ts'
import { createUser } from '../src/users/service.ts'
import { createDatabase, temporaryDirectory } from './harness.ts'

const BINARY = fileURLToPath(new URL('../bin/openai-proxy.cjs', import.meta.url))
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/
const TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00$/
const OPENAI_KEY = 'sk-upstream-0123456789abcdef'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const directory = await temporaryDirectory(stack)
const { databaseUrl, client } = await createDatabase(stack)
const env = {
  DATABASE_URL: databaseUrl,
  DATA_DIR: directory,
  HOST: '127.0.0.1',
  PORT: '0',
  // What a container sets for its server must not get between a command and its output.
  LOG_LEVEL: 'trace',
  ...generateSecrets(),
}
const server = await serve(readConfig({ ...env, LOG_LEVEL: 'silent' }))
stack.defer(() => server.stop())

test('an empty installation says so in every list', async () => {
  const { databaseUrl } = await createDatabase(stack)
  const empty = { DATABASE_URL: databaseUrl }

  const migrated = await run(['migrate'], { env: empty })
  const lists = await Promise.all(
    ['list-orgs', 'list-keys', 'list-users', 'list-tokens'].map((c) => run([c], { env: empty })),
  )

  assert.match(migrated.stdout, /^\nMigrations applied:\n {2}0001_initial\n/)
  assert.deepEqual(
    lists.map(({ stdout }) => stdout),
    ['No organizations found.\n', 'No API keys found.\n', 'No organizations found.\n', 'No tokens found.\n'],
  )
})

test('an organization is created and listed with the labels of the guide, and as JSON', async () => {
  const created = await run(['create-org', 'Guide Organization'])
  const id = firstUuid(created.stdout)
  const [listed, asJson] = await Promise.all([run(['list-orgs']), runJson(['list-orgs'])])

  assert.equal(created.stdout, `\nOrganization created successfully!\nID: ${id}\nName: Guide Organization\n`)
  assert.ok(listed.stdout.startsWith(`\nOrganizations:\n${'-'.repeat(60)}\n`))
  const [, , time] = blockOf(listed.stdout, `ID: ${id}`)
  assert.match(time ?? '', /^Created: /)
  assert.match(time?.slice('Created: '.length) ?? '', TIME)
  assert.equal(asJson.organizations.find((o: { id: string }) => o.id === id).name, 'Guide Organization')
})

test('an OpenAI key given as an argument works and is warned about; its synthetic key is shown this once', async () => {
  const id = await organization('Acme')

  const created = await run([
    'create-key',
    id,
    OPENAI_KEY,
    '--name',
    'Production Key',
    '--description',
    'For production',
  ])
  const syntheticKey = /^Synthetic Key: (sk-proxy-\w{38})$/m.exec(created.stdout)?.[1] ?? ''
  const listed = await run(['list-keys', '--org-id', id])

  assert.ok(
    created.stdout.startsWith(
      '\nAPI key created successfully!\nOrganization: Acme\nName: Production Key\nSynthetic Key: sk-proxy-',
    ),
  )
  assert.match(created.stderr, /^Warning: .*argument.*history/)
  assert.ok(!created.stderr.includes(OPENAI_KEY) && !created.stdout.includes(OPENAI_KEY))
  assert.deepEqual(
    blockOf(listed.stdout, 'ID: ').map((line) => line.replace(UUID, '<uuid>').replace(/^Created: .*/, 'Created:')),
    [
      'ID: <uuid>',
      'Organization: Acme (<uuid>)',
      'User: None',
      'Name: Production Key',
      'Description: For production',
      `Synthetic Key: ${syntheticKey.slice(0, 17)}...${syntheticKey.slice(-4)}`,
      'Active: True',
      'Created:',
    ],
  )
})

test('an OpenAI key comes from standard input or a file without a warning, and a key may be bound to a user', async () => {
  const id = await organization('Quiet')
  const user = await userOf(id, 'alice')
  const file = join(directory, 'openai-key.txt')
  await writeFile(file, `${OPENAI_KEY}\n`)

  const [piped, fromFile, missing, nothing, unknownUser, elsewhere] = await Promise.all([
    run(['create-key', id], { input: `${OPENAI_KEY}\n` }),
    runJson(['create-key', id, '--key-file', file, '--user-id', user.id]),
    run(['create-key', id, '--key-file', `${file}.none`]),
    run(['create-key', id]),
    run(['create-key', id, '--user-id', id], { input: OPENAI_KEY }),
    run(['create-key', id, '--base-url', 'https://evil.example/v1'], { input: OPENAI_KEY }),
  ])

  assert.equal(piped.stderr, '')
  assert.match(piped.stdout, /^Synthetic Key: sk-proxy-/m)
  assert.match(fromFile.synthetic_key, /^sk-proxy-\w{38}$/)
  assert.equal(fromFile.external_user_id, 'alice')
  assertFails(missing, /^Error: The key file .* cannot be read/)
  assertFails(nothing, /^Error: No OpenAI key was given/)
  assertFails(unknownUser, new RegExp(`^Error: User not found: ${id} in organization ${id}\\n$`))
  assertFails(elsewhere, /^Error: The origin https:\/\/evil\.example is not trusted/)
})

test('a key is switched off and on by its id, its prefix, the form that lists show, or itself, and is never echoed', async () => {
  const id = await organization('Switches')
  const key = await runJson(['create-key', id], { input: OPENAI_KEY })
  const masked = `${key.synthetic_key.slice(0, 17)}...${key.synthetic_key.slice(-4)}`

  const outputs: string[] = []
  for (const named of [key.synthetic_key, masked]) {
    outputs.push((await run(['deactivate-key', named])).stdout)
    outputs.push((await run(['activate-key', named === masked ? key.id : masked.slice(0, 17)])).stdout)
  }
  const last = await runJson(['deactivate-key', key.id])

  assert.deepEqual(outputs, [
    `API key deactivated: ${masked}\n`,
    `API key activated: ${masked}\n`,
    `API key deactivated: ${masked}\n`,
    `API key activated: ${masked}\n`,
  ])
  assert.deepEqual([last.is_active, last.synthetic_key], [false, masked])
})

test('a key that nobody has is not found, and a whole key that was typed is not repeated', async () => {
  const typed = `sk-proxy-${'x'.repeat(38)}`
  const unknownId = randomUUID()

  const [whole, byId] = await Promise.all([run(['deactivate-key', typed]), run(['activate-key', unknownId])])

  assertFails(whole, /^Error: API key not found: sk-proxy-xxxxxxxx\.\.\.\n$/)
  assertFails(byId, new RegExp(`^Error: API key not found: ${unknownId}\\n$`))
})

test('users are created once, listed under their organization, and deleted together with their keys', async () => {
  const id = await organization('People')

  const created = await run(['create-user', id, 'user123'])
  const internalId = firstUuid(created.stdout)
  const again = await run(['create-user', id, 'user123'])
  await run(['create-key', id, '--user-id', internalId], { input: OPENAI_KEY })
  const [listed, all] = await Promise.all([run(['list-users', '--org-id', id]), run(['list-users'])])
  const deleted = await run(['delete-user', internalId])
  const [gone, keys] = await Promise.all([
    run(['list-users', '--org-id', id]),
    runJson(['list-keys', '--user-id', internalId]),
  ])

  assert.equal(
    created.stdout,
    `\nUser created successfully!\nOrganization: People\nUser ID: user123\nInternal ID: ${internalId}\n`,
  )
  assert.equal(again.stdout, created.stdout)
  assert.match(again.stderr, /^Warning: There is a user "user123" already/)
  assert.ok(
    listed.stdout.startsWith(
      `\nUsers for Organization: People (${id})\n${'-'.repeat(80)}\nID: ${internalId}\nUser ID: user123\nCreated: `,
    ),
  )
  assert.ok(all.stdout.startsWith(`\nUsers by Organization:\n${'='.repeat(80)}\n`))
  assert.ok(
    all.stdout.includes(`Organization: People (${id})\n${'-'.repeat(80)}\n  ID: ${internalId}\n  User ID: user123\n`),
  )
  assert.equal(deleted.stdout, '\nUser deleted successfully!\nOrganization: People\nUser ID: user123\n')
  assert.equal(gone.stdout, 'No users found.\n')
  assert.deepEqual(
    keys.api_keys.map((key: { is_active: boolean }) => key.is_active),
    [false],
  )
})

test('a token stands alone on its line, and says what it may do', async () => {
  const id = await organization('Tokens')

  const { stdout } = await run(['create-jwt', '--org-name', 'Tokens', '--org-id', id, '--days', '30'])

  const lines = stdout.split('\n')
  const token = lines[lines.indexOf('Token:') + 2] ?? ''
  assert.match(token, /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/)
  assert.deepEqual(
    lines.map((line) => line.replace(token, '<token>').replace(/^(Expires|Token ID): .*/, '$1:')),
    [
      '',
      '='.repeat(60),
      'JWT TOKEN CREATED SUCCESSFULLY',
      '='.repeat(60),
      `Organization ID: ${id}`,
      'Organization Name: Tokens',
      'Expires:',
      'Valid for: 30 days',
      'Scopes: inference, org:admin',
      'Token ID:',
      '',
      'Token:',
      '-'.repeat(60),
      '<token>',
      '-'.repeat(60),
      '',
      'Use this token in the Authorization header:',
      'Authorization: Bearer <token>',
      '',
      'It may administer the organization: give applications one with --scope inference.',
      '='.repeat(60),
      '',
    ],
  )
})

test('a token takes its organization by name alone while that is unambiguous, and the name on record either way', async () => {
  const id = await organization('Named')
  await Promise.all([organization('Twin'), organization('Twin')])

  const [byName, misnamed, unknown, ambiguous] = await Promise.all([
    runJson(['create-jwt', '--org-name', 'Named']),
    run(['create-jwt', '--org-name', 'Renamed', '--org-id', id]),
    run(['create-jwt', '--org-name', 'Nobody']),
    run(['create-jwt', '--org-name', 'Twin']),
  ])

  assert.deepEqual([byName.organization_id, byName.days], [id, 365])
  assert.match(misnamed.stdout, /^Organization Name: Named$/m)
  assert.match(misnamed.stderr, /^Warning: The organization is called "Named", not "Renamed"/)
  assertFails(unknown, /^Error: Organization not found: Nobody; create it first with create-org\.\n$/)
  assertFails(ambiguous, /^Error: Several organizations are called "Twin".*--org-id/)
})

test('a token is bound to a user by either id and then only for inference, and its scopes can be chosen', async () => {
  const id = await organization('Bound')
  const user = await userOf(id, 'bob')
  const create = ['create-jwt', '--org-name', 'Bound', '--org-id', id]

  const [bound, chosen, repeated, wrong, days] = await Promise.all([
    runJson([...create, '--user-id', user.id, '--name', 'Laptop']),
    runJson([...create, '--scope', 'inference']),
    runJson([...create, '--scope', 'inference', '--scope', 'org:admin']),
    run([...create, '--scope', 'everything']),
    run([...create, '--days', '0']),
  ])

  assert.deepEqual([bound.user_id, bound.scopes, bound.name], ['bob', ['inference'], 'Laptop'])
  assert.deepEqual(chosen.scopes, ['inference'])
  assert.deepEqual(repeated.scopes, ['inference', 'org:admin'])
  assertFails(wrong, /^Error: .*Scopes are inference and org:admin\.\n$/, 2)
  assertFails(days, /^Error: A token is valid for 1 to 3650 whole days\.\n$/)
})

test('revoked tokens are refused by the running server, and those made afterwards are not', async () => {
  const id = await organization('Revocation')
  const create = ['create-jwt', '--org-name', 'Revocation', '--org-id', id]
  const [single, other] = await Promise.all([runJson(create), runJson(create)])

  const revoked = await run(['revoke-token', single.id])
  const [first, second] = [await statusFor(single.token), await statusFor(other.token)]
  const all = await run(['revoke-tokens', '--org-id', id])
  const later = await runJson(create)
  const listed = await runJson(['list-tokens', '--org-id', id])

  assert.equal(revoked.stdout, `Token revoked: ${single.id}\n`)
  assert.deepEqual([first, second], [401, 200])
  assert.equal(all.stdout, `All tokens revoked: Revocation (${id})\n`)
  assert.equal(await statusFor(later.token), 200)
  assert.deepEqual(
    listed.tokens.map(({ id, state }: { id: string; state: string }) => [id === later.id, state]).sort(),
    [
      [false, 'revoked'],
      [false, 'revoked'],
      [true, 'valid'],
    ],
  )
})

test('an error is one sentence on standard error, with exit code 1 for what failed and 2 for what was not understood', async () => {
  const unknown = randomUUID()
  const cases: [string[], RegExp, number][] = [
    [['create-key', 'not-a-uuid', OPENAI_KEY], /^Error: Invalid UUID format: not-a-uuid\n$/, 1],
    [['create-user', unknown, 'alice'], new RegExp(`^Error: Organization not found: ${unknown}\\n$`), 1],
    [['list-users', '--org-id', unknown, '--json'], new RegExp(`^Error: Organization not found: ${unknown}\\n$`), 1],
    [['list-keys', '--user-id', 'x'], /^Error: Invalid UUID format: x\n$/, 1],
    [['delete-user', unknown], new RegExp(`^Error: User not found: ${unknown}\\n$`), 1],
    [['revoke-token', unknown], new RegExp(`^Error: Token not found: ${unknown}\\n$`), 1],
    [['create-org'], /^Error: Missing required argument 'name'\.\n$/, 2],
    [['create-orgs'], /^Error: Unknown command 'create-orgs'; did you mean create-org\?\n$/, 2],
    [['list-orgs', '--what'], /^Error: Unknown option '--what'\.\n$/, 2],
  ]

  const results = await Promise.all(cases.map(([args]) => run(args)))

  for (const [index, [, sentence, code]] of cases.entries()) assertFails(results[index], sentence, code)
})

test('a broken configuration is told in one line without its values, and a database that is away as such', async () => {
  const [broken, away, status] = await Promise.all([
    run(['list-orgs'], { env: { PORT: 'eighty', JWT_SECRET_KEY: 'tooshort' } }),
    run(['list-orgs'], { env: { DATABASE_URL: 'postgresql://u:hunter2@127.0.0.1:1/none' } }),
    run(['status'], { env: { DATABASE_URL: 'postgresql://u:hunter2@127.0.0.1:1/none' } }),
  ])

  assertFails(broken, /^Error: (?=.*PORT must)(?=.*JWT_SECRET_KEY must).*\n$/)
  assert.ok(!broken.stderr.includes('eighty') && !broken.stderr.includes('tooshort'))
  assertFails(away, /^Error: The database cannot be reached.*\n$/)
  assert.equal(status.code, 1)
  assert.match(status.stdout, /^Database: external, 127\.0\.0\.1:1\/none\nPostgres: not reachable\. /m)
  assert.ok(!`${away.stderr}${status.stdout}${status.stderr}`.includes('hunter2'))
})

test('a DATABASE_URL that leads to something else than Postgres is told as such', async () => {
  const imposter = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  imposter.listen(0, '127.0.0.1')
  await once(imposter, 'listening')
  const { port } = imposter.address() as AddressInfo

  const lost = await run(['list-orgs'], { env: { DATABASE_URL: `postgresql://u:hunter2@127.0.0.1:${port}/none` } })

  imposter.close()
  assertFails(lost, /^Error: The database cannot be reached.*\n$/)
  assert.ok(!lost.stderr.includes('hunter2'))
})

test('a name cannot colour the terminal or pass for another line, and comes unchanged as JSON', async () => {
  const name = 'Evil\u001b[31m\nActive: True\u0007'
  const created = await run(['create-org', name])
  const id = firstUuid(created.stdout)
  const [listed, asJson, error] = await Promise.all([
    run(['list-orgs']),
    runJson(['list-orgs']),
    run(['deactivate-key', name]),
  ])

  assert.match(created.stdout, /^Name: Evil Active: True$/m)
  assert.ok(listed.stdout.includes('Name: Evil Active: True\n') && !listed.stdout.includes('\u001b'))
  assert.equal(asJson.organizations.find((o: { id: string }) => o.id === id).name, name)
  assertFails(error, /^Error: API key not found: Evil Active: True\n$/)
})

test('generate-keys works without any configuration, and what it prints is a valid one', async () => {
  const [lines, asJson] = await Promise.all([
    run(['generate-keys'], { env: { DATABASE_URL: 'nonsense', PORT: 'x' } }),
    runJson(['generate-keys']),
  ])

  const generated = Object.fromEntries(
    lines.stdout
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
  assert.deepEqual(Object.keys(generated), ['JWT_SECRET_KEY', 'ENCRYPTION_KEY'])
  readConfig(generated)
  assert.notEqual(asJson.encryption_key, generated.ENCRYPTION_KEY)
})

test('migrate --status shows what is pending and changes nothing', async () => {
  const { databaseUrl, client } = await createDatabase(stack)

  const pending = await run(['migrate', '--status'], { env: { DATABASE_URL: databaseUrl } })
  const notCreated = await run(['migrate', '--status'], {
    env: { DATABASE_URL: '', DATA_DIR: join(directory, 'none') },
  })
  const applied = await runJson(['migrate', '--status'])
  const { rows } = await client.query("select count(*) as tables from pg_tables where schemaname = 'public'")

  assert.match(pending.stdout, /^0001_initial +pending$/m)
  assert.match(notCreated.stdout, /^0001_initial +pending$/m)
  assert.ok(applied.migrations.every((migration: { applied_at: string | null }) => migration.applied_at !== null))
  assert.equal(Number(rows[0].tables), 0)
})

test('status counts what is there and finds the running server', async () => {
  const status = await runJson(['status'], { env: { PORT: String(server.port) } })

  assert.equal(status.server.state, 'ready')
  assert.deepEqual(status.database.pending_migrations, [])
  assert.ok(status.counts.organizations >= 1 && status.counts.valid_tokens >= 1)
  assert.equal(status.last_24_hours.cost_usd, '0.00')
})

test('recorded requests are listed newest first with tokens, cost and who asked', async () => {
  const id = await organization('Requests')
  const empty = await run(['list-requests', '--org-id', id])
  const user = await userOf(id, 'carol')
  const key = await runJson(['create-key', id, '--name', 'Main'], { input: OPENAI_KEY })
  await client.query(
    `insert into attempts (organization_id, user_id, api_key_id, attempt_id, opened_at, settled_at, request_id, endpoint,
      session_id, model_used, is_stream, status, usage_source, input_tokens, cached_tokens, output_tokens, cost_nano_usd,
      first_byte_ms, duration_ms)
    values ($1, $2, $3, gen_random_uuid(), now(), now(), 'req_1', 'responses.create', 'sess_1', 'gpt-4o-mini', false,
      'completed', 'reported', 8, 0, 6, 4800, 12, 34)`,
    [id, user.id, key.id],
  )

  const [table, asJson, tooMany] = await Promise.all([
    run(['list-requests', '--org-id', id]),
    runJson(['list-requests', '--org-id', id]),
    run(['list-requests', '--org-id', id, '--limit', '0']),
  ])

  assert.equal(empty.stdout, 'No requests found.\n')
  assert.match(table.stdout, /req_1 +carol +Main +gpt-4o-mini +completed +8 +0 +6 +\$0\.0000048 +12 ms +34 ms/)
  const [request] = asJson.requests
  assert.deepEqual([request.external_user_id, request.input_tokens, request.cost_usd], ['carol', 8, '0.0000048'])
  assertFails(tooMany, /^Error: --limit is a whole number/)
})

test('the audit log of an organization is verified, down to the entry that was altered', async () => {
  const id = await organization('Audited')
  await userOf(id, 'dave')

  const intact = await run(['verify-audit', '--org-id', id])
  await client.query("update audit_log set target = 'somebody-else' where organization_id = $1 and sequence = 2", [id])
  const broken = await run(['verify-audit', '--org-id', id])

  assert.equal(intact.stdout, 'Audit log intact: 2 entries of Audited\n')
  assertFails(broken, /^Error: The audit log is broken: entry 2 /)
})

test('help explains every command with an example, and a reader that hangs up early is no error', async () => {
  const help = await run([])
  const names = [...help.stdout.matchAll(/^ {2}([a-z-]+) (?:\[options\] ?)?/gm)].map(([, name]) => name ?? '')
  const commands = names.filter((name) => name !== 'help' && !name.startsWith('-'))

  const [version, pipe, ...pages] = await Promise.all([
    run(['--version']),
    run(['list-orgs'], { readBytes: 1 }),
    ...['create-key', 'create-jwt', 'demo'].map((command) => run([command, '--help'])),
  ])

  assert.equal(help.code, 0)
  assert.ok(commands.length >= 20, `only ${commands}`)
  assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/)
  assert.deepEqual([pipe.code, pipe.stderr], [0, ''])
  for (const page of pages) assert.match(page.stdout, /\nExample:\n {2}\$ openai-proxy /)
})

interface Result {
  stdout: string
  stderr: string
  code: number | null
}

async function run(
  args: string[],
  options: { env?: Record<string, string>; input?: string; readBytes?: number } = {},
): Promise<Result> {
  const child = spawn(process.execPath, [BINARY, ...args], {
    cwd: directory,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: join(directory, 'compiled'), ...env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  if (options.readBytes !== undefined) child.stdout.destroy()
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const stdout = options.readBytes === undefined ? text(child.stdout) : Promise.resolve('')
  const [out, stderr, code] = await Promise.all([stdout, text(child.stderr), exited])
  return { stdout: out, stderr, code }
}

/** The one JSON document on standard output. */
async function runJson(args: string[], options: { env?: Record<string, string>; input?: string } = {}) {
  const { stdout, stderr, code } = await run([...args, '--json'], options)
  assert.deepEqual([code, stderr], [0, ''], `${args.join(' ')}: ${stderr}`)
  return JSON.parse(stdout)
}

/** What a test only needs to be there is made without a process of its own. */
async function organization(name: string): Promise<string> {
  return (await createOrganization(server.context, OPERATOR, { name })).id
}

async function userOf(organizationId: string, externalId: string) {
  return createUser(server.context, asAdministrator(OPERATOR, organizationId), { externalId })
}

function assertFails(result: Result | undefined, sentence: RegExp, code = 1): void {
  assert.match(result?.stderr ?? '', sentence)
  assert.deepEqual([result?.stdout, result?.code], ['', code])
}

function firstUuid(output: string): string {
  return UUID.exec(output)?.[0] ?? assert.fail(`no UUID in: ${output}`)
}

/** The lines from the first that begins so to the next rule. */
function blockOf(output: string, start: string): string[] {
  const lines = output.split('\n')
  const from = lines.findIndex((line) => line.startsWith(start))
  const rule = lines.findIndex((line, index) => index > from && /^-+$/.test(line))
  return lines.slice(from, rule)
}

async function statusFor(token: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${server.port}/v1/api/users`, {
    headers: { authorization: `Bearer ${token}` },
  })
  await response.body?.cancel()
  return response.status
}
