import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { readConfig } from '../src/config.ts'
import { ENDPOINTS, type Endpoint } from '../src/proxy/endpoints.ts'
import { serve } from '../src/serve.ts'
import { startSystem, temporaryDirectory } from './harness.ts'
import { checkIsolation, checkOwnUse, withObjects } from './isolation/check.ts'
import { ask, bearer, newParties } from './isolation/party.ts'
import { pathOf, unnamedFields } from './isolation/ways.ts'

const system = await startSystem()
const users = ['alice', 'bob', null]
const owners = await withObjects(system, await newParties(system, { organizations: 3, users, shareObjects: 'user' }))

test('no object of anybody else can be named, at any endpoint, in any place', { timeout: 600_000 }, async () => {
  assert.deepEqual(unnamedFields(), [])
  const { attempts, holes } = await checkIsolation(system, ENDPOINTS, owners)

  assert.equal(holes.length, 0, holes.slice(0, 20).join('\n'))
  assert.ok(attempts > 3000, `${attempts} attempts`)
})

test('organizations whose users share their objects are as far apart as any', { timeout: 600_000 }, async () => {
  const parties = { organizations: 2, users: ['alice', 'bob'], shareObjects: 'organization' as const }
  const sharing = await withObjects(system, await newParties(system, parties))
  const table = ENDPOINTS.filter(({ method, name }) => method === 'GET' || name === 'responses.create')
  const { holes } = await checkIsolation(system, table, sharing)
  const [alice, bob] = sharing

  assert.equal(holes.length, 0, holes.slice(0, 20).join('\n'))
  const path = `/v1/files/${alice?.objects.file}/content`
  const seen = await fetch(`${system.url}${path}`, { headers: bob?.headers ?? {} })
  assert.ok((await seen.text()).includes(alice?.canary ?? 'nothing'))
})

/** Rules taken out of a copy of the table, one at a time. */
const HOLES: [name: string, rule: Partial<Endpoint>, finding: RegExp][] = [
  ['files.list', { isolation: 'named', lists: undefined }, /files\.list: .*: bytes of/],
  ['files.content', { path: '/files/{model}/content' }, /files\.content: file in the path: .*: bytes of/],
  [
    'conversations.items.retrieve',
    { path: '/conversations/{model}/items/{item}' },
    /conversations\.items\.retrieve: conversation in the path: .*: not answered as what never was/,
  ],
  ['containers.list', { isolation: 'named', lists: undefined }, /containers\.list: .*: bytes of/],
  ['vector_stores.files.create', { body: 'none' }, /vector_stores\.files\.create: file as file: .*: answered/],
]
for (const [name, rule, finding] of HOLES) {
  test(`a hole at ${name} is found: ${JSON.stringify(rule)}`, { timeout: 300_000 }, async () => {
    const holed = ENDPOINTS.map((endpoint) => (endpoint.name === name ? { ...endpoint, ...rule } : endpoint))
    const url = await serveTable(holed)
    const { holes } = await checkIsolation(
      { ...system, url },
      holed.filter((endpoint) => endpoint.name === name),
      owners,
    )

    assert.ok(
      holes.some((hole) => finding.test(hole)),
      holes.slice(0, 5).join('\n'),
    )
  })
}

test('no endpoint is relayed without a credential, or with one that may only administer', async () => {
  const [owner] = owners
  assert.ok(owner)
  const administrator = bearer(await owner.organization.createToken({ scopes: ['org:admin'] }))
  const callsBefore = system.simulator.ledger.entries().length

  for (const endpoint of ENDPOINTS.filter(({ body }) => body !== 'websocket')) {
    const asked = { method: endpoint.method, path: pathOf(endpoint, owner.objects) }
    const withNothing = await ask(system.url, { ...owner, headers: {} }, asked)
    assert.equal(withNothing.status, 401, `${endpoint.name}: ${withNothing.text}`)
    const asAdministrator = await ask(system.url, { ...owner, headers: administrator }, asked)
    assert.equal(asAdministrator.status, 403, `${endpoint.name}: ${asAdministrator.text}`)
  }
  assert.equal(system.simulator.ledger.entries().length, callsBefore)
})

test("one can name what is one's own, at every endpoint and in every place", { timeout: 600_000 }, async () => {
  const parties = await newParties(system, { organizations: 1, users: ['alice'], shareObjects: 'user' })
  const [owner] = await withObjects(system, parties)
  assert.ok(owner)

  const failures = await checkOwnUse(system.url, ENDPOINTS, owner)

  assert.equal(failures.length, 0, failures.join('\n'))
})

/** Another server on the same database, with a table of its own. */
async function serveTable(table: readonly Endpoint[]): Promise<string> {
  const stack = new AsyncDisposableStack()
  after(() => stack.disposeAsync())
  const server = await serve(readConfig({ ...system.env, DATA_DIR: await temporaryDirectory(stack) }), table)
  stack.defer(() => server.stop())
  return `http://127.0.0.1:${server.port}`
}
