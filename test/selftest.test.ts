/** `openai-proxy selftest`: what it says of servers that work and of servers that do not. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { updateApiKey } from '../src/api-keys/service.ts'
import { Secret } from '../src/secret.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'

const BINARY = join(import.meta.dirname, '../bin/openai-proxy.cjs')
const NAMES = [
  'server',
  'authentication',
  'openai-key',
  'response',
  'streaming',
  'rating',
  'errors',
  'users',
  'api-keys',
]

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const system = await startSystem()
const directory = await temporaryDirectory(stack)

test('a server that works passes every check, and nothing that was made for them is left', async () => {
  const organization = await system.organization()

  const { stdout, stderr, code } = await selftest(organization.token)

  assert.equal(code, 0, stdout)
  const lines = stdout.trim().split('\n')
  assert.deepEqual(
    lines.slice(0, -2).map((line) => line.split(/ {2,}/).slice(0, 2).join(' ')),
    [...NAMES, 'clean-up'].map((name) => `ok ${name}`),
  )
  assert.equal(lines.at(-1), 'Checks: 10, failed: 0, skipped: 0')
  assert.match(
    stderr,
    /^Checking http:\/\/127\.0\.0\.1:\d+: two short answers of gpt-4o-mini, which spend a few tokens\.$/m,
  )
  assert.doesNotMatch(stdout + stderr, /eyJ|sk-/)
  const [left] = await system.query(
    `select (select count(*)::int from users where organization_id = $1 and deleted_at is null) as users,
      (select count(*)::int from api_keys where organization_id = $1 and is_active) as keys,
      (select count(*)::int from attempts where organization_id = $1) as attempts`,
    [organization.id],
  )
  // The key is the organization's own; the third call was of a model that there is not.
  assert.deepEqual(left, { users: 0, keys: 1, attempts: 3 })
})

test('a second run right after the first passes as well', async () => {
  const organization = await system.organization()
  await selftest(organization.token)

  const { code, stdout } = await selftest(organization.token)

  assert.equal(code, 0, stdout)
})

test('what a token may not do is skipped and said so', async () => {
  const organization = await system.organization()
  const narrow = await organization.createToken({ scopes: ['inference'] })

  const withUser = await selftestJson(narrow, '--user', 'Zoë')
  const withoutUser = await selftestJson(narrow)
  const bound = await selftestJson(await organization.createToken({ scopes: ['inference'], externalUserId: 'bob' }))
  const key = await selftestJson(organization.syntheticKey)

  for (const { code, report } of [withUser, bound, key]) {
    assert.equal(code, 0)
    assert.deepEqual(statesOf(report), [...Array(7).fill('ok'), 'skipped', 'skipped'])
    assert.equal(report.checks.at(-1)?.detail, 'the token has no scope org:admin.')
  }
  assert.equal(withoutUser.code, 1)
  assert.match(withoutUser.report.checks[1]?.detail ?? '', /speaks for many users.*--user\.$/)
  const users = await system.query('select external_id from users where organization_id = $1', [organization.id])
  assert.deepEqual(users.map(({ external_id }) => external_id).toSorted(), ['Zoë', 'bob'])
})

test('an admin API on a port of its own is found where --admin-url says', async () => {
  const other = await startSystem({ ADMIN_PORT: '0' })
  const { token } = await other.organization()
  const adminUrl = `http://127.0.0.1:${other.server.adminPort}`

  const without = await selftestJson(token, '--url', other.url, '--user', 'alice')
  const withIt = await selftestJson(token, '--url', `${other.url}/v1/`, '--admin-url', adminUrl)

  assert.match(without.report.checks.at(-1)?.detail ?? '', /--admin-url/)
  assert.deepEqual([withIt.code, withIt.report.url], [0, other.url])
  assert.deepEqual(statesOf(withIt.report), Array(10).fill('ok'))
})

const FAILURES: {
  what: string
  token: (organization: TestOrganization) => Promise<string>
  at: string
  says: RegExp
}[] = [
  {
    what: 'a token that is refused',
    token: async ({ token }) => `${token.slice(0, -8)}AAAAAAAA`,
    at: 'authentication',
    says: /answered 401 \(invalid_authentication: .*create-jwt/,
  },
  {
    what: 'an organization without an OpenAI key',
    token: async ({ token, admin, apiKeyId }) => {
      await updateApiKey(system.server.context, admin, apiKeyId, { isActive: false })
      return token
    },
    at: 'openai-key',
    says: /create-key/,
  },
  {
    what: 'an OpenAI key that OpenAI refuses',
    token: async ({ token, admin, apiKeyId }) => {
      await updateApiKey(system.server.context, admin, apiKeyId, { upstreamKey: new Secret('sk-invalid-0123456789') })
      return token
    },
    at: 'openai-key',
    says: /create-key/,
  },
]

for (const { what, token, at, says } of FAILURES) {
  test(`${what} is a failure, with what to do`, async () => {
    const organization = await system.organization()

    const { code, report } = await selftestJson(await token(organization))

    assert.equal(code, 1)
    assert.equal(report.ok, false)
    const failed = report.checks.filter(({ state }) => state === 'failed')
    assert.equal(failed[0]?.name, at)
    assert.match(failed[0]?.detail ?? '', says)
  })
}

test('a model that there is not is a failure, and what was made is removed all the same', async () => {
  const organization = await system.organization()

  const { code, report } = await selftestJson(organization.token, '--model', 'no-such')

  assert.equal(code, 1)
  assert.match(report.checks[3]?.detail ?? '', /answered 400 \(model_not_found.*--model/)
  assert.deepEqual([report.checks[5]?.state, report.checks.at(-1)?.state], ['skipped', 'ok'])
  const users = await system.query('select from users where organization_id = $1 and deleted_at is null', [
    organization.id,
  ])
  assert.equal(users.length, 0)
})

test('where nothing listens, and where something else does, the first check that shows it fails and the rest is skipped', async () => {
  const agreeable = createServer((_request, response) => response.end('{}')).listen(0, '127.0.0.1')
  await new Promise((resolve) => agreeable.once('listening', resolve))
  const address = agreeable.address()
  const port = typeof address === 'object' && address ? address.port : assert.fail()

  const somethingElse = await selftestJson('a-token', '--url', `http://127.0.0.1:${port}`)
  agreeable.close()
  const nothing = await selftestJson('a-token', '--url', `http://127.0.0.1:${port}`)

  assert.deepEqual([somethingElse.code, nothing.code], [1, 1])
  assert.match(somethingElse.report.checks[1]?.detail ?? '', /^answered 200 in place of 401\./)
  assert.match(nothing.report.checks[0]?.detail ?? '', /cannot be reached \(ECONNREFUSED\)/)
  assert.deepEqual(statesOf(nothing.report), ['failed', ...Array(8).fill('skipped')])
})

test('an interrupted run removes what it had made', async () => {
  const organization = await system.organization()
  const child = start([
    '--token',
    organization.token,
    '--url',
    system.url,
    '--model',
    'sim:delay=60000,model=gpt-4o-mini',
  ])
  const asked = () => system.query('select from users where organization_id = $1', [organization.id])
  const made = await askUntil(asked, ({ length }) => length === 1)

  child.kill('SIGINT')
  const { stdout, code } = await child.ended

  assert.equal(made.length, 1)
  assert.equal(code, 1)
  assert.match(stdout, /^failed {3}response +Interrupted\.$/m)
  assert.match(stdout, /^ok {7}clean-up /m)
  const users = await system.query('select from users where organization_id = $1 and deleted_at is null', [
    organization.id,
  ])
  assert.equal(users.length, 0)
})

test('the token comes from one place, and an address is an address', async () => {
  const file = join(directory, 'token.txt')
  const empty = join(directory, 'empty.txt')
  await writeFile(file, ` ${(await system.organization()).token}\n`)
  await writeFile(empty, '\n')

  const fromFile = await run(['--url', system.url, '--token-file', file])
  const refused = await Promise.all(
    [
      [],
      ['--token', 'x', '--token-file', file],
      ['--token-file', join(directory, 'no-such-file')],
      ['--token-file', empty],
      ['--token', 'two words'],
      ['--token', 'x', '--url', 'localhost:8000'],
      ['--token', 'x', '--url', 'http://me:secret@localhost:8000'],
      ['--token', 'x', '--admin-url', 'ftp://localhost'],
    ].map((args) => run(args)),
  )

  assert.equal(fromFile.code, 0, fromFile.stdout)
  assert.doesNotMatch(fromFile.stderr, /Warning/)
  for (const { code, stdout, stderr } of refused) {
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, /^Error: [^\n]+\.\n$/m)
    assert.doesNotMatch(stderr, /secret/)
  }
})

interface Report {
  url: string
  ok: boolean
  checks: { name: string; state: string; detail: string }[]
}

const statesOf = ({ checks }: Report) => checks.map(({ state }) => state)

function selftest(token: string, ...args: string[]) {
  return run(['--url', system.url, '--token', token, ...args])
}

async function selftestJson(token: string, ...args: string[]): Promise<{ code: number | null; report: Report }> {
  const { stdout, code } = await selftest(token, '--json', ...args)
  return { code, report: JSON.parse(stdout) }
}

const run = (args: string[]) => start(args).ended

function start(args: string[]) {
  const child = spawn(process.execPath, [BINARY, 'selftest', ...args], {
    cwd: directory,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: join(directory, 'compiled') },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const ended = Promise.all([text(child.stdout), text(child.stderr), exited]).then(([stdout, stderr, code]) => ({
    stdout,
    stderr,
    code,
  }))
  return { kill: (signal: NodeJS.Signals) => child.kill(signal), ended }
}
