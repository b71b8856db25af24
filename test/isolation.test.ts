import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, test } from 'node:test'
import { readConfig } from '../src/config.ts'
import { Secret } from '../src/secret.ts'
import { type RunningServer, serve } from '../src/serve.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'

const system = await startSystem()
const secondUrl = `http://127.0.0.1:${(await startSecond()).port}`
/** Everybody's key leads to one project of OpenAI's, so that OpenAI's own check separates nobody. */
const SHARED_UPSTREAM_KEY = 'sk-shared-0123456789abcdef'
const USERS = ['alice', 'bob', 'carol']

/** Somebody who asks: a user by token, or an organization-wide synthetic key without a user. */
interface Party {
  name: string
  organization: TestOrganization
  ask(body: Record<string, unknown>, url?: string): Promise<Answer>
}

interface Answer {
  status: number
  text: string
  headers: string[]
  responseId: string
}

test('no answer of anybody else can be referred to: the same 404 as for what never was, no call, no row', async () => {
  const parties = await newParties(3)
  const made = await Promise.all(parties.map((party) => party.ask({ input: 'begin' })))
  assert.deepEqual(new Set(made.map(({ status }) => status)), new Set([200]))
  const unknownId = `resp_${randomBytes(24).toString('hex')}`
  const unknown = await first(parties).ask({ input: 'go on', previous_response_id: unknownId })
  assert.equal(unknown.status, 404)
  const before = await countCallsAndRows()

  const attacks = parties.flatMap((asker, at) =>
    made.flatMap(({ responseId }, owner) =>
      owner === at ? [] : [{ asker, owner: parties[owner]?.name, previous_response_id: responseId }],
    ),
  )
  const answers = await Promise.all(
    attacks.map(({ asker, previous_response_id }, index) =>
      asker.ask({ input: 'go on', previous_response_id, stream: index % 2 === 0 }),
    ),
  )

  for (const [index, answer] of answers.entries()) {
    const name = `${attacks[index]?.asker.name} for ${attacks[index]?.owner}'s`
    assert.equal(answer.status, 404, `${name}: ${answer.text}`)
    assert.equal(answer.text, unknown.text, name)
    assert.deepEqual(answer.headers, unknown.headers, name)
  }
  assert.equal(answers.length, 12 * 11)
  assert.deepEqual(await countCallsAndRows(), before)
})

test('no conversation that one did not make can be referred to, however it is written', async () => {
  const [owner, sameOrganization, otherOrganization] = await threeParties()
  const { responseId } = await owner.ask({ input: 'begin' })
  const before = await countCallsAndRows()
  const ids = [`conv_${randomBytes(24).toString('hex')}`, responseId]
  for (const party of [sameOrganization, otherOrganization]) {
    for (const conversation of ids.flatMap((id) => [id, { id }, { id, extra: true }])) {
      const answer = await party.ask({ input: 'go on', conversation })
      assert.equal(answer.status, 404, `${party.name}: ${answer.text}`)
    }
  }
  assert.deepEqual(await countCallsAndRows(), before)
})

test('an id hidden from the check is refused: escaped names count, repeated ones and other types are errors', async () => {
  const [owner, , attacker] = await threeParties()
  const { responseId } = await owner.ask({ input: 'begin' })
  const before = await countCallsAndRows()
  const raw = async (body: string) => {
    const response = await attacker.organization.fetch('/v1/responses', { method: 'POST', body })
    await response.text()
    return response.status
  }
  const start = '{"model":"gpt-4o-mini","input":"x"'
  assert.equal(await raw(`${start},"previous_response\\u005fid":"${responseId}"}`), 404)
  assert.equal(await raw(`${start},"previous_response_id":"${responseId.replace('_', '\\u005f')}"}`), 404)
  assert.equal(await raw(`${start},"previous_response_id":null,"previous_response_id":"${responseId}"}`), 400)
  assert.equal(await raw(`${start},"previous_response\\u005fid":null,"previous_response_id":"${responseId}"}`), 400)
  for (const value of [`["${responseId}"]`, `{"id":"${responseId}"}`, '5', 'true']) {
    assert.equal(await raw(`${start},"previous_response_id":${value}}`), 400, value)
  }
  for (const value of ['5', '[]', '{}', '{"id":5}', 'true', `{"id":["${responseId}"]}`]) {
    assert.equal(await raw(`${start},"conversation":${value}}`), 400, value)
  }
  for (const id of ['', ' ', `${responseId} `, `${responseId}/../x`, "'", 'a'.repeat(300), `${responseId}\\u0000`]) {
    assert.equal(await raw(`${start},"previous_response_id":"${id}"}`), 404, id)
  }
  assert.deepEqual(await countCallsAndRows(), before)
})

test("another user's answer takes as long to be refused as one that never was", async () => {
  const [owner, sameOrganization, otherOrganization] = await threeParties()
  const { responseId } = await owner.ask({ input: 'begin' })
  const durationOf = async (party: Party, id: string) => {
    const startedAt = performance.now()
    assert.equal((await party.ask({ input: 'go on', previous_response_id: id })).status, 404)
    return performance.now() - startedAt
  }
  const unknownMs = await durationOf(sameOrganization, `resp_${randomBytes(24).toString('hex')}`)

  for (const party of [sameOrganization, otherOrganization]) {
    const foreignMs = await durationOf(party, responseId)
    assert.ok(foreignMs > unknownMs / 2, `${party.name}: ${foreignMs} ms, unknown ${unknownMs} ms`)
  }
})

test("one's own answer can be followed up, whole or streamed, again and again", async () => {
  for (const party of await newParties(1)) {
    let { responseId } = await party.ask({ input: 'begin' })
    for (const stream of [false, true, false]) {
      const answer = await party.ask({ input: 'go on', previous_response_id: responseId, stream })
      assert.equal(answer.status, 200, `${party.name}: ${answer.text}`)
      responseId = answer.responseId
    }
  }
})

test('whoever comes with the external id of a deleted user is somebody else', async () => {
  const { organization, ask } = first(await newParties(1))
  const { responseId } = await ask({ input: 'begin' })
  const users = (await (await organization.fetch('/v1/api/users')).json()) as {
    users: { id: string; user_id: string }[]
  }
  const alice = users.users.find(({ user_id }) => user_id === 'alice')?.id

  assert.equal((await organization.fetch(`/v1/api/users/${alice}`, { method: 'DELETE' })).status, 204)

  // Within a second everywhere.
  const deadline = performance.now() + 1000
  let answer = await ask({ input: 'go on', previous_response_id: responseId })
  while (answer.status === 200 && performance.now() < deadline) {
    answer = await ask({ input: 'go on', previous_response_id: responseId })
  }
  assert.equal(answer.status, 404)
  assert.equal((await ask({ input: 'begin anew' })).status, 200)
})

test('a conversation stays with the key that began it, even when the user has got another since', async () => {
  const organization = await system.organization()
  const user = await organization.createUser('alice')
  const party = partyOf(organization, 'alice')
  const { responseId } = await party.ask({ input: 'begin' })
  const beganWith = lastKeyHash()

  await organization.createKey({ userId: user })
  await until(async () => {
    assert.equal((await party.ask({ input: 'something else' })).status, 200)
    return lastKeyHash() !== beganWith
  })
  const ownKey = lastKeyHash()

  const followUp = await party.ask({ input: 'go on', previous_response_id: responseId })
  assert.equal(followUp.status, 200, followUp.text)
  assert.equal(lastKeyHash(), beganWith)
  const [row] = await system.query('select api_key_id from attempts where response_id = $1', [followUp.responseId])
  assert.equal(row?.api_key_id, organization.apiKeyId)

  assert.equal((await party.ask({ input: 'begin anew' })).status, 200)
  assert.equal(lastKeyHash(), ownKey)
})

test('a conversation whose key is deactivated is a 409 that says so, never another key', async () => {
  const organization = await system.organization()
  const party = partyOf(organization, 'alice')
  const { responseId } = await party.ask({ input: 'begin' })
  const second = await organization.createKey()
  const path = `/v1/api/keys/${organization.apiKeyId}`
  assert.equal((await organization.fetch(path, { method: 'DELETE' })).status, 204)
  const ask = () => party.ask({ input: 'go on', previous_response_id: responseId })
  await until(async () => (await ask()).status === 409)
  const before = system.simulator.ledger.entries().length

  const answer = await ask()

  assert.equal(answer.status, 409)
  assert.match(answer.text, /inactive/)
  assert.equal(system.simulator.ledger.entries().length, before)
  assert.equal((await party.ask({ input: 'begin anew' })).status, 200, `with ${second.id}`)

  const body = JSON.stringify({ is_active: true })
  assert.equal((await organization.fetch(path, { method: 'PUT', body })).status, 200)
  await until(async () => (await ask()).status === 200)
})

test('a second server on the same database knows at once whose an answer is', async () => {
  const [owner, sameOrganization, otherOrganization] = await threeParties()
  for (let turn = 0; turn < 3; turn += 1) {
    const begun = await owner.ask({ input: 'begin', stream: turn % 2 === 0 })
    const there = await owner.ask({ input: 'go on', previous_response_id: begun.responseId }, secondUrl)
    assert.equal(there.status, 200, there.text)
    const back = await owner.ask({ input: 'go on', previous_response_id: there.responseId })
    assert.equal(back.status, 200, back.text)
    for (const party of [sameOrganization, otherOrganization]) {
      const body = { input: 'go on', previous_response_id: begun.responseId }
      assert.equal((await party.ask(body, secondUrl)).status, 404)
    }
  }
})

test('a token and a key of one organization open nothing in another on either server', async () => {
  const [own, , other] = await threeParties()
  for (const url of [system.url, secondUrl]) {
    for (const path of [`/v1/api/keys/${other.organization.apiKeyId}`, '/v1/api/keys']) {
      const response = await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${own.organization.token}` } })
      const text = await response.text()
      assert.ok(!text.includes(other.organization.id), text)
      assert.equal(response.status, path.endsWith('keys') ? 200 : 404)
    }
  }
})

async function newParties(organizations: number): Promise<Party[]> {
  const all = await Promise.all(Array.from({ length: organizations }, newOrganization))
  return all.flatMap((organization) => [...USERS, null].map((user) => partyOf(organization, user)))
}

/** Somebody, somebody else of the same organization, somebody of another. */
async function threeParties(): Promise<[Party, Party, Party]> {
  const [one, other] = await Promise.all([newOrganization(), newOrganization()])
  return [partyOf(one, 'alice'), partyOf(one, 'bob'), partyOf(other, 'alice')]
}

async function newOrganization(): Promise<TestOrganization> {
  const organization = await system.organization()
  const { syntheticKey, id } = await organization.createKey({ upstreamKey: new Secret(SHARED_UPSTREAM_KEY) })
  const path = `/v1/api/keys/${organization.apiKeyId}`
  assert.equal((await organization.fetch(path, { method: 'DELETE' })).status, 204)
  return { ...organization, syntheticKey, apiKeyId: id }
}

function partyOf(organization: TestOrganization, user: string | null): Party {
  const { token, syntheticKey } = organization
  return {
    name: `${user ?? 'the key alone'} of ${organization.id}`,
    organization,
    async ask(body, url = system.url) {
      const response = await fetch(`${url}/v1/responses`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          authorization: `Bearer ${user === null ? syntheticKey : token}`,
          ...(user !== null && { 'x-user-id': user }),
        },
        body: JSON.stringify({ model: 'gpt-4o-mini', ...body }),
      })
      const text = await response.text()
      return {
        status: response.status,
        text,
        headers: [...response.headers.keys()].sort(),
        responseId: /"id":\s*"(resp_\w+)"/.exec(text)?.[1] ?? '',
      }
    },
  }
}

async function startSecond(): Promise<RunningServer> {
  const stack = new AsyncDisposableStack()
  after(() => stack.disposeAsync())
  const server = await serve(readConfig({ ...system.env, DATA_DIR: await temporaryDirectory(stack) }))
  stack.defer(() => server.stop())
  return server
}

async function countCallsAndRows() {
  const [row] = await system.query<{ rows: string }>('select count(*) as rows from attempts')
  return { rows: row?.rows, calls: system.simulator.ledger.entries().length }
}

function lastKeyHash(): string | null | undefined {
  return system.simulator.ledger.entries().at(-1)?.keyHash
}

function first(parties: Party[]): Party {
  assert.ok(parties[0])
  return parties[0]
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 3000
  while (!(await holds())) assert.ok(performance.now() < deadline, 'it does not hold within 3 s')
}
