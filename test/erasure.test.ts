/** What a user said and was called goes on request; what it cost stays. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, test } from 'node:test'
import { verifyAudit } from '../src/audit/service.ts'
import { startContentPurge } from '../src/content/purge.ts'
import { verifyLedger } from '../src/ledger/maintenance.ts'
import { runCommand } from './command.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const directory = await temporaryDirectory(stack)
const system = await startSystem()
const { context } = system.server

test('contents, feedback and external id of a user are gone, the accounting stays, and others are not touched', async () => {
  const organization = await system.organization()
  const [alice, bob] = [await organization.createUser('alice@example.com'), await organization.createUser('bob')]
  await organization.createKey({ userId: alice, name: "Alice's Key", description: 'hers' })
  const bound = await organization.createToken({ externalUserId: 'alice@example.com', name: 'Alice' })
  for (const userId of ['alice@example.com', 'bob']) await callAndRate(organization, userId)
  await contentsOf(organization, 4)
  const sums = await sumsOf(organization)
  const objects = await system.query('select from upstream_objects where user_id = $1', [alice])

  const response = await organization.fetch(`/v1/api/users/${alice}/erase`, { method: 'POST', userId: null })

  assert.equal(response.status, 200)
  const pseudonym = `erased-${alice}`
  assert.deepEqual(await response.json(), {
    id: alice,
    organization_id: organization.id,
    user_id: pseudonym,
    erased: { contents: 2, feedback_texts: 1, api_keys: 1, tokens: 1 },
    left: { upstream_objects: objects.length, audit_entries: 0, same_user_id: [] },
  })
  const rows = await system.query('select user_id from attempts where organization_id = $1 order by opened_at', [
    organization.id,
  ])
  assert.deepEqual(
    rows.map((row) => row.user_id),
    [alice, bob],
  )
  assert.deepEqual(await sumsOf(organization), sums)
  const ratings = await system.query(
    'select rating, feedback from ratings where organization_id = $1 order by rated_at',
    [organization.id],
  )
  assert.deepEqual(ratings, [
    { rating: 1, feedback: null },
    { rating: 1, feedback: 'from bob' },
  ])
  const [dump] = await system.query<{ text: string }>(
    `select concat(
       (select json_agg(u) from users u where organization_id = $1), (select json_agg(k) from api_keys k where organization_id = $1),
       (select json_agg(t) from tokens t where organization_id = $1), (select json_agg(h) from rating_history h where organization_id = $1), (select json_agg(a) from audit_log a where organization_id = $1)
     ) as text`,
    [organization.id],
  )
  assert.ok(!/alice/i.test(dump?.text ?? 'alice'), 'the name is nowhere')
  assert.equal(
    (await fetch(`${system.url}/v1/api/keys`, { headers: { authorization: `Bearer ${bound}` } })).status,
    401,
  )
  assert.equal((await contentsOf(organization, 2)).length, 2)
  assert.equal((await verifyAudit(context, organization.id)).brokenAt, undefined)
  assert.deepEqual((await verifyLedger({ db: context.db, journalDirectory: '/nowhere' })).wrongSums, [])
})

test('a deleted user can be erased, and erasing again erases what came since', async () => {
  const organization = await system.organization()
  await callAndRate(organization, 'carol')
  await contentsOf(organization, 2)
  const { users } = (await (await organization.fetch('/v1/api/users')).json()) as { users: { id: string }[] }
  const id = users[0]?.id ?? ''
  await organization.fetch(`/v1/api/users/${id}`, { method: 'DELETE' })
  // Whoever comes as carol now is somebody new, as soon as the server has heard of it.
  await askUntil(
    async () => {
      await organization.fetch('/v1/responses/health', { userId: 'carol' })
      return system.query('select from users where organization_id = $1 and deleted_at is null', [organization.id])
    },
    (rows) => rows.length === 1,
  )
  await callAndRate(organization, 'carol')
  await contentsOf(organization, 4)

  const run = () => runCommand(['erase-user', id, '--json'], system.env, directory)
  const first = JSON.parse((await run()).stdout)
  await system.query(
    'update rating_history set feedback = $2 where request_id in (select request_id from attempts where user_id = $1)',
    [id, 'late'],
  )
  const second = JSON.parse((await run()).stdout)

  assert.equal(first.contents, 2)
  assert.equal(first.same_user_id.length, 1, 'the new carol is somebody else')
  assert.deepEqual([second.contents, second.feedback_texts, second.user_id], [0, 1, first.user_id])
  assert.equal((await contentsOf(organization, 2)).length, 2, "the new carol's")
})

test('content that a call under way brings after the erasure goes too', async () => {
  const organization = await system.organization()
  const id = await organization.createUser('dave')
  await callAndRate(organization, 'dave')
  const contents = await contentsOf(organization, 2)
  await organization.fetch(`/v1/api/users/${id}/erase`, { method: 'POST' })

  await system.query(
    `insert into contents (organization_id, attempt_id, kind, sealed, original_bytes, is_cut, created_at, expires_at)
     values ($1, $2, 'response', 'late', 4, false, now(), now() + interval '30 days')`,
    [organization.id, contents[0]?.attempt_id],
  )
  stack.use(startContentPurge({ db: context.db, onPurged: () => {}, onFault: () => {} }))

  assert.deepEqual(await contentsOf(organization, 0), [])
})

test('a user of another organization is one that does not exist, and nothing of theirs is erased', async () => {
  const [own, other] = [await system.organization(), await system.organization()]
  const theirs = await other.createUser('erin')
  await callAndRate(other, 'erin')
  await contentsOf(other, 2)

  const foreign = await own.fetch(`/v1/api/users/${theirs}/erase`, { method: 'POST' })
  const unknown = await own.fetch(`/v1/api/users/${randomUUID()}/erase`, { method: 'POST' })
  const malformed = await own.fetch('/v1/api/users/erin/erase', { method: 'POST' })
  const command = await runCommand(['erase-user', randomUUID()], system.env, directory)

  assert.deepEqual([foreign.status, unknown.status, malformed.status], [404, 404, 400])
  assert.match(command.stderr, /^Error: User not found: /)
  assert.equal(command.code, 1)
  assert.equal((await contentsOf(other, 2)).length, 2)
  const [user] = await system.query('select external_id, deleted_at from users where id = $1', [theirs])
  assert.deepEqual(user, { external_id: 'erin', deleted_at: null })
})

async function callAndRate(organization: TestOrganization, userId: string): Promise<void> {
  const answer = await organization
    .client({ userId })
    .responses.create({ model: 'gpt-4o-mini', input: `I am ${userId}` })
  await askUntil(
    () =>
      organization
        .fetch(`/v1/responses/${answer.id}/rate`, {
          method: 'POST',
          userId,
          body: JSON.stringify({ rating: 1, feedback: `from ${userId}` }),
        })
        .then(({ status }) => status),
    (status) => status === 200,
  )
}

async function contentsOf(organization: TestOrganization, count: number) {
  return askUntil(
    () => system.query('select attempt_id, kind from contents where organization_id = $1', [organization.id]),
    (rows) => rows.length === count,
  )
}

async function sumsOf(organization: TestOrganization) {
  return system.query('select * from usage_daily where organization_id = $1 order by user_id', [organization.id])
}
