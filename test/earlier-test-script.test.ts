/**
 * What the earlier system's own test script asks for, step by step, with its commands as they are in the image: administrators
 * run it against an installation to see whether it works.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { symlink } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { startSystem, temporaryDirectory } from './harness.ts'

const ROOT = join(import.meta.dirname, '..')
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/
const TOKEN = /eyJ[\w-]+\.[\w-]+\.[\w-]+/

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const system = await startSystem()
const programs = await temporaryDirectory(stack)
await symlink(join(ROOT, 'docker/python'), join(programs, 'python'))
await symlink(join(ROOT, 'bin/openai-proxy.cjs'), join(programs, 'openai-proxy'))
// The launcher's own `node` is the one that runs this test.
await symlink(process.execPath, join(programs, 'node'))

test('the fourteen steps of the earlier test script end as it expects', async () => {
  const name = `Test Org ${randomUUID().slice(0, 8)}`

  // 1, 2: by `docker exec`; the script takes the first match in whatever is printed.
  const created = await python('scripts/manage_api_keys.py', 'create-org', name)
  const organizationId = UUID.exec(created.output)?.[0] ?? ''
  const minted = await python('scripts/create_jwt.py', '--org-name', name, '--org-id', organizationId)
  const token = TOKEN.exec(minted.output)?.[0] ?? ''
  assert.deepEqual([created.code, minted.code], [0, 0])
  const [organization] = await system.query('select id from organizations where name = $1', [name])
  assert.equal(organization?.id, organizationId)

  // 3, 4
  const call = caller(token)
  await call('GET', '/health')
  assert.equal((await call('GET', '/v1/responses/health')).status, 200)

  // 5, 6
  const users: string[] = []
  for (const who of ['u1', 'u2']) {
    const { status, body } = await call('POST', '/v1/api/users', { user_id: `${who}+${randomUUID()}@ex.com` })
    assert.equal(status, 201)
    users.push(body.id)
  }
  const [first = '', second = ''] = users
  assert.match(`${first} ${second}`, new RegExp(`^${UUID.source} ${UUID.source}$`))
  assert.equal((await call('GET', '/v1/api/users')).body.users.length, 2)

  // 7, 8
  const key = { openai_api_key: 'sk-dummy-0123456789abcdef', name: 'Org key', description: 'organization-wide' }
  const organizationKey = await call('POST', '/v1/api/keys', key)
  const userKey = await call('POST', '/v1/api/keys', { ...key, name: 'User key', user_id: first })
  assert.deepEqual([organizationKey.status, userKey.status], [201, 201])
  assert.match(`${organizationKey.body.id} ${userKey.body.id}`, new RegExp(`^${UUID.source} ${UUID.source}$`))
  assert.equal((await call('GET', '/v1/api/keys')).body.api_keys.length, 2)

  // 9: the internal id stands where an external one belongs, and becomes a third user; the session is unknown.
  const question = { model: 'gpt-4o', input: 'Say hello', max_output_tokens: 20, temperature: 0 }
  const session = `sess-${randomUUID().slice(0, 8)}`
  const answer = await call(
    'POST',
    '/v1/responses',
    { ...question, stream: false },
    { 'X-User-ID': first, 'X-Session-ID': session },
  )
  assert.equal(answer.status, 200)
  assert.match(answer.body.id, /^resp_/)
  const requestId = answer.headers.get('x-request-id') ?? ''
  assert.match(requestId, /^req_[0-9a-f]{32}$/)

  // 10
  const stream = await fetch(`${system.url}/v1/responses`, {
    method: 'POST',
    headers: { ...headersOf(token), 'X-User-ID': second, Accept: 'text/event-stream' },
    body: JSON.stringify({ ...question, stream: true }),
  })
  let firstData: string | undefined
  for await (const line of createInterface({ input: Readable.fromWeb(stream.body ?? assert.fail()) })) {
    if (line.startsWith('data:')) firstData ??= line
  }
  assert.match(firstData ?? '', /^data: \{/)

  // 11, without a user
  const rating = await call('POST', `/v1/responses/${requestId}/rate`, { rating: 1, feedback: 'Good response' })
  assert.deepEqual([rating.status, rating.body.request_id], [200, requestId])

  // 12, 13, 14
  assert.equal((await caller('bad')('GET', '/v1/api/users')).status, 401)
  assert.ok([400, 422].includes((await call('POST', '/v1/responses', question)).status))
  const noModel = await call('POST', '/v1/responses', { ...question, model: 'no-such' }, { 'X-User-ID': first })
  assert.ok([400, 422].includes(noModel.status), `${noModel.status}`)
})

test('the other commands of the earlier system are those of openai-proxy under their old names', async () => {
  const { output } = await python('scripts/manage_api_keys.py', 'create-org', 'Earlier')
  const id = UUID.exec(output)?.[0] ?? ''
  const [key, user, users, keys, secrets, help] = await Promise.all([
    python('scripts/manage_api_keys.py', 'create-key', id, 'sk-dummy-0123456789abcdef', '--name', 'Earlier key'),
    python('/app/scripts/manage_users.py', 'create-user', id, 'user123'),
    python('scripts/manage_users.py', 'list-users'),
    python('scripts/manage_api_keys.py', 'list-keys', '--org-id', id),
    python('scripts/manage_api_keys.py', 'generate-fernet-key'),
    python('scripts/manage_personas.py'),
  ])
  const persona = await python('scripts/manage_personas.py', 'create-persona', id, 'Support', 'You are helpful.')

  for (const { code, output } of [key, user, users, keys, secrets, help, persona]) assert.equal(code, 0, output)
  assert.match(key.output, /^Synthetic Key: sk-proxy-\w+$/m)
  assert.match(user.output, /^Internal ID: [0-9a-f-]{36}$/m)
  assert.match(users.output, /^Users by Organization:$/m)
  assert.match(secrets.output, /^ENCRYPTION_KEY=\S{44}$/m)
  assert.match(help.output, /^Usage: openai-proxy /m)
  assert.match(persona.output, /^Persona created successfully!$/m)
})

test('what never was a command of the earlier system is refused, and failures are failures', async () => {
  const refused = await Promise.all([
    python(),
    python('-c', 'print(1)'),
    python('scripts/../../bin/sh'),
    python('scripts/manage_api_keys.py', 'no-such-verb'),
  ])
  const failed = await python('scripts/manage_users.py', 'create-user', 'not-a-uuid', 'user123')

  for (const { code, output } of refused) {
    assert.equal(code, 2)
    assert.match(output, /^Error: /)
  }
  assert.deepEqual([failed.code, failed.output], [1, 'Error: Invalid UUID format: not-a-uuid\n'])
})

interface Answer {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: whatever the step is about
  body: any
}

function caller(token: string) {
  return async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> => {
    const response = await fetch(`${system.url}${path}`, {
      method,
      headers: { ...headersOf(token), ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return { status: response.status, headers: response.headers, body: await response.json() }
  }
}

function headersOf(token: string) {
  return { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }
}

/** @returns both outputs as one, as the script merges them. */
async function python(...args: string[]): Promise<{ output: string; code: number | null }> {
  const child = spawn('python', args, {
    env: { ...system.env, PATH: `${programs}${delimiter}${process.env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited])
  return { output: stdout + stderr, code }
}
