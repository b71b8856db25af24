import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { parseIntoClientConfig } from 'pg-connection-string'
import { createDatabase } from '../../test/harness.ts'
import { asAdministrator, type Caller, OPERATOR } from '../auth/caller.ts'
import { openDatabase } from '../db/database.ts'
import { migrate } from '../db/migrate.ts'
import { createOrganization } from '../organizations/service.ts'
import { createUser, deleteUser, getUser } from '../users/service.ts'
import { recordAudit, verifyAudit } from './service.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const { databaseUrl, client } = await createDatabase(stack)
const db = stack.use(openDatabase(parseIntoClientConfig(databaseUrl), 5, () => {}))
await migrate(db)

test('each change leaves one row that says who did what to what, and the chain holds', async () => {
  const { id, caller } = await newOrganization()
  const user = await createUser({ db }, { ...caller, actor: 'token:42' }, { externalId: 'alice' })
  await createUser({ db }, caller, { externalId: 'alice' })
  await deleteUser({ db }, caller, user.id)

  const rows = await rowsOf(id)
  assert.deepEqual(
    rows.map(({ sequence, actor, action, target }) => [sequence, actor, action, target]),
    [
      ['1', 'operator', 'organization.create', id],
      ['2', 'token:42', 'user.create', user.id],
      ['3', 'operator', 'user.delete', user.id],
    ],
  )
  assert.deepEqual(await verifyAudit({ db }, id), { rows: 3 })
})

test('an altered row is seen, whichever of its columns it is', async () => {
  for (const alteration of [
    "actor = 'somebody else'",
    "action = 'user.read'",
    "target = 'x'",
    `details = '{"external_id": "mallory"}'`,
    `details = '{"x": 1}'`,
    "at = at + interval '1 second'",
    "hash = sha256('x')",
    "previous_hash = sha256('x')",
    'sequence = 99',
  ]) {
    const { id } = await newOrganizationWithUsers(4)
    await client.query(`update audit_log set ${alteration} where organization_id = $1 and sequence = 3`, [id])
    const { rows, brokenAt } = await verifyAudit({ db }, id)
    assert.equal(rows, 5, alteration)
    // The row with the sequence 3 is now missing, which its successor shows.
    assert.equal(brokenAt, alteration === 'sequence = 99' ? 4n : 3n, alteration)
  }
})

test('a row that is deleted, from the beginning or the middle, is seen', async () => {
  for (const sequence of [1, 2, 4]) {
    const { id } = await newOrganizationWithUsers(4)
    await client.query('delete from audit_log where organization_id = $1 and sequence = $2', [id, sequence])
    assert.equal((await verifyAudit({ db }, id)).brokenAt, BigInt(sequence + 1))
  }
})

test("rows in exchanged places, and rows of another organization's chain, are seen", async () => {
  const { id } = await newOrganizationWithUsers(4)
  await client.query(
    'update audit_log set sequence = case sequence when 2 then -2 else -3 end + 100 where organization_id = $1 and sequence in (2, 3)',
    [id],
  )
  await client.query(
    'update audit_log set sequence = case sequence when 98 then 3 else 2 end where organization_id = $1 and sequence in (97, 98)',
    [id],
  )
  assert.equal((await verifyAudit({ db }, id)).brokenAt, 2n)

  const [own, other] = [await newOrganizationWithUsers(1), await newOrganizationWithUsers(1)]
  await client.query('delete from audit_log where organization_id = $1', [own.id])
  await client.query('update audit_log set organization_id = $1 where organization_id = $2', [own.id, other.id])
  assert.equal((await verifyAudit({ db }, own.id)).brokenAt, 1n)
})

test('a change that fails leaves no row, and a row that cannot be written undoes its change', async () => {
  const { id, caller } = await newOrganization()
  await assert.rejects(deleteUser({ db }, caller, '00000000-0000-4000-8000-000000000000'), { code: 'not_found' })
  await assert.rejects(createUser({ db }, caller, { externalId: '' }), { code: 'missing_user_id' })
  await assert.rejects(
    db.forOrganization(id, async (tx) => {
      await recordAudit(tx, caller, { action: 'user.create', target: 'x' })
      throw new Error('later in the same transaction')
    }),
    /later in the same transaction/,
  )
  assert.equal((await rowsOf(id)).length, 1)

  const user = await createUser({ db }, caller, { externalId: 'alice' })
  const unwritable: Caller = { ...caller, actor: 'token:\0' }
  await assert.rejects(deleteUser({ db }, unwritable, user.id))
  assert.equal((await getUser({ db }, caller, user.id)).id, user.id)
  assert.deepEqual(await verifyAudit({ db }, id), { rows: 2 })
})

test('changes at the same time make one chain, without a gap', async () => {
  const { id, caller } = await newOrganization()
  await Promise.all(Array.from({ length: 40 }, (_, at) => createUser({ db }, caller, { externalId: `user-${at}` })))
  assert.deepEqual(
    (await rowsOf(id)).map(({ sequence }) => Number(sequence)),
    Array.from({ length: 41 }, (_, at) => at + 1),
  )
  assert.deepEqual(await verifyAudit({ db }, id), { rows: 41 })
})

test('details may be of any kind and in any order of keys: the chain holds', async () => {
  const { id, caller } = await newOrganization()
  await db.forOrganization(id, async (tx) => {
    for (const details of [
      { zebra: 1, apple: 'x', é: null, a: true, list: ['b', 'a'] },
      { bb: 1, a: 2, aaa: 3, '': 4, '10': 5, '9': 6 },
      { text: '"\\ \u2028 🎈', number: 1e21, small: 1e-7, negative: -0.5 },
      {},
    ]) {
      await recordAudit(tx, caller, { action: 'test.details', target: id, details })
    }
  })
  assert.deepEqual(await verifyAudit({ db }, id), { rows: 5 })
})

test("each organization has a chain of its own, and verifying one says nothing of another's", async () => {
  const [one, other] = [await newOrganizationWithUsers(2), await newOrganizationWithUsers(3)]
  await client.query("update audit_log set actor = 'x' where organization_id = $1", [one.id])
  assert.equal((await verifyAudit({ db }, one.id)).brokenAt, 1n)
  assert.deepEqual(await verifyAudit({ db }, other.id), { rows: 4 })
})

async function newOrganization() {
  const { id } = await createOrganization({ db }, OPERATOR, { name: 'x' })
  return { id, caller: asAdministrator(OPERATOR, id) }
}

async function newOrganizationWithUsers(count: number) {
  const organization = await newOrganization()
  for (let at = 0; at < count; at += 1) {
    await createUser({ db }, organization.caller, { externalId: `user-${at}` })
  }
  return organization
}

async function rowsOf(organizationId: string) {
  const { rows } = await client.query('select * from audit_log where organization_id = $1 order by sequence', [
    organizationId,
  ])
  return rows
}
