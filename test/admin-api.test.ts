import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { createApp } from '../src/app.ts'
import { readConfig } from '../src/config.ts'
import { setDefault } from '../src/personas/defaults.ts'
import { createPersona } from '../src/personas/service.ts'
import { ENDPOINTS } from '../src/proxy/endpoints.ts'
import { Secret } from '../src/secret.ts'
import { serve } from '../src/serve.ts'
import { startSystem, type TestOrganization } from './harness.ts'

const system = await startSystem()
const BODY_BYTES_MAX = 256 * 1024

/** What a route asks for, with a request that works when `tenant` is the caller's own. */
interface Row {
  needs: 'nothing' | 'any_credential' | 'inference' | 'org:admin'
  path(tenant: Tenant): string
  body?(tenant: Tenant): Record<string, unknown>
  /** The same path with another id; present when the route names a thing of a tenant's. */
  pathOf?(id: string): string
  /** Whether ids have a form that can be wrong. */
  hasUuid?: boolean
  /** Fields that are not texts, or may not be this long. */
  wrongBodies?: Record<string, unknown>[]
}

/** An organization with one thing of each kind. */
interface Tenant {
  organization: TestOrganization
  userId: string
  apiKeyId: string
  personaId: string
  requestId: string
  responseId: string
}

const LONG = 'x'.repeat(5000)
const UPSTREAM_KEY = 'sk-upstream-0123456789'

const ROUTES: Record<string, Row> = {
  'GET /': { needs: 'nothing', path: () => '/' },
  'GET /health': { needs: 'nothing', path: () => '/health' },
  'GET /livez': { needs: 'nothing', path: () => '/livez' },
  'GET /readyz': { needs: 'nothing', path: () => '/readyz' },
  'GET /v1/responses/health': { needs: 'any_credential', path: () => '/v1/responses/health' },
  'POST /v1/responses': {
    needs: 'inference',
    path: () => '/v1/responses',
    body: () => ({ model: 'gpt-4o-mini', input: 'Hello' }),
  },
  'POST /v1/responses/{id}/rate': {
    needs: 'inference',
    path: (tenant) => `/v1/responses/${tenant.requestId}/rate`,
    pathOf: (id) => `/v1/responses/${id}/rate`,
    body: () => ({ rating: 1, feedback: 'helped' }),
    wrongBodies: [
      { rating: 2 },
      { rating: 0 },
      { rating: '1' },
      { rating: null },
      { rating: true },
      {},
      { rating: 1, feedback: 5 },
      { rating: 1, feedback: LONG },
    ],
  },
  'GET /v1/requests/{request_id}/content': {
    needs: 'org:admin',
    path: (tenant) => `/v1/requests/${tenant.requestId}/content`,
    pathOf: (id) => `/v1/requests/${id}/content`,
  },
  'GET /v1/requests/{request_id}/ratings': {
    needs: 'org:admin',
    path: (tenant) => `/v1/requests/${tenant.requestId}/ratings`,
    pathOf: (id) => `/v1/requests/${id}/ratings`,
  },
  ...Object.fromEntries(
    ['models', 'rated-responses', 'ratings', 'usage', 'user-usage', 'sessions', 'personas'].map(
      (report): [string, Row] => [
        `GET /v1/analytics/${report}`,
        { needs: 'org:admin', path: () => `/v1/analytics/${report}` },
      ],
    ),
  ),
  'GET /v1/analytics/personas/{persona_id}': {
    needs: 'org:admin',
    path: (tenant) => `/v1/analytics/personas/${tenant.personaId}`,
    pathOf: (id) => `/v1/analytics/personas/${id}`,
    hasUuid: true,
  },
  'POST /v1/api/users': {
    needs: 'org:admin',
    path: () => '/v1/api/users',
    body: () => ({ user_id: `user-${randomUUID()}` }),
    wrongBodies: [
      { user_id: 5 },
      { user_id: null },
      { user_id: ['a'] },
      {},
      { user_id: '' },
      { user_id: '  ' },
      { user_id: 'NULL' },
      { user_id: 'x'.repeat(256) },
      { user_id: 'a\u0000b' },
      { user_id: 'a\ud800' },
    ],
  },
  'GET /v1/api/users': { needs: 'org:admin', path: () => '/v1/api/users' },
  'GET /v1/api/users/{user_id}': {
    needs: 'org:admin',
    path: (tenant) => `/v1/api/users/${tenant.userId}`,
    pathOf: (id) => `/v1/api/users/${id}`,
    hasUuid: true,
  },
  'DELETE /v1/api/users/{user_id}': {
    needs: 'org:admin',
    path: (tenant) => `/v1/api/users/${tenant.userId}`,
    pathOf: (id) => `/v1/api/users/${id}`,
    hasUuid: true,
  },
  'POST /v1/api/users/{user_id}/erase': {
    needs: 'org:admin',
    path: (tenant) => `/v1/api/users/${tenant.userId}/erase`,
    pathOf: (id) => `/v1/api/users/${id}/erase`,
    hasUuid: true,
  },
  'POST /v1/api/keys': {
    needs: 'org:admin',
    path: () => '/v1/api/keys',
    body: () => ({ openai_api_key: UPSTREAM_KEY, name: 'a key' }),
    wrongBodies: [
      {},
      { openai_api_key: '' },
      { openai_api_key: 'sk with spaces' },
      { openai_api_key: 5 },
      { openai_api_key: 'x'.repeat(513) },
      { openai_api_key: UPSTREAM_KEY, user_id: 'not-a-uuid' },
      { openai_api_key: UPSTREAM_KEY, user_id: randomUUID() },
      { openai_api_key: UPSTREAM_KEY, name: 'x'.repeat(256) },
      { openai_api_key: UPSTREAM_KEY, name: 7 },
      { openai_api_key: UPSTREAM_KEY, name: 'a\u0000b' },
      { openai_api_key: UPSTREAM_KEY, description: LONG },
    ],
  },
  'GET /v1/api/keys': { needs: 'org:admin', path: () => '/v1/api/keys' },
  'GET /v1/api/keys/{key_id}': {
    needs: 'org:admin',
    path: (tenant) => `/v1/api/keys/${tenant.apiKeyId}`,
    pathOf: (id) => `/v1/api/keys/${id}`,
    hasUuid: true,
  },
  'PUT /v1/api/keys/{key_id}': {
    needs: 'org:admin',
    path: (tenant) => `/v1/api/keys/${tenant.apiKeyId}`,
    pathOf: (id) => `/v1/api/keys/${id}`,
    hasUuid: true,
    body: () => ({ name: 'renamed' }),
    wrongBodies: [
      { is_active: 'false' },
      { is_active: 0 },
      { user_id: '' },
      { user_id: 'not-a-uuid' },
      { user_id: randomUUID() },
      { name: 'x'.repeat(256) },
      { name: {} },
      { description: LONG },
      { openai_api_key: '' },
      { openai_api_key: 'short' },
    ],
  },
  'DELETE /v1/api/keys/{key_id}': {
    needs: 'org:admin',
    path: (tenant) => `/v1/api/keys/${tenant.apiKeyId}`,
    pathOf: (id) => `/v1/api/keys/${id}`,
    hasUuid: true,
  },
}

for (const [route, row] of Object.entries(personaRoutes())) ROUTES[route] = row

function personaRoutes(): Record<string, Row> {
  const at = (rest = ''): Pick<Row, 'path' | 'pathOf' | 'needs' | 'hasUuid'> => ({
    needs: 'org:admin',
    path: (tenant) => `/v1/personas/${tenant.personaId}${rest}`,
    pathOf: (id) => `/v1/personas/${id}${rest}`,
    hasUuid: true,
  })
  const wrongFields = [
    { name: '' },
    { name: ' ' },
    { name: 'x'.repeat(256) },
    { name: 'a\u0000b' },
    { name: 5 },
    { content: '' },
    { content: ' \n' },
    { content: 'x'.repeat(100_001) },
    { content: 'a\ud800' },
    { content: 'Hi {{who}}' },
    { content: ['x'] },
    { description: LONG },
    { description: 'a\u0000b' },
    { user_id: 5 },
    { metadata: [] },
    { metadata: 'x' },
    { metadata: { text: LONG.repeat(4) } },
    { metadata: { text: 'a\u0000b' } },
    { metadata: { 'a\u0000b': 1 } },
    { metadata: { text: 'a\ud800' } },
    { metadata: JSON.parse(`${'{"a":'.repeat(40)}1${'}'.repeat(40)}`) },
    { metadata: JSON.parse(`{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`) },
    { variables: [] },
    { variables: { '1a': 'x' } },
    { variables: { a: 5 } },
    { variables: { a: 'x'.repeat(8001) } },
    { variables: { a: '\u0000' } },
  ]
  const persona = { name: 'A name', content: 'Be kind.' }
  return {
    'POST /v1/personas': {
      needs: 'org:admin',
      path: () => '/v1/personas',
      body: () => ({ ...persona, name: `persona-${randomUUID()}` }),
      wrongBodies: [{}, { name: 'x' }, { content: 'x' }, ...wrongFields.map((fields) => ({ ...persona, ...fields }))],
    },
    'GET /v1/personas': { needs: 'org:admin', path: () => '/v1/personas' },
    'GET /v1/personas/{persona_id}': at(),
    'PUT /v1/personas/{persona_id}': {
      ...at(),
      body: () => ({ description: 'changed' }),
      wrongBodies: [...wrongFields, { is_active: 'false' }, { draft: true }, { draft: 'x', content: 'y' }],
    },
    'DELETE /v1/personas/{persona_id}': at(),
    'GET /v1/personas/{persona_id}/versions': at('/versions'),
    'GET /v1/personas/{persona_id}/versions/{version}': at('/versions/1'),
    'GET /v1/personas/{persona_id}/diff': at('/diff?from=1&to=1'),
    'POST /v1/personas/{persona_id}/rollback': {
      ...at('/rollback'),
      body: () => ({ version: 1 }),
      wrongBodies: [{}, { version: '1' }, { version: 0 }, { version: 1.5 }, { version: null }],
    },
    'PUT /v1/personas/{persona_id}/rollout': {
      ...at('/rollout'),
      body: () => ({ versions: [{ version: 1, percent: 100 }] }),
      wrongBodies: [
        {},
        { versions: [] },
        { versions: [{ version: 1, percent: 99 }] },
        { versions: [{ version: 1, percent: 100.5 }] },
        { versions: [{ version: 1, percent: '100' }] },
        { versions: [{ version: 1, percent: 100, extra: 1 }] },
        {
          versions: [
            { version: 1, percent: 50 },
            { version: 1, percent: 50 },
          ],
        },
        { versions: [{ version: 1, percent: 100 }], sticky_by: 'moon' },
      ],
    },
    'DELETE /v1/personas/{persona_id}/rollout': at('/rollout'),
    'GET /v1/persona-defaults': { needs: 'org:admin', path: () => '/v1/persona-defaults' },
    'PUT /v1/persona-defaults': {
      needs: 'org:admin',
      path: () => '/v1/persona-defaults',
      body: (tenant) => ({ persona_id: tenant.personaId }),
      wrongBodies: [
        {},
        { persona_id: 'x' },
        { persona_id: 5 },
        { persona_id: null, key_id: 'x' },
        { persona_id: randomUUID(), user_id: 'bob', key_id: randomUUID() },
      ],
    },
  }
}

/** Held by isolation-matrix.test.ts, but for the one that stands for them all here. */
const RELAYED = ENDPOINTS.map(({ method, path }) => `${method} /v1${path}`)
const CONTROL_ROUTES = Object.entries(ROUTES).filter(([route]) => !RELAYED.includes(route))

test('every route is in the OpenAPI document, and every one of them has a row in this table', async () => {
  const document = (await (await fetch(`${system.url}/openapi.json`)).json()) as OpenApi
  const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  )
  const app = createApp(system.server.context, ['client', 'admin'])
  const registered = app.routes
    .filter(({ method, path }) => method !== 'ALL' && path !== '/openapi.json' && path !== '/docs')
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`)

  assert.deepEqual(
    [...new Set(registered)].sort().filter((route) => !documented.includes(route)),
    [],
    'registered, not documented',
  )
  assert.deepEqual(
    [...new Set([...registered, ...documented])].filter((route) => !(route in ROUTES)),
    [],
    'without a row in this table',
  )
  assert.deepEqual(
    Object.keys(ROUTES).filter((route) => !documented.includes(route) && !RELAYED.includes(route)),
    [],
    'in this table, and not a route',
  )
})

test('no route but the health ones answers without a credential, or with one that is none', async () => {
  const tenant = await newTenant()
  const bearers = [undefined, 'Bearer', 'Bearer ', 'Basic dXNlcjpwYXNz', 'Bearer x', 'Bearer a.b.c', "Bearer '"]
  bearers.push("Bearer ';select/**/pg_sleep(5)--", `Bearer sk-proxy-${'0'.repeat(38)}`, `Bearer ${'a'.repeat(30_000)}`)
  for (const [route, row] of Object.entries(ROUTES)) {
    for (const authorization of bearers) {
      const { status, text, headers } = await call(route, row.path(tenant), {
        ...(authorization === undefined ? {} : { authorization }),
        ...bodyOf(row, tenant),
      })
      if (row.needs === 'nothing') {
        assert.equal(status, 200, route)
        continue
      }
      assert.equal(status, 401, `${route} with ${authorization?.slice(0, 40)}: ${text}`)
      assert.equal(headers.get('www-authenticate'), 'Bearer', route)
      assert.equal(errorOf(text).code, 'invalid_authentication', route)
    }
  }
  assert.equal((await get(tenant, `/v1/api/users/${tenant.userId}`)).status, 200, 'and nothing was deleted')
})

test('a refused credential costs no waiting: what it says is never run', async () => {
  const startedAt = performance.now()

  const { status } = await call('GET /v1/api/users', '/v1/api/users', {
    authorization: "Bearer ';select/**/pg_sleep(5)--",
  })

  assert.equal(status, 401)
  assert.ok(performance.now() - startedAt < 2000)
})

test('no credential in the query, a cookie or another header opens a route', async () => {
  const { organization } = await newTenant()
  const { token } = organization

  for (const init of [
    { path: `/v1/api/users?token=${token}&authorization=Bearer%20${token}&access_token=${token}` },
    { path: '/v1/api/users', headers: { cookie: `token=${token}; authorization=${token}` } },
    { path: '/v1/api/users', headers: { 'x-api-key': token, 'api-key': token } },
  ]) {
    const response = await fetch(`${system.url}${init.path}`, { headers: init.headers ?? {} })
    assert.equal(response.status, 401, init.path.slice(0, 40))
    await response.text()
  }
})

test('administration needs the scope org:admin: a synthetic key and a token for inference only get 403', async () => {
  const tenant = await newTenant()
  const inferenceToken = await tenant.organization.createToken({ scopes: ['inference'] })
  const personal = await tenant.organization.createKey({ userId: tenant.userId })
  for (const [route, row] of Object.entries(ROUTES)) {
    if (row.needs !== 'org:admin') continue
    for (const credential of [tenant.organization.syntheticKey, personal.syntheticKey, inferenceToken]) {
      const { status, text } = await call(route, row.path(tenant), {
        authorization: `Bearer ${credential}`,
        ...bodyOf(row, tenant),
      })
      assert.equal(status, 403, `${route}: ${text}`)
      assert.equal(errorOf(text).code, 'insufficient_scope')
    }
  }
  assert.equal((await get(tenant, `/v1/api/users/${tenant.userId}`)).status, 200, 'and nothing was deleted')
  assert.equal((await get(tenant, `/v1/api/keys/${tenant.apiKeyId}`)).json.is_active, true)
})

test('inference and rating need the scope inference: a token for administration only gets 403', async () => {
  const tenant = await newTenant()
  const authorization = `Bearer ${await tenant.organization.createToken({ scopes: ['org:admin'] })}`
  const before = system.simulator.ledger.entries().length
  for (const [route, row] of Object.entries(ROUTES)) {
    if (row.needs !== 'inference') continue
    const { status, text } = await call(route, row.path(tenant), { authorization, ...bodyOf(row, tenant) })
    assert.equal(status, 403, `${route}: ${text}`)
  }
  assert.equal(system.simulator.ledger.entries().length, before)
})

test("another organization's things do not exist: 404, the same body as for what never did, nothing changed", async () => {
  const [own, other] = await Promise.all([newTenant(), newTenant()])
  const authorization = `Bearer ${own.organization.token}`
  for (const [route, row] of Object.entries(ROUTES)) {
    if (!row.pathOf) continue
    const foreignPath = row.path(other)
    const foreignId = foreignPath.split('/').find((part) => /^(req_|resp_|[0-9a-f]{8}-)/.test(part)) ?? ''
    const prefix = /^[a-z]+_/.exec(foreignId)?.[0]
    const unknownId = prefix ? `${prefix}${randomBytes(16).toString('hex')}` : randomUUID()
    const foreign = await call(route, foreignPath, { authorization, ...bodyOf(row, own) })
    const unknown = await call(route, row.pathOf(unknownId), { authorization, ...bodyOf(row, own) })

    assert.equal(foreign.status, 404, `${route}: ${foreign.text}`)
    assert.equal(unknown.status, 404, route)
    assert.equal(foreign.text.replaceAll(foreignId, '<id>'), unknown.text.replaceAll(unknownId, '<id>'), route)
    assert.deepEqual([...foreign.headers.keys()].sort(), [...unknown.headers.keys()].sort(), route)
  }
  assert.equal((await get(other, `/v1/api/users/${other.userId}`)).status, 200)
  const key = await get(other, `/v1/api/keys/${other.apiKeyId}`)
  assert.deepEqual([key.json.is_active, key.json.name], [true, null])
  assert.deepEqual(await system.query('select * from ratings where organization_id = $1', [other.organization.id]), [])
})

test("lists show one's own organization, whatever the query asks for", async () => {
  const [own, other] = await Promise.all([newTenant(), newTenant()])
  const queries = ['', `?org_id=${other.organization.id}`, `?organization_id[]=${other.organization.id}`]
  for (const query of [...queries, `?user_id=${other.userId}`, '?include_inactive=true']) {
    for (const path of ['/v1/api/users', '/v1/api/keys']) {
      const { status, text } = await get(own, `${path}${query}`)
      assert.equal(status, 200, `${path}${query}: ${text}`)
      assert.ok(!text.includes(other.organization.id) && !text.includes(other.userId), `${path}${query}`)
    }
  }
  const foreignKey = await send(own, 'POST /v1/api/keys', '/v1/api/keys', {
    openai_api_key: UPSTREAM_KEY,
    user_id: other.userId,
  })
  assert.equal(foreignKey.status, 400)
})

test('an id that is not a UUID is a 400 that says so', async () => {
  const tenant = await newTenant()
  for (const [route, row] of CONTROL_ROUTES) {
    if (!row.pathOf || !row.hasUuid) continue
    for (const id of ['x', '123', `${tenant.userId}0`, tenant.userId.slice(1), "'", '%00', 'a'.repeat(4000)]) {
      const { status, text } = await call(route, row.pathOf(id), {
        authorization: `Bearer ${tenant.organization.token}`,
        ...bodyOf(row, tenant),
      })
      assert.equal(status, 400, `${route} of ${id.slice(0, 40)}: ${text.slice(0, 100)}`)
      assert.equal(errorOf(text).code, 'invalid_request')
    }
  }
})

test('paging is within bounds: a limit or an offset beyond them is a 400', async () => {
  const tenant = await newTenant()
  for (const path of ['/v1/api/users', '/v1/api/keys']) {
    for (const query of ['limit=0', 'limit=1001', 'limit=1e9', 'limit=x', 'limit=1.5', 'offset=-1', 'offset=1e9']) {
      assert.equal((await get(tenant, `${path}?${query}`)).status, 400, `${path}?${query}`)
    }
    assert.equal((await get(tenant, `${path}?limit=1&offset=0`)).status, 200)
  }
  for (const query of ['user_id=nobody', 'user_id=', 'include_inactive=maybe']) {
    assert.equal((await get(tenant, `/v1/api/keys?${query}`)).status, 400, query)
  }
})

test('an unknown field is a 400 that names it, and changes nothing', async () => {
  const tenant = await newTenant()
  for (const [route, row] of CONTROL_ROUTES) {
    if (!row.body) continue
    for (const field of ['role', 'org_id', 'organization_id', 'is_admin', 'id', 'created_at', 'spend', 'base_url']) {
      const body = { ...row.body(tenant), [field]: 'x' }
      const { status, text } = await send(tenant, route, row.path(tenant), body)
      assert.equal(status, 400, `${route} with ${field}: ${text}`)
      assert.equal(errorOf(text).param, field, route)
    }
  }
  assert.equal((await get(tenant, `/v1/api/keys/${tenant.apiKeyId}`)).json.name, null)
})

test('a value of the wrong type, or too long, is a 400', async () => {
  const tenant = await newTenant()
  for (const [route, row] of CONTROL_ROUTES) {
    for (const body of row.wrongBodies ?? []) {
      const { status, text } = await send(tenant, route, row.path(tenant), body)
      assert.equal(status, 400, `${route} with ${JSON.stringify(body).slice(0, 80)}: ${text.slice(0, 200)}`)
    }
  }
})

test('a body that is no JSON object is a 400, and is not quoted back', async () => {
  const tenant = await newTenant()
  const sentinel = 'sk-sentinel-7f3a9c'
  const bodies = [`{"openai_api_key": "${sentinel}"`, `{"a":}${sentinel}`, sentinel, '', 'null', '[]', '5', '"text"']
  for (const [route, row] of CONTROL_ROUTES) {
    if (!row.body) continue
    for (const body of bodies) {
      const { status, text } = await call(route, row.path(tenant), {
        authorization: `Bearer ${tenant.organization.token}`,
        contentType: 'application/json',
        body,
      })
      assert.equal(status, 400, `${route} with ${body}: ${text}`)
      assert.ok(!text.includes(sentinel), text)
      assert.ok(errorOf(text).message.length > 0)
    }
  }
})

test('a body that does not call itself JSON is refused, never taken for an empty one', async () => {
  const tenant = await newTenant()
  for (const [route, row] of CONTROL_ROUTES) {
    if (!row.body) continue
    for (const contentType of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
      const { status, text } = await call(route, row.path(tenant), {
        authorization: `Bearer ${tenant.organization.token}`,
        contentType,
        body: JSON.stringify(row.body(tenant)),
      })
      assert.ok(status === 400 || status === 415, `${route} as ${contentType}: ${status} ${text}`)
    }
  }
})

test('a body above the limit is a 413, with or without a length', async () => {
  const tenant = await newTenant()
  const big = JSON.stringify({ user_id: 'x'.repeat(1024 * 1024) })
  for (const [route, row] of CONTROL_ROUTES) {
    if (!row.body) continue
    for (const body of [big, new Blob([big]).stream()]) {
      const { status, text } = await call(route, row.path(tenant), {
        authorization: `Bearer ${tenant.organization.token}`,
        contentType: 'application/json',
        body,
      })
      assert.equal(status, 413, `${route}: ${text.slice(0, 100)}`)
      assert.equal(errorOf(text).code, 'body_too_large')
    }
  }
  const justBelow = JSON.stringify({ user_id: 'x'.repeat(BODY_BYTES_MAX - 20) })
  const { status } = await call('POST /v1/api/users', '/v1/api/users', {
    authorization: `Bearer ${tenant.organization.token}`,
    contentType: 'application/json',
    body: justBelow,
  })
  assert.equal(status, 400)
})

test('users: created with 201, found again by the same external id, listed in order, deleted with 204, then gone', async () => {
  const { organization } = await newTenant()
  const fetchJson = (route: string, path: string, body?: unknown) => send({ organization }, route, path, body)

  const created = await fetchJson('POST /v1/api/users', '/v1/api/users', { user_id: ' carol ' })
  assert.equal(created.status, 201)
  assert.deepEqual(Object.keys(created.json).sort(), ['created_at', 'id', 'organization_id', 'user_id'])
  assert.deepEqual([created.json.organization_id, created.json.user_id], [organization.id, 'carol'])
  assert.match(String(created.json.created_at), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)

  const again = await fetchJson('POST /v1/api/users', '/v1/api/users', { user_id: 'carol' })
  assert.deepEqual([again.status, again.json], [201, created.json])

  const list = await fetchJson('GET /v1/api/users', '/v1/api/users')
  assert.deepEqual(
    (list.json.users as { user_id: string }[]).map((user) => user.user_id),
    ['bob', 'alice', 'carol'],
  )

  const path = `/v1/api/users/${created.json.id}`
  const key = await organization.createKey({ userId: String(created.json.id) })
  assert.deepEqual((await fetchJson('GET /v1/api/users/{user_id}', path)).json, created.json)
  const deleted = await fetchJson('DELETE /v1/api/users/{user_id}', path)
  assert.deepEqual([deleted.status, deleted.text], [204, ''])
  assert.equal((await fetchJson('GET /v1/api/users/{user_id}', path)).status, 404)
  assert.equal((await fetchJson('DELETE /v1/api/users/{user_id}', path)).status, 404)

  const orphan = await fetchJson('GET /v1/api/keys/{key_id}', `/v1/api/keys/${key.id}`)
  assert.deepEqual(
    [orphan.json.is_active, orphan.json.user_id],
    [false, created.json.id],
    "a deleted user's key becomes nobody's",
  )
  const revived = await fetchJson('PUT /v1/api/keys/{key_id}', `/v1/api/keys/${key.id}`, { is_active: true })
  assert.equal(revived.status, 400)

  const successor = await fetchJson('POST /v1/api/users', '/v1/api/users', { user_id: 'carol' })
  assert.notEqual(successor.json.id, created.json.id)
})

test('a user made by twenty requests at once is made once', async () => {
  const { organization } = await newTenant()

  const answers = await Promise.all(
    Array.from({ length: 20 }, () =>
      send({ organization }, 'POST /v1/api/users', '/v1/api/users', { user_id: 'twenty' }),
    ),
  )

  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [201])
  assert.equal(new Set(answers.map(({ json }) => json.id)).size, 1)
})

test('keys: the fields, and the statuses 201, 200 and 204, of the earlier system', async () => {
  const tenant = await newTenant()
  const created = await send(tenant, 'POST /v1/api/keys', '/v1/api/keys', {
    openai_api_key: UPSTREAM_KEY,
    user_id: tenant.userId,
    name: 'first',
    description: null,
  })
  assert.equal(created.status, 201)
  assert.deepEqual(Object.keys(created.json).sort(), [
    'created_at',
    'description',
    'id',
    'is_active',
    'name',
    'organization_id',
    'synthetic_key',
    'updated_at',
    'user_id',
  ])
  const { synthetic_key: syntheticKey, ...rest } = created.json
  assert.match(String(syntheticKey), /^sk-proxy-[0-9A-Za-z]{38}$/)

  const path = `/v1/api/keys/${created.json.id}`
  const got = await get(tenant, path)
  const masked = `${String(syntheticKey).slice(0, 17)}...${String(syntheticKey).slice(-4)}`
  assert.deepEqual(got.json, { ...rest, synthetic_key: masked })

  const renamed = await send(tenant, 'PUT', path, { name: '', user_id: null, is_active: null })
  assert.deepEqual([renamed.status, renamed.json.name, renamed.json.user_id], [200, '', null])
  assert.equal(renamed.json.is_active, true)
  assert.ok(String(renamed.json.updated_at) > String(created.json.updated_at))

  const listed = (query: string) => get(tenant, `/v1/api/keys${query}`).then(({ json }) => idsOf(json.api_keys))
  assert.ok((await listed('')).includes(String(created.json.id)))
  assert.deepEqual(await listed(`?user_id=${tenant.userId}`), [])

  for (const attempt of [1, 2]) {
    assert.equal((await call('DELETE', path, authorized(tenant))).status, 204, `deactivation ${attempt}`)
  }
  assert.equal((await get(tenant, path)).json.is_active, false)
  assert.ok(!(await listed('')).includes(String(created.json.id)))
  assert.ok((await listed('?include_inactive=true')).includes(String(created.json.id)))
  assert.deepEqual(
    await listed('?include_inactive=True'),
    await listed('?include_inactive=true'),
    'as Python writes it',
  )
  assert.equal((await send(tenant, 'PUT', path, { is_active: true })).json.is_active, true)
})

test('a key is shown whole in the answer that makes it and never after; the OpenAI key in no answer at all', async () => {
  const tenant = await newTenant()
  const sentinel = `sk-sentinel-${randomBytes(12).toString('hex')}`
  const replacement = `sk-sentinel-${randomBytes(12).toString('hex')}`

  const created = await send(tenant, 'POST', '/v1/api/keys', { openai_api_key: sentinel, name: 'n' })
  const path = `/v1/api/keys/${created.json.id}`
  const later = [
    await get(tenant, path),
    await get(tenant, '/v1/api/keys'),
    await send(tenant, 'PUT', path, { openai_api_key: replacement }),
    await send(tenant, 'PUT', path, { openai_api_key: `${replacement} ${'x'.repeat(600)}` }),
    await send(tenant, 'POST', '/v1/api/keys', { openai_api_key: `${sentinel} with spaces` }),
    await send(tenant, 'POST', '/v1/api/keys', { openai_api_key: sentinel, user_id: randomUUID() }),
    await send(tenant, 'POST', '/v1/api/keys', { openai_api_key: { [sentinel]: sentinel } }),
    await call('DELETE', path, authorized(tenant)),
  ]

  assert.deepEqual(
    later.map(({ status }) => status),
    [200, 200, 200, 400, 400, 400, 400, 204],
  )
  for (const { text } of later) assert.ok(!text.includes(String(created.json.synthetic_key)), text)
  for (const { text } of [created, ...later]) {
    for (const secret of [sentinel, replacement]) {
      for (let at = 0; at + 12 <= secret.length; at += 1) {
        const window = secret.slice(at, at + 12)
        if (window !== 'sk-sentinel-') assert.ok(!text.includes(window), text)
      }
    }
  }
  const rows = await system.query('select * from api_keys where id = $1', [created.json.id])
  const dump = JSON.stringify(rows)
  assert.ok(
    !dump.includes(sentinel) && !dump.includes(replacement) && !dump.includes(String(created.json.synthetic_key)),
  )
})

test('a replaced OpenAI key is the one that the next call is made with', async () => {
  const { organization } = await newTenant()
  await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'before' })
  const before = system.simulator.ledger.entries().at(-1)?.keyHash

  const put = await send({ organization }, 'PUT', `/v1/api/keys/${organization.apiKeyId}`, {
    openai_api_key: 'sk-replaced-0123456789',
  })
  assert.equal(put.status, 200)

  await until(async () => {
    await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'after' })
    return system.simulator.ledger.entries().at(-1)?.keyHash !== before
  })
})

test('a deactivated key is refused within a second', async () => {
  const { organization } = await newTenant()
  const { id, syntheticKey } = await organization.createKey()
  const ask = () =>
    organization.fetch('/v1/responses', {
      method: 'POST',
      token: syntheticKey,
      userId: null,
      body: JSON.stringify({ model: 'gpt-4o-mini', input: 'hello' }),
    })
  assert.equal((await ask()).status, 200)

  assert.equal((await call('DELETE', `/v1/api/keys/${id}`, authorized({ organization }))).status, 204)

  await until(async () => (await ask()).status === 401, 1000)
})

test('a rating is taken right after the answer, by request id and by response id, and the last one wins', async () => {
  const { organization } = await newTenant()
  const answer = await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'rate me' })
  const requestId = String(answer._request_id)

  const byRequest = await send({ organization }, 'POST', `/v1/responses/${requestId}/rate`, {
    rating: 1,
    feedback: 'a',
  })
  assert.equal(byRequest.status, 200, byRequest.text)
  assert.deepEqual(Object.keys(byRequest.json).sort(), ['feedback', 'rated_at', 'rating', 'request_id'])
  assert.deepEqual([byRequest.json.request_id, byRequest.json.rating], [requestId, 1])

  const html = '<script>alert(1)</script>&amp; "x"'
  const byResponse = await send({ organization }, 'POST', `/v1/responses/${answer.id}/rate`, {
    rating: -1,
    feedback: html,
  })
  assert.deepEqual([byResponse.json.request_id, byResponse.json.rating], [requestId, -1])
  assert.equal(byResponse.json.feedback, html)
  const rows = await system.query('select * from ratings where organization_id = $1', [organization.id])
  assert.deepEqual(
    rows.map((row) => [row.request_id, row.response_id, row.rating, row.feedback]),
    [[requestId, answer.id, -1, html]],
  )

  const withoutFeedback = await send({ organization }, 'POST', `/v1/responses/${requestId}/rate`, { rating: 1 })
  assert.equal(withoutFeedback.json.feedback, null)
})

test('a rating may come with the synthetic key that asked', async () => {
  const { organization } = await newTenant()
  const answer = await organization
    .client({ apiKey: organization.syntheticKey })
    .responses.create({ model: 'gpt-4o-mini', input: 'rate me' })

  const rated = await call('POST', `/v1/responses/${answer.id}/rate`, {
    authorization: `Bearer ${organization.syntheticKey}`,
    contentType: 'application/json',
    body: '{"rating":1}',
  })

  assert.equal(rated.status, 200, rated.text)
})

test('feedback keeps every text that can be kept, and what cannot be never breaks it', async () => {
  const tenant = await newTenant()
  const rate = (feedback: string) =>
    send(tenant, 'POST', `/v1/responses/${tenant.requestId}/rate`, { rating: 1, feedback })

  assert.equal((await rate('né 🎈 \u2028 "')).json.feedback, 'né 🎈 \u2028 "')
  assert.equal((await rate('a\u0000b')).json.feedback, 'ab')
  assert.equal((await rate('half \ud83c')).json.feedback, 'half \ufffd')
})

test('a rating for an id that no text of the database can hold is the same 404', async () => {
  const { organization } = await newTenant()
  for (const id of ['req_%00', '%00', '%27', '%25', 'req_%f0%9f%8e%88']) {
    const { status, text } = await send({ organization }, 'POST', `/v1/responses/${id}/rate`, { rating: 1 })
    assert.equal(status, 404, `${id}: ${text}`)
  }
  const long = await send({ organization }, 'POST', `/v1/responses/${'r'.repeat(256)}/rate`, { rating: 1 })
  assert.equal(long.status, 400)
})

test('the health routes say what they said before, and readiness asks the database', async () => {
  const home = await call('GET', '/', {})
  assert.deepEqual(Object.keys(home.json), ['name', 'version', 'status', 'docs'])
  assert.deepEqual([home.json.status, home.json.docs], ['operational', '/docs'])
  const health = await call('GET', '/health', {})
  assert.deepEqual(Object.keys(health.json), ['status', 'service', 'version'])
  assert.equal(health.json.status, 'healthy')
  assert.deepEqual((await call('GET', '/livez', {})).json, { status: 'alive' })
  assert.deepEqual((await call('GET', '/readyz', {})).json, { status: 'ready' })
})

test('the health of the upstream is asked without spending a token', async () => {
  const { organization } = await newTenant()
  const entries = () => system.simulator.ledger.entries().filter(({ usage }) => usage !== null).length
  const before = entries()

  const { status, json } = await get({ organization }, '/v1/responses/health')

  assert.equal(status, 200)
  assert.deepEqual(Object.keys(json), ['status', 'message', 'openai_status', 'timestamp', 'version'])
  assert.deepEqual([json.status, json.openai_status], ['healthy', 'operational'])
  assert.equal(entries(), before)
})

test('the upstream health of an organization without a key is degraded, and with a refused key says whose fault it is', async () => {
  const { organization } = await newTenant()
  for (const { id } of (await get({ organization }, '/v1/api/keys')).json.api_keys as { id: string }[]) {
    await call('DELETE', `/v1/api/keys/${id}`, authorized({ organization }))
  }
  await until(async () => {
    const { json } = await get({ organization }, '/v1/responses/health')
    return json.status === 'degraded' && json.openai_status === 'unknown'
  })

  await organization.createKey({ upstreamKey: new Secret('sk-invalid-0123456789') })

  await until(async () => {
    const { json } = await get({ organization }, '/v1/responses/health')
    return json.status === 'degraded' && json.openai_status === 'error'
  })
})

test('the OpenAPI document is 3.1 in shape: every reference resolves, every path parameter is declared', async () => {
  const response = await fetch(`${system.url}/openapi.json`)
  const document = (await response.json()) as OpenApi
  assert.match(response.headers.get('content-type') ?? '', /^application\/json/)
  assert.match(document.openapi, /^3\.1\./)
  assert.ok(document.info.title && document.info.version)
  const ids = new Set<string>()
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const route = `${method.toUpperCase()} ${path}`
      assert.ok(Object.keys(operation.responses).length > 0, route)
      for (const answer of Object.values(operation.responses)) assert.ok(answer.description, route)
      const declared = (operation.parameters ?? []).filter((one) => one.in === 'path').map((one) => one.name)
      assert.deepEqual(
        declared,
        [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
        route,
      )
      for (const scheme of (operation.security ?? []).flatMap(Object.keys)) {
        assert.ok(document.components.securitySchemes[scheme], route)
      }
      assert.equal(operation.security === undefined, ROUTES[route]?.needs === 'nothing', `${route}: security`)
      if (operation.operationId) assert.ok(!ids.has(operation.operationId), route)
      if (operation.operationId) ids.add(operation.operationId)
    }
  }
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(
    ([, reference]) => reference ?? '',
  )
  assert.ok(references.length > 0)
  for (const reference of references) {
    const found = reference
      .replace(/^#\//, '')
      .split('/')
      .reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], document)
    assert.ok(found, reference)
  }
})

test('the documentation is one page of HTML: no script, nothing loaded from elsewhere, and a policy that says so', async () => {
  const { status, text, headers } = await call('GET', '/docs', {})

  assert.equal(status, 200)
  assert.match(headers.get('content-type') ?? '', /^text\/html; charset=utf-8/i)
  assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'/)
  assert.equal(headers.get('x-content-type-options'), 'nosniff')
  assert.doesNotMatch(text, /<script|javascript:|\son\w+=|<iframe|<link|<img|@import|url\(/i)
  assert.doesNotMatch(text, /(?:src|href)="(?:https?:)?\/\//i)
  for (const [route] of CONTROL_ROUTES) {
    assert.ok(text.includes(route.split(' ')[1] ?? ''), route)
  }
})

test('what is not there is a 404 in the one shape, without a trace of what lies behind', async () => {
  const tenant = await newTenant()
  const paths = [
    '/nope',
    '/v1',
    '/v1/users',
    '/v1/keys',
    '/v1/api',
    '/v1/api/users/',
    '/v1//api/users',
    '/.env',
    '/V1/API/USERS',
  ]
  for (const path of paths) {
    const { status, text, headers } = await call('GET', path, authorized(tenant))
    assert.equal(status, 404, `${path}: ${text}`)
    assert.equal(errorOf(text).code, 'not_found')
    assert.equal(JSON.parse(text).detail, errorOf(text).message)
    assert.match(headers.get('x-request-id') ?? '', /^req_[0-9a-f]{32}$/)
    assert.doesNotMatch(text, /node_modules|\.ts|select |at Object/)
  }
})

test('another method on a path that is there is a 405 that names the possible ones, to whoever may ask', async () => {
  const tenant = await newTenant()
  const cases: [string, string, string][] = [
    ['PATCH', '/v1/personas', 'GET, POST'],
    ['PATCH', `/v1/personas/${tenant.personaId}`, 'GET, PUT, DELETE'],
    ['PUT', '/v1/api/users', 'GET, POST'],
    ['POST', '/v1/analytics/models', 'GET'],
    ['DELETE', '/health', 'GET'],
  ]
  for (const [method, path, allowed] of cases) {
    const { status, text, headers } = await call(method, path, authorized(tenant))
    assert.equal(status, 405, `${method} ${path}: ${text}`)
    assert.equal(errorOf(text).code, 'method_not_allowed')
    assert.deepEqual(headers.get('allow')?.split(', ').sort(), allowed.split(', ').sort())
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
  }
  assert.equal((await call('PATCH', '/v1/personas', {})).status, 401)
})

test('answers about an organization are kept by no cache, and sniffed by no browser', async () => {
  const tenant = await newTenant()
  for (const path of ['/v1/api/users', '/v1/api/keys', `/v1/api/users/${randomUUID()}`]) {
    const { headers } = await get(tenant, path)
    assert.equal(headers.get('cache-control'), 'no-store', path)
    assert.equal(headers.get('x-content-type-options'), 'nosniff', path)
  }
})

test('with ADMIN_PORT each listener has its own surface, and health is on both', async () => {
  const server = await serve(readConfig({ ...system.env, ADMIN_PORT: '0' }))
  try {
    const { organization } = await newTenant()
    const statusOf = async (port: number | undefined, route: string, path: string, body?: object) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, {
        method: route,
        headers: {
          authorization: `Bearer ${organization.token}`,
          'x-user-id': 'alice',
          ...(body && { 'content-type': 'application/json' }),
        },
        ...(body && { body: JSON.stringify(body) }),
      })
      await response.arrayBuffer()
      return response.status
    }
    const { port, adminPort } = server
    const inference = { model: 'gpt-4o-mini', input: 'hi' }
    for (const path of ['/v1/api/users', '/v1/api/keys', '/openapi.json', '/docs']) {
      assert.equal(await statusOf(port, 'GET', path), 404, `${path} on PORT`)
      assert.equal(await statusOf(adminPort, 'GET', path), 200, `${path} on ADMIN_PORT`)
    }
    assert.equal(await statusOf(port, 'POST', '/v1/api/users', { user_id: 'x' }), 404)
    assert.equal(await statusOf(adminPort, 'POST', '/v1/api/users', { user_id: 'x' }), 201)
    assert.equal(await statusOf(port, 'POST', '/v1/responses', inference), 200)
    assert.equal(await statusOf(adminPort, 'POST', '/v1/responses', inference), 404)
    assert.equal(await statusOf(adminPort, 'POST', '/v1/responses/req_x/rate', { rating: 1 }), 404)
    for (const path of ['/', '/health', '/livez', '/readyz']) {
      assert.deepEqual([await statusOf(port, 'GET', path), await statusOf(adminPort, 'GET', path)], [200, 200], path)
    }
  } finally {
    await server.stop()
  }
})

interface OpenApi {
  openapi: string
  info: { title: string; version: string }
  components: { securitySchemes: Record<string, unknown> }
  paths: Record<
    string,
    Record<
      string,
      {
        operationId?: string
        parameters?: { in: string; name: string }[]
        responses: Record<string, { description: string }>
        security?: Record<string, unknown>[]
      }
    >
  >
}

async function newTenant(): Promise<Tenant> {
  const organization = await system.organization()
  const userId = await organization.createUser('bob')
  const answer = await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'Hello' })
  const { id: apiKeyId } = await organization.createKey()
  const { context } = system.server
  const persona = await createPersona(context, organization.admin, { name: 'Support', content: 'Help.' })
  await setDefault(context, organization.admin, { kind: 'organization' }, persona.id)
  return {
    organization,
    userId,
    apiKeyId,
    personaId: persona.id,
    requestId: String(answer._request_id),
    responseId: answer.id,
  }
}

interface Sent {
  authorization?: string
  contentType?: string
  body?: string | ReadableStream<Uint8Array>
}

/** @param route `METHOD` or `METHOD /path`, of which the method is used. */
async function call(route: string, path: string, { authorization, contentType, body }: Sent) {
  const response = await fetch(`${system.url}${path}`, {
    method: route.split(' ')[0] ?? 'GET',
    headers: {
      'x-user-id': 'alice',
      ...(authorization !== undefined && { authorization }),
      ...(contentType !== undefined && { 'content-type': contentType }),
    },
    ...(body !== undefined && { body, duplex: 'half' }),
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, text, json: parseObject(text) }
}

function send({ organization }: { organization: TestOrganization }, route: string, path: string, body?: unknown) {
  return call(route, path, {
    ...authorized({ organization }),
    ...(body === undefined ? {} : { contentType: 'application/json', body: JSON.stringify(body) }),
  })
}

function get(tenant: { organization: TestOrganization }, path: string) {
  return send(tenant, 'GET', path)
}

function authorized({ organization }: { organization: TestOrganization }): Sent {
  return { authorization: `Bearer ${organization.token}` }
}

function bodyOf(row: Row, tenant: Tenant): Sent {
  return row.body ? { contentType: 'application/json', body: JSON.stringify(row.body(tenant)) } : {}
}

function parseObject(text: string): Record<string, unknown> {
  return text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {}
}

function errorOf(text: string): { code: string; message: string; param: string | null } {
  return (JSON.parse(text) as { error: { code: string; message: string; param: string | null } }).error
}

function idsOf(list: unknown): string[] {
  return (list as { id: string }[]).map(({ id }) => id)
}

/** Asks again and again until it holds; within a second unless told. */
async function until(holds: () => Promise<boolean>, withinMs = 3000): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await holds())) assert.ok(performance.now() < deadline, `it does not hold within ${withinMs} ms`)
}
