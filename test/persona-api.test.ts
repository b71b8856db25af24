/** `/v1/personas`: the fields and statuses of the earlier system, and none of its defects. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { verifyAudit } from '../src/audit/service.ts'
import { startSystem, type TestOrganization } from './harness.ts'

const system = await startSystem()

test('a persona is made with 200, read, changed, and deleted with 200 and a sentence; then it is gone and its name free', async () => {
  const organization = await system.organization()
  const bob = await organization.createUser('bob')
  const call = callerOf(organization)

  const created = await call('POST', '', {
    name: ' Support ',
    content: 'Help.',
    user_id: 'bob',
    metadata: { team: 'a' },
  })
  assert.equal(created.status, 200)
  assert.deepEqual(Object.keys(created.json).sort(), [
    'content',
    'created_at',
    'description',
    'id',
    'is_active',
    'metadata',
    'name',
    'organization_id',
    'rollout',
    'updated_at',
    'user_id',
    'variables',
    'version',
  ])
  const { id, name, user_id, description, is_active, metadata, version } = created.json
  assert.deepEqual([name, user_id, description, is_active], ['Support', 'bob', null, true])
  assert.deepEqual([metadata, version], [{ team: 'a' }, 1])
  assert.deepEqual((await call('GET', `/${id}`)).json, created.json)
  assert.equal((await system.query('select user_id from personas where id = $1', [id]))[0]?.user_id, bob)

  const changed = await call('PUT', `/${id}`, { description: 'For all', user_id: '', metadata: null, name: null })
  assert.deepEqual(
    [changed.json.description, changed.json.user_id, changed.json.metadata, changed.json.name],
    ['For all', null, null, 'Support'],
  )
  assert.equal((await call('PUT', `/${id}`, { description: null })).json.description, null, 'a text can be emptied')
  assert.equal((await call('PUT', `/${id}`, { is_active: false })).json.is_active, false)

  assert.equal(
    (await call('POST', '', { name: 'Support', content: 'x' })).status,
    409,
    'the name of an inactive one too',
  )
  const deleted = await call('DELETE', `/${id}`)
  assert.deepEqual([deleted.status, deleted.json], [200, { success: true, message: 'Persona deleted: Support' }])
  for (const [method, path, body] of [
    ['GET', ''],
    ['DELETE', ''],
    ['PUT', '', { name: 'x' }],
    ['GET', '/versions'],
    ['POST', '/rollback', { version: 1 }],
  ] as [string, string, object?][]) {
    assert.equal((await call(method, `/${id}${path}`, body)).status, 404, `${method} ${path}`)
  }
  assert.equal((await call('POST', '', { name: 'Support', content: 'x' })).status, 200)
  assert.ok(!(await verifyAudit(system.server.context, organization.id)).brokenAt)
})

test('a user whom nobody knows is a 404, when a persona is made and when it is changed: it never becomes everyone’s', async () => {
  const organization = await system.organization()
  const call = callerOf(organization)
  const before = await call('POST', '', { name: 'A', content: 'x' })

  const refused = [
    await call('POST', '', { name: 'B', content: 'x', user_id: 'nobody' }),
    await call('PUT', `/${before.json.id}`, { user_id: 'nobody' }),
  ]

  assert.deepEqual(
    refused.map(({ status }) => status),
    [404, 404],
  )
  assert.deepEqual((await call('GET', '')).json.personas, [before.json])
})

test('a persona that was used is deleted, and the record keeps its id, version and name', async () => {
  const organization = await system.organization()
  const call = callerOf(organization)
  const { id } = (await call('POST', '', { name: 'Used', content: 'x' })).json
  const body = JSON.stringify({ model: 'gpt-4o-mini', input: 'hi', persona_id: id })
  assert.equal((await organization.fetch('/v1/responses', { method: 'POST', body })).status, 200)

  assert.equal((await call('DELETE', `/${id}`)).status, 200)

  const rows = await system.query(
    `select personas.name, persona_version from attempts join personas on personas.id = persona_id
     where attempts.organization_id = $1`,
    [organization.id],
  )
  assert.deepEqual(rows, [{ name: 'Used', persona_version: 1 }])
})

test('each change of content is a version that never changes again; they are listed, read and compared', async () => {
  const organization = await system.organization()
  const call = callerOf(organization)
  const { id } = (await call('POST', '', { name: 'A', content: 'one\ntwo' })).json

  assert.equal(
    (await call('PUT', `/${id}`, { content: 'one\n{{what}}', variables: { what: 'three' } })).json.version,
    2,
  )
  assert.equal(
    (await call('PUT', `/${id}`, { content: 'one\n{{what}}', name: 'B' })).json.version,
    2,
    'the same content',
  )
  assert.equal((await call('PUT', `/${id}`, { variables: { what: 'four' } })).json.version, 3)
  const draft = await call('PUT', `/${id}`, { content: 'draft', variables: {}, draft: true })
  assert.deepEqual([draft.json.version, draft.json.content], [3, 'one\n{{what}}'])

  const { versions, next_cursor } = (await call('GET', `/${id}/versions?limit=3`)).json
  assert.deepEqual(
    versions.map((one: Json) => [one.version, one.content, one.percent]),
    [
      [4, 'draft', 0],
      [3, 'one\n{{what}}', 100],
      [2, 'one\n{{what}}', 0],
    ],
  )
  const rest = (await call('GET', `/${id}/versions?limit=3&cursor=${next_cursor}`)).json
  assert.deepEqual([rest.versions.length, rest.next_cursor], [1, null])
  assert.deepEqual((await call('GET', `/${id}/versions/1`)).json, rest.versions[0])
  assert.deepEqual((await call('GET', `/${id}/diff?from=1&to=2`)).json.lines, [
    { kind: 'same', text: 'one' },
    { kind: 'removed', text: 'two' },
    { kind: 'added', text: '{{what}}' },
  ])
  for (const path of ['/versions/9', '/versions/2147483648', '/diff?from=1&to=9']) {
    assert.equal((await call('GET', `/${id}${path}`)).status, 404, path)
  }
  for (const path of ['/versions/0', '/versions/x', '/diff?from=1', '/versions?limit=101', '/versions?cursor=x']) {
    assert.equal((await call('GET', `/${id}${path}`)).status, 400, path)
  }
  for (const change of ["set content = 'x'", 'set version = 9']) {
    await assert.rejects(system.query(`update persona_versions ${change} where persona_id = $1`, [id]), /never change/)
  }
})

test('a version is rolled back to and rolled out; a rollout is not undone by a change that says nothing of it', async () => {
  const organization = await system.organization()
  const call = callerOf(organization)
  const { id } = (await call('POST', '', { name: 'A', content: 'one' })).json
  await call('PUT', `/${id}`, { content: 'two' })

  const back = await call('POST', `/${id}/rollback`, { version: 1 })
  assert.deepEqual([back.json.version, back.json.content], [1, 'one'])
  assert.equal((await call('PUT', `/${id}`, { content: 'three' })).json.version, 3, 'numbers are not used twice')
  const shares = [
    { version: 1, percent: 90 },
    { version: 3, percent: 10 },
  ]
  const rolledOut = await call('PUT', `/${id}/rollout`, { versions: shares, sticky_by: 'user' })
  assert.deepEqual(rolledOut.json.rollout, { sticky_by: 'user', versions: shares })
  const conflict = await call('PUT', `/${id}`, { content: 'four' })
  assert.deepEqual([conflict.status, conflict.json.error.code], [409, 'conflict'])
  assert.equal((await call('PUT', `/${id}`, { content: 'four', draft: true })).status, 200)
  const unknown = [{ version: 8, percent: 100 }]
  assert.equal((await call('PUT', `/${id}/rollout`, { versions: unknown })).status, 404)
  assert.deepEqual((await call('GET', `/${id}`)).json.rollout.versions, shares)

  const ended = await call('DELETE', `/${id}/rollout`)
  assert.deepEqual([ended.json.rollout, ended.json.version], [null, 3])
  await call('PUT', `/${id}/rollout`, { versions: shares })
  assert.equal((await call('POST', `/${id}/rollback`, { version: 2 })).json.rollout, null)
  assert.equal((await call('POST', `/${id}/rollback`, { version: 9 })).status, 404)
})

test('many changes at once are numbered one after the other, and one name is given once', async () => {
  const organization = await system.organization()
  const call = callerOf(organization)
  const made = await Promise.all(Array.from({ length: 8 }, () => call('POST', '', { name: 'Once', content: 'x' })))
  assert.deepEqual(made.map(({ status }) => status).sort(), [200, ...Array(7).fill(409)])
  const { id } = made.find(({ status }) => status === 200)?.json ?? {}

  const changed = await Promise.all(
    Array.from({ length: 12 }, (_, n) => call('PUT', `/${id}`, { content: `text ${n}` })),
  )

  assert.ok(changed.every(({ status }) => status === 200))
  const { versions } = (await call('GET', `/${id}/versions`)).json
  assert.deepEqual(
    versions.map((one: Json) => one.version),
    Array.from({ length: 13 }, (_, n) => 13 - n),
  )
  const others = await Promise.all(['A', 'B', 'C'].map((name) => call('POST', '', { name, content: 'x' })))
  const renamed = await Promise.all(others.map(({ json }) => call('PUT', `/${json.id}`, { name: 'Wanted' })))
  assert.deepEqual(renamed.map(({ status }) => status).sort(), [200, 409, 409])
})

test('the list is by name, in pages, of whom the filter says; inactive ones only when asked for', async () => {
  const organization = await system.organization()
  await organization.createUser('bob')
  await organization.createUser('carol')
  const call = callerOf(organization)
  for (const [name, user_id] of [['Delta'], ['Alpha', 'bob'], ['Charlie', 'carol'], ['Bravo']]) {
    await call('POST', '', { name, content: 'x', user_id })
  }
  const { id } = (await call('POST', '', { name: 'Echo', content: 'x' })).json
  await call('PUT', `/${id}`, { is_active: false })
  const names = async (query: string) => namesIn((await call('GET', `?${query}`)).json)

  assert.deepEqual(await names(''), ['Alpha', 'Bravo', 'Charlie', 'Delta'])
  assert.deepEqual(await names('include_inactive=true'), ['Alpha', 'Bravo', 'Charlie', 'Delta', 'Echo'])
  assert.deepEqual(await names('include_inactive=True'), await names('include_inactive=true'), 'as Python writes it')
  assert.deepEqual(await names('user_id=bob'), ['Alpha', 'Bravo', 'Delta'])
  assert.deepEqual(await names('user_id=nobody'), ['Bravo', 'Delta'])
  const first = (await call('GET', '?limit=3')).json
  const second = (await call('GET', `?limit=3&cursor=${first.next_cursor}`)).json
  assert.deepEqual(
    [namesIn(first), namesIn(second), second.next_cursor],
    [['Alpha', 'Bravo', 'Charlie'], ['Delta'], null],
  )
  for (const query of [
    'limit=0',
    'limit=1001',
    'limit=x',
    'cursor=%25',
    'cursor=',
    'include_inactive=maybe',
    'user_id=',
  ]) {
    assert.equal((await call('GET', `?${query}`)).status, 400, query)
  }
})

test('whatever a field of metadata or a variable is called, it is kept as sent; what cannot be is refused, not lost', async () => {
  const call = callerOf(await system.organization())
  const metadata = { constructor: 'a', toString: 'b', hasOwnProperty: null, inner: JSON.parse('{"__proto__":"c"}') }
  const variables = { constructor: 'd', prototype: null, toString: 'e' }

  const kept = await call('POST', '', { name: 'a', content: '{{constructor}}', metadata, variables })

  assert.equal(kept.status, 200)
  assert.deepEqual(kept.json.metadata, metadata)
  assert.deepEqual(kept.json.variables, variables)
  for (const field of ['metadata', 'variables']) {
    const body = { content: 'x', [field]: JSON.parse('{"__proto__":"x"}') }
    for (const [method, path] of [
      ['POST', ''],
      ['PUT', `/${kept.json.id}`],
    ] as const) {
      const refused = await call(method, path, { name: 'b', ...body })
      assert.equal(refused.status, 400, `${method} ${field}`)
      assert.equal(refused.json.error.param, field)
    }
  }
  assert.deepEqual((await call('GET', `/${kept.json.id}`)).json, kept.json)
})

test('metadata is searched by tag, by field, within objects, and by presence; no character of a value means anything', async () => {
  const organization = await system.organization()
  const call = callerOf(organization)
  for (const [name, metadata] of Object.entries({
    Both: { tags: ['a', 'b'], team: { lead: 'ada', size: 3 }, live: true, note: '100%' },
    OnlyA: { tags: ['a'], team: { lead: 'bob' }, live: false, 'dotted.name': 'x' },
    AsText: { tags: 'a', note: '100x' },
    Other: { tags: ['aa', 'c_d', 'cxd'], note: null },
    None: null,
  })) {
    assert.equal((await call('POST', '', { name, content: 'x', metadata })).status, 200)
  }
  const found = async (query: string) => namesIn((await call('GET', `?${query}`)).json)

  for (const [query, names] of [
    ['metadata.tags=a', ['AsText', 'Both', 'OnlyA']],
    ['metadata.tags=b,aa', ['Both', 'Other']],
    ['metadata.tags=c%25', []],
    ['metadata.tags=c_d', ['Other']],
    ['metadata.tags=_', []],
    ['metadata.tags.all=a,b', ['Both']],
    ['metadata.tags.all=b', ['Both']],
    ['metadata.tags.all=cxd', ['Other']],
    ['metadata.team.lead=ada', ['Both']],
    ['metadata.team.size=3', ['Both']],
    ['metadata.live=true', ['Both']],
    ['metadata.live=false', ['OnlyA']],
    ['metadata.note=100%25', ['Both']],
    ['metadata.note=%25', []],
    ['metadata.note=null', []],
    ['metadata.dotted.name=x', ['OnlyA']],
    ['metadata_exists=note', ['AsText', 'Both', 'Other']],
    ['metadata_exists=team.size', ['Both']],
    ['metadata_exists=nothing', []],
    ['metadata.tags=a&metadata.live=false', ['OnlyA']],
    ['metadata.live=true&metadata.live=false', ['OnlyA']],
    ["metadata.team.lead=' or true --", []],
    ["metadata.x'y.z)=1", []],
  ] as const) {
    assert.deepEqual(await found(query), names, query)
  }
  for (const query of ['metadata.tags=', 'metadata.tags.all=,', 'metadata.=x', 'metadata_exists=', 'metadata.a=%00']) {
    assert.equal((await call('GET', `?${query}`)).status, 400, query)
  }
  const many = Array.from({ length: 21 }, (_, n) => `metadata.f${n}=1`).join('&')
  assert.equal((await call('GET', `?${many}`)).status, 400)
})

test('defaults are set, listed and removed, for the organization, a user or a key, and only with a persona that fits', async () => {
  const organization = await system.organization()
  await organization.createUser('bob')
  await organization.createUser('carol')
  const call = callerOf(organization)
  const defaults = (method: string, body?: object) => callerOf(organization, '/v1/persona-defaults')(method, '', body)
  const persona_id = (await call('POST', '', { name: 'All', content: 'x' })).json.id
  const ofBob = (await call('POST', '', { name: 'Bob’s', content: 'x', user_id: 'bob' })).json.id

  for (const target of [{}, { user_id: 'carol' }, { key_id: organization.apiKeyId }]) {
    assert.equal((await defaults('PUT', { persona_id, ...target })).status, 200)
  }
  assert.equal((await defaults('PUT', { persona_id: ofBob, user_id: 'bob' })).status, 200)
  assert.equal((await defaults('PUT', { persona_id: ofBob })).status, 409)
  assert.equal((await defaults('PUT', { persona_id: ofBob, user_id: 'carol' })).status, 409)
  assert.equal((await defaults('PUT', { persona_id, user_id: 'nobody' })).status, 404)
  assert.equal((await defaults('PUT', { persona_id: organization.id })).status, 404)
  assert.equal((await call('PUT', `/${persona_id}`, { user_id: 'bob' })).status, 409, 'it is everybody’s default')

  const { json } = await defaults('GET')
  assert.deepEqual(
    json.defaults.map((one: Json) => [one.scope, one.user_id, one.key_id, one.persona_name]),
    [
      ['organization', null, null, 'All'],
      ['user', 'carol', null, 'All'],
      ['user', 'bob', null, 'Bob’s'],
      ['key', null, organization.apiKeyId, 'All'],
    ],
  )
  assert.equal((await defaults('PUT', { persona_id: null, user_id: 'bob' })).status, 200)
  assert.equal((await defaults('PUT', { persona_id: null, user_id: 'bob' })).status, 404)
  await call('DELETE', `/${persona_id}`)
  assert.deepEqual((await defaults('GET')).json.defaults, [])
})

test('two organizations with the same names never see each other’s personas, versions or defaults', async () => {
  const [own, other] = [await system.organization(), await system.organization()]
  const made = []
  for (const organization of [own, other]) {
    await organization.createUser('bob')
    const call = callerOf(organization)
    const { id } = (await call('POST', '', { name: 'Same', content: `of ${organization.id}`, metadata: { a: 'b' } }))
      .json
    await callerOf(organization, '/v1/persona-defaults')('PUT', '', { persona_id: id, user_id: 'bob' })
    made.push(id)
  }

  for (const query of ['', '?user_id=bob', '?metadata.a=b', '?include_inactive=true', `?organization_id=${other.id}`]) {
    const { text, json } = await callerOf(own)('GET', query)
    assert.ok(json.personas.length === 1 && !text.includes(other.id), query)
  }
  const defaults = callerOf(own, '/v1/persona-defaults')
  assert.ok(!(await defaults('GET')).text.includes(String(made[1])))
  assert.equal((await defaults('PUT', '', { persona_id: made[1] })).status, 404)
  assert.equal((await defaults('PUT', '', { persona_id: made[0], key_id: other.apiKeyId })).status, 404)
})

// biome-ignore lint/suspicious/noExplicitAny: the answers of many routes
type Json = Record<string, any>

function callerOf(organization: TestOrganization, root = '/v1/personas') {
  return async (method: string, path = '', body?: object) => {
    const response = await organization.fetch(`${root}${path}`, {
      method,
      ...(body && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, text, json: JSON.parse(text) as Json }
  }
}

function namesIn(page: Json): string[] {
  return page.personas.map(({ name }: Json) => name)
}
