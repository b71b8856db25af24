import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync, hash, hkdfSync, type KeyObject, randomUUID, sign } from 'node:crypto'
import { after, test } from 'node:test'
import { updateApiKey } from '../src/api-keys/service.ts'
import { newSyntheticKey } from '../src/api-keys/synthetic-key.ts'
import { OPERATOR } from '../src/auth/caller.ts'
import { readConfig } from '../src/config.ts'
import { Secret } from '../src/secret.ts'
import { type RunningServer, serve } from '../src/serve.ts'
import { revokeAllTokens, revokeToken } from '../src/tokens/service.ts'
import { deleteUser } from '../src/users/service.ts'
import { startTcpProxy, type TcpProxy } from './faults/tcp-proxy.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { until } from './raw-client.ts'

const system = await startSystem()
const { context } = system.server
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const second = await startSecondServer()

async function startSecondServer(env: Record<string, string> = {}): Promise<RunningServer> {
  const directory = await temporaryDirectory(stack)
  const server = await serve(readConfig({ ...system.env, PORT: '0', DATA_DIR: directory, ...env }))
  stack.defer(() => server.stop())
  return server
}

interface Ask {
  server?: RunningServer
  token?: string
  userId?: string | undefined
  headers?: Record<string, string>
  fields?: Record<string, unknown>
}

/** One small request, and what was answered to it. */
async function ask(organization: TestOrganization, options: Ask = {}) {
  const { server = system.server, token = organization.token, fields = {} } = options
  const userId = 'userId' in options ? options.userId : 'alice'
  const answer = await fetch(`http://127.0.0.1:${server.port}/v1/responses`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      ...(userId === undefined ? {} : { 'x-user-id': userId }),
      ...options.headers,
    },
    body: JSON.stringify({ model: 'gpt-4o-mini', input: 'hi', ...fields }),
  })
  const text = await answer.text()
  return {
    status: answer.status,
    code: answer.ok ? undefined : JSON.parse(text).error.code,
    text,
    headers: answer.headers,
  }
}

async function keyFor(organization: TestOrganization, userId?: string) {
  const upstreamKey = `sk-upstream-${randomUUID()}`
  const key = await organization.createKey({ upstreamKey: new Secret(upstreamKey), userId })
  return { ...key, hash: hash('sha256', upstreamKey) }
}

function lastKeyHash(): string | null | undefined {
  return system.simulator.ledger.entries().at(-1)?.keyHash
}

function deactivate(organization: TestOrganization, id: string) {
  return updateApiKey(context, organization.admin, id, { isActive: false })
}

test('a hundred racing first requests of one new user, over two servers, make one user', async () => {
  const organization = await system.organization()
  const servers = [system.server, second]

  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, index) =>
      ask(organization, { server: servers[index % 2] as RunningServer, userId: 'new' }),
    ),
  )

  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200])
  await second.context.ledger.flush()
  const users = await system.query('select id from users where organization_id = $1', [organization.id])
  const rows = await system.query('select user_id from attempts where organization_id = $1', [organization.id])
  assert.equal(users.length, 1)
  assert.equal(rows.length, 100)
  assert.ok(rows.every(({ user_id }) => user_id === users[0]?.id))
})

test('an X-User-ID means the same user with blanks around it, another one in another case, and any text is one', async () => {
  const organization = await system.organization()
  for (const userId of ['Zoë 😀', ' alice ', 'alice', 'Alice', "'; drop table users; --", 'x'.repeat(255), '%']) {
    const header = Buffer.from(userId).toString('latin1')
    assert.equal((await ask(organization, { userId: header })).status, 200)
  }
  const users = await system.query('select external_id from users where organization_id = $1 order by created_at', [
    organization.id,
  ])
  assert.deepEqual(
    users.map(({ external_id }) => external_id),
    ['Zoë 😀', 'alice', 'Alice', "'; drop table users; --", 'x'.repeat(255), '%'],
  )
})

test("C43: a call is made with the user's own key, else the organization's, else not at all, and never with another user's", async () => {
  const organization = await system.organization()
  const alice = await organization.createUser('alice')
  const own = await keyFor(organization, alice)
  const shared = await keyFor(organization)
  await deactivate(organization, organization.apiKeyId)

  assert.equal((await ask(organization)).status, 200)
  assert.equal(lastKeyHash(), own.hash)
  assert.equal((await ask(organization, { userId: 'bob' })).status, 200)
  assert.equal(lastKeyHash(), shared.hash)

  await deactivate(organization, own.id)
  await until(
    "alice's key is out of use",
    async () => {
      assert.equal((await ask(organization)).status, 200)
      return lastKeyHash() === shared.hash
    },
    1000,
  )

  await deactivate(organization, shared.id)
  await updateApiKey(context, organization.admin, own.id, { isActive: true })
  await until('bob has no key any more', async () => (await ask(organization, { userId: 'bob' })).status === 403, 1000)
  const callsBefore = system.simulator.ledger.entries().length
  for (const userId of ['bob', 'carol']) assert.equal((await ask(organization, { userId })).code, 'no_api_key')
  assert.equal(system.simulator.ledger.entries().length, callsBefore)
  assert.equal((await ask(organization)).status, 200)
  assert.equal(lastKeyHash(), own.hash)
})

test("C43: a personal key that is presented speaks for its user alone, and is not replaced by another organization's or user's", async () => {
  const organization = await system.organization()
  const own = await keyFor(organization, await organization.createUser('alice'))

  assert.equal((await ask(organization, { token: own.syntheticKey, userId: undefined })).status, 200)
  assert.equal(lastKeyHash(), own.hash)
  assert.equal((await ask(organization, { token: own.syntheticKey })).status, 200)
  const other = await ask(organization, { token: own.syntheticKey, userId: 'bob' })
  assert.deepEqual([other.status, other.code], [403, 'user_mismatch'])
})

test('C14: one synthetic key used for twenty users at once calls OpenAI with the key of each', async () => {
  const organization = await system.organization()
  const hashes = new Map<string, string>()
  for (let index = 0; index < 20; index += 1) {
    const name = `user-${index}`
    hashes.set(name, (await keyFor(organization, await organization.createUser(name))).hash)
  }
  const callsBefore = system.simulator.ledger.entries().length

  await Promise.all(
    Array.from({ length: 400 }, async (_, index) => {
      const userId = `user-${(index * 7) % 20}`
      const headers = { 'x-client-request-id': userId }
      const answer = await ask(organization, { token: organization.syntheticKey, userId, headers })
      assert.equal(answer.status, 200)
    }),
  )

  const calls = system.simulator.ledger.entries().slice(callsBefore)
  assert.equal(calls.length, 400)
  for (const { requestHeaders, keyHash } of calls) {
    assert.equal(keyHash, hashes.get(String(requestHeaders['x-client-request-id'])))
  }
  const mixed = await system.query(
    `select 1 from attempts join users on users.id = attempts.user_id join api_keys on api_keys.id = attempts.api_key_id
     where attempts.organization_id = $1 and api_keys.user_id is distinct from attempts.user_id`,
    [organization.id],
  )
  assert.equal(mixed.length, 0)
})

const NOW = Math.floor(Date.now() / 1000)
const DAY = 86_400

/** The secret of an organization's tokens, derived as the documentation says. */
function secretOf(organizationId: string, generation = 1): Buffer {
  const info = `openai-inference-proxy jwt g${generation}`
  return Buffer.from(hkdfSync('sha256', system.env.JWT_SECRET_KEY ?? '', organizationId, info, 32))
}

type Part = Record<string, unknown>

function partsOf(token: string): { header: Part; claims: Part } {
  const [header, claims] = token
    .split('.')
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString() || '{}'))
  return { header, claims }
}

/** A token by hand; JSON.stringify leaves out what is undefined. */
function forge(header: Part, claims: Part, key: Buffer | KeyObject | string, digest = 'sha256'): string {
  const text = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const isPrivate = typeof key === 'object' && 'type' in key && key.type === 'private'
  const signature = isPrivate
    ? sign(digest, Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' })
    : createHmac(digest, key).update(text).digest()
  return `${text}.${signature.toString('base64url')}`
}

test('C1, C2, C3, C5, C6: a token that is not exactly one of ours is the same 401, and OpenAI hears nothing', async (t) => {
  const organization = await system.organization()
  const stranger = await system.organization()
  const { header, claims } = partsOf(organization.token)
  const secret = secretOf(organization.id)
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicPem = rsa.publicKey.export({ type: 'spki', format: 'pem' }) as string
  const unsigned = (alg: unknown) =>
    `${forge({ ...header, alg }, claims, secret)
      .split('.')
      .slice(0, 2)
      .join('.')}.`
  const withHeader = (fields: Part) => forge({ ...header, ...fields }, claims, secret)
  const withClaims = (fields: Part) => forge(header, { ...claims, ...fields }, secret)
  const legacy = forge({ alg: 'HS256', typ: 'JWT' }, claims, system.env.JWT_SECRET_KEY ?? '')
  assert.equal((await ask(organization, { token: forge(header, claims, secret) })).status, 200)

  const refused: Record<string, string> = {
    'alg none without a signature': unsigned('none'),
    'alg None': unsigned('None'),
    'alg nOnE': unsigned('nOnE'),
    'an empty alg': unsigned(''),
    'no alg': unsigned(undefined),
    'alg none with a signature': withHeader({ alg: 'none' }),
    'alg null with a signature': withHeader({ alg: null }),
    'alg hs256 in small letters': withHeader({ alg: 'hs256' }),
    'no signature': `${organization.token.split('.').slice(0, 2).join('.')}.`,
    'half a signature': organization.token.slice(0, -20),
    'a part too many': `${organization.token}.x`,
    HS384: forge({ ...header, alg: 'HS384' }, claims, secret, 'sha384'),
    HS512: forge({ ...header, alg: 'HS512' }, claims, secret, 'sha512'),
    RS256: forge({ ...header, alg: 'RS256' }, claims, rsa.privateKey),
    ES256: forge({ ...header, alg: 'ES256' }, claims, ec.privateKey),
    'HS256 keyed with a public key': forge(header, claims, publicPem),
    'HS256 keyed with the kid': forge(header, claims, String(header.kid)),
    'HS256 keyed with nothing': forge(header, claims, ''),
    'HS256 keyed with the master secret': forge(header, claims, system.env.JWT_SECRET_KEY ?? ''),
    jwk: withHeader({ jwk: { kty: 'oct', k: secret.toString('base64url') } }),
    jku: withHeader({ jku: `${system.simulator.url}/jwks` }),
    x5u: withHeader({ x5u: `${system.simulator.url}/x5u` }),
    crit: withHeader({ crit: ['exp'] }),
    'b64: false': withHeader({ b64: false, crit: ['b64'] }),
    zip: withHeader({ zip: 'DEF' }),
    'kid of another generation': forge({ ...header, kid: 'g2' }, claims, secretOf(organization.id, 2)),
    'kid g01': withHeader({ kid: 'g01' }),
    'kid as a number': withHeader({ kid: 1 }),
    'kid as a path': withHeader({ kid: '../../g1' }),
    'no kid, which is a token of the earlier system': legacy,
    "another organization's secret": forge(header, claims, secretOf(stranger.id)),
    "our claims with the other's token": forge(
      header,
      { ...partsOf(stranger.token).claims, sub: organization.id },
      secret,
    ),
    "the other's claims under our secret": forge(header, partsOf(stranger.token).claims, secret),
    'an organization that does not exist': forge(header, { ...claims, sub: NOBODY }, secretOf(NOBODY)),
    'sub that is no id': withClaims({ sub: 'everyone' }),
    'no sub': withClaims({ sub: undefined }),
    'no exp': withClaims({ exp: undefined }),
    'exp null': withClaims({ exp: null }),
    'exp as text': withClaims({ exp: String(NOW + DAY) }),
    'exp with a fraction': withClaims({ exp: NOW + DAY + 0.5 }),
    'exp negative': withClaims({ exp: -1 }),
    'exp 0': withClaims({ exp: 0 }),
    'exp huge': withClaims({ exp: 1e15 }),
    'exp in milliseconds': withClaims({ exp: (NOW + DAY) * 1000 }),
    'a life above the maximum': withClaims({ exp: NOW + 3651 * DAY }),
    'exp past by more than the skew': withClaims({ exp: NOW - 62, iat: NOW - DAY }),
    'no iat': withClaims({ iat: undefined }),
    'iat as text': withClaims({ iat: String(NOW) }),
    'iat in the future': withClaims({ iat: NOW + 600 }),
    'nbf in the future': withClaims({ nbf: NOW + 600 }),
    'nbf as text': withClaims({ nbf: String(NOW - 600) }),
    'no jti': withClaims({ jti: undefined }),
    'a jti that is not on record': withClaims({ jti: randomUUID() }),
    "the jti of another organization's token": withClaims({ jti: partsOf(stranger.token).claims.jti }),
    'no scope': withClaims({ scope: undefined }),
    'scope as a list': withClaims({ scope: ['inference'] }),
    'an empty uid': withClaims({ uid: '' }),
    'uid as a number': withClaims({ uid: 5 }),
    'an audience': withClaims({ aud: 'console' }),
  }
  const callsBefore = system.simulator.ledger.entries().length
  const bodies = new Set<string>()
  for (const [name, token] of Object.entries(refused)) {
    await t.test(name, async () => {
      const answer = await ask(organization, { token })
      assert.deepEqual([answer.status, answer.code], [401, 'invalid_authentication'])
      bodies.add(answer.text)
    })
  }
  assert.equal(bodies.size, 1)
  assert.equal(system.simulator.ledger.entries().length, callsBefore)

  await t.test('within the clock skew of a minute it is still one of ours', async () => {
    for (const fields of [{ exp: NOW - 20, iat: NOW - DAY }, { iat: NOW + 50 }, { nbf: NOW + 50 }]) {
      assert.equal((await ask(organization, { token: withClaims(fields) })).status, 200)
    }
  })
})

const NOBODY = '00000000-0000-4000-8000-000000000000'

test('C23: a token bound to a user speaks for that user, with X-User-ID or without, and for nobody else', async () => {
  const organization = await system.organization()
  const token = await organization.createToken({ externalUserId: 'alice' })

  for (const userId of [undefined, 'alice', ' alice ']) {
    assert.equal((await ask(organization, { token, userId })).status, 200)
  }
  for (const userId of ['bob', 'Alice', 'alice2']) {
    const answer = await ask(organization, { token, userId })
    assert.deepEqual([answer.status, answer.code], [403, 'user_mismatch'])
  }
  for (const userId of ['', 'null']) assert.equal((await ask(organization, { token, userId })).status, 400)
  const users = await system.query('select external_id from users where organization_id = $1', [organization.id])
  assert.deepEqual(users, [{ external_id: 'alice' }])
})

test('a token without the scope is 403, for inference and for administration', async () => {
  const organization = await system.organization()
  const admin = await organization.createToken({ scopes: ['org:admin'] })
  const inference = await organization.createToken({ scopes: ['inference'] })

  const refused = await ask(organization, { token: admin })
  assert.deepEqual([refused.status, refused.code], [403, 'insufficient_scope'])
  assert.equal((await ask(organization, { token: inference })).status, 200)
  for (const token of [inference, organization.syntheticKey]) {
    assert.equal((await organization.fetch('/v1/api/users', { token })).status, 403)
  }
  assert.equal((await organization.fetch('/v1/api/users', { token: admin })).status, 200)
})

/** Both servers answer with this status within the second that is promised. */
async function bothAnswer(organization: TestOrganization, options: Ask, status: number): Promise<void> {
  await until(
    `both servers answer ${status}`,
    async () => {
      const answers = await Promise.all(
        [system.server, second].map((server) => ask(organization, { ...options, server })),
      )
      return answers.every((answer) => answer.status === status)
    },
    1000,
  )
}

test('C18: what is revoked, deactivated or outdated stops working on every server within a second, and works again when it may', async (t) => {
  await t.test('a revoked token, and no other', async () => {
    const organization = await system.organization()
    const token = await organization.createToken()
    await bothAnswer(organization, { token }, 200)
    await revokeToken(context, OPERATOR, String(partsOf(token).claims.jti))
    await bothAnswer(organization, { token }, 401)
    await bothAnswer(organization, {}, 200)
  })
  await t.test('all tokens at once, but for those made afterwards', async () => {
    const organization = await system.organization()
    await bothAnswer(organization, {}, 200)
    await revokeAllTokens(context, organization.admin)
    await bothAnswer(organization, {}, 401)
    await bothAnswer(organization, { token: await organization.createToken() }, 200)
    await bothAnswer(organization, {}, 401)
  })
  await t.test('a deactivated API key, until it is active again', async () => {
    const organization = await system.organization()
    const options = { token: organization.syntheticKey, userId: undefined }
    await bothAnswer(organization, options, 200)
    await deactivate(organization, organization.apiKeyId)
    await bothAnswer(organization, options, 401)
    await bothAnswer(organization, {}, 403)
    await updateApiKey(context, organization.admin, organization.apiKeyId, { isActive: true })
    await bothAnswer(organization, options, 200)
    await bothAnswer(organization, {}, 200)
  })
  await t.test('a replaced OpenAI key', async () => {
    const organization = await system.organization()
    await bothAnswer(organization, {}, 200)
    const upstreamKey = `sk-upstream-${randomUUID()}`
    await updateApiKey(context, organization.admin, organization.apiKeyId, { upstreamKey: new Secret(upstreamKey) })
    await until(
      'both servers use the new key',
      async () => {
        const before = system.simulator.ledger.entries().length
        for (const server of [system.server, second]) await ask(organization, { server })
        const calls = system.simulator.ledger.entries().slice(before)
        return calls.every(({ keyHash }) => keyHash === hash('sha256', upstreamKey))
      },
      1000,
    )
  })
  await t.test('the key of a deleted user, whose id is then somebody else', async () => {
    const organization = await system.organization()
    const userId = await organization.createUser('alice')
    const own = await keyFor(organization, userId)
    await bothAnswer(organization, { token: own.syntheticKey }, 200)
    await bothAnswer(organization, {}, 200)
    await deleteUser(context, organization.admin, userId)
    await bothAnswer(organization, { token: own.syntheticKey }, 401)
    await bothAnswer(organization, {}, 200)
    const users = await system.query(
      'select id from users where organization_id = $1 and external_id = $2 and deleted_at is null',
      [organization.id, 'alice'],
    )
    assert.equal(users.length, 1)
    assert.notEqual(users[0]?.id, userId)
    await until(
      'the new alice does not use the old key',
      async () => {
        await ask(organization)
        return lastKeyHash() !== own.hash
      },
      1000,
    )
  })
})

test('tokens of the earlier system work only with LEGACY_TOKENS=accept, and only for organizations there are', async () => {
  const organization = await system.organization()
  const accepting = await startSecondServer({ LEGACY_TOKENS: 'accept' })
  const header = { alg: 'HS256', typ: 'JWT' }
  const claims = { sub: organization.id, org_name: 'x', iat: NOW, exp: NOW + DAY }
  const secret = system.env.JWT_SECRET_KEY ?? ''
  const token = forge(header, claims, secret)

  assert.equal((await ask(organization, { token })).status, 401)
  assert.equal((await ask(organization, { token, server: accepting })).status, 200)
  assert.equal((await ask(organization, { token, server: accepting, userId: undefined })).code, 'missing_user_id')
  for (const wrong of [
    forge(header, { ...claims, sub: NOBODY }, secret),
    forge(header, { ...claims, exp: NOW - 100 }, secret),
    forge(header, { ...claims, exp: undefined }, secret),
    forge({ ...header, kid: 'g1' }, claims, secret),
    forge(header, claims, 'another secret of no less than 32 characters'),
  ]) {
    assert.equal((await ask(organization, { token: wrong, server: accepting })).status, 401)
  }
})

test('a database that is away: known callers are served on, unknown ones get 503 and never 401 or 403', async () => {
  const url = new URL(system.env.DATABASE_URL ?? '')
  const socketPath = `${url.searchParams.get('host')}/.s.PGSQL.${url.port}`
  const line = stack.use(await startTcpProxy({ path: socketPath }))
  const databaseUrl = `postgresql://${url.username}@127.0.0.1:${line.port}${url.pathname}`
  const server = await startSecondServer({ DATABASE_URL: databaseUrl })
  const organization = await system.organization()
  const unseen = await organization.createToken()
  const unseenKey = (await organization.createKey()).syntheticKey
  await organization.createUser('alice')
  await everythingIsHeard(organization, server)
  const known = [{ server }, { server, token: organization.syntheticKey, userId: undefined }]
  for (const options of known) assert.equal((await ask(organization, options)).status, 200)

  const awaySince = new Date()
  line.mode = 'refuse'
  using _ = { [Symbol.dispose]: () => restore(line) }
  const deadline = performance.now() + 1500
  let served = 0
  while (performance.now() < deadline) {
    for (const options of known) {
      const { status, text } = await ask(organization, options)
      assert.equal(status, 200, text)
      served += 1
    }
  }
  for (const options of [
    { token: unseen },
    { token: unseenKey, userId: undefined },
    { token: newSyntheticKey(), userId: undefined },
    { userId: 'somebody new' },
    { fields: { previous_response_id: 'resp_of_another_day' } },
    { fields: { persona_id: '7f9a815f-576b-4770-b77e-cff14a1099e7' } },
  ]) {
    const answer = await ask(organization, { ...options, server })
    assert.deepEqual([answer.status, answer.code], [503, 'database_unavailable'])
    assert.ok(Number(answer.headers.get('retry-after')) > 0)
  }
  assert.equal((await ask(organization, { server, token: 'nonsense' })).status, 401)

  restore(line)
  await until('unseen callers are known again', async () => {
    const answer = await ask(organization, { server, token: unseen })
    if (answer.status === 200) served += 1
    return answer.status === 200
  })
  await server.context.ledger.flush()
  const rows = await system.query('select 1 from attempts where organization_id = $1 and opened_at >= $2', [
    organization.id,
    awaySince,
  ])
  assert.equal(rows.length, served)
})

function restore(line: TcpProxy): void {
  line.mode = 'pass'
}

/** News of changes comes in order: once that of a key made for this has come, all before it has. */
async function everythingIsHeard(organization: TestOrganization, server: RunningServer): Promise<void> {
  const { id, syntheticKey } = await organization.createKey()
  const options = { server, token: syntheticKey, userId: undefined }
  assert.equal((await ask(organization, options)).status, 200)
  await deactivate(organization, id)
  await until('the key is refused', async () => (await ask(organization, options)).status === 401, 1000)
}

test('a session is adopted or begun, told to the client whatever the answer, and recorded', async () => {
  const organization = await system.organization()
  const adopted = { 'x-session-id': 'Session of /alice/ #1' }

  assert.equal((await ask(organization, { headers: adopted })).headers.get('x-session-id'), adopted['x-session-id'])
  const begun = (await ask(organization)).headers.get('x-session-id')
  assert.match(begun ?? '', /^sess_[0-9a-f]{32}$/)
  for (const [options, status] of [
    [{ token: 'nonsense' }, 401],
    [{ userId: undefined }, 400],
    [{ fields: { model: 5 } }, 400],
    [{ fields: { model: 'sim:status=500' } }, 500],
    [{ fields: { model: 'sim:status=401' } }, 502],
    [{ fields: { model: 'sim:reset=head' } }, 502],
    [{ fields: { previous_response_id: 'resp_unknown' } }, 404],
  ] as const) {
    const answer = await ask(organization, { ...options, headers: adopted })
    assert.deepEqual([answer.status, answer.headers.get('x-session-id')], [status, adopted['x-session-id']])
  }
  await ask(organization, { headers: adopted, userId: 'bob' })
  const rows = await system.query<{ session_id: string; users: string }>(
    `select session_id, count(distinct user_id)::text as users from attempts
     where organization_id = $1 group by 1 order by users desc`,
    [organization.id],
  )
  assert.deepEqual(rows, [
    { session_id: adopted['x-session-id'], users: '2' },
    { session_id: begun, users: '1' },
  ])
  const sessions = await system.query('select 1 from sessions where organization_id = $1', [organization.id])
  assert.equal(sessions.length, 3)
})
