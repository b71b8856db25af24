import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { after, test } from 'node:test'
import { parseIntoClientConfig } from 'pg-connection-string'
import { createDatabase } from '../../test/harness.ts'
import { openVault } from '../api-keys/vault.ts'
import { OPERATOR } from '../auth/caller.ts'
import { openDatabase } from '../db/database.ts'
import { migrate } from '../db/migrate.ts'
import { newAttemptId } from '../ids.ts'
import { createOrganization } from '../organizations/service.ts'
import { purgeExpiredContent, startContentPurge } from './purge.ts'
import { type Content, contentContext, openContentWriter } from './writer.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const { databaseUrl, client } = await createDatabase(stack)
const db = stack.use(openDatabase(parseIntoClientConfig(databaseUrl), 4, () => {}))
await migrate(db)
const masterKey = randomBytes(32)
const vault = await openVault({ db }, async () => ({ current: masterKey, previous: undefined }))

test('content is sealed: no byte of it is readable in its row, and only organization, attempt and kind together open it', async () => {
  const [own, other] = [await newOrganization(), await newOrganization()]
  const content = newContent(own, 'a sentence that nobody may read')
  await using writer = newWriter()
  writer.keep(content)
  writer.keep(newContent(other, 'so that it has a key of its own'))
  await writer.flush()

  const [row] = await rowsOf(own)
  const sealed: Buffer = row?.sealed
  const open = (organizationId: string, context: string) =>
    db.forOperator((tx) => vault.openBytes(tx, organizationId, context, sealed))

  assert.ok(!sealed.includes('sentence'))
  const context = contentContext(content.attemptId, 'request')
  assert.equal(String(await open(own, context)), 'a sentence that nobody may read')
  const refused = { name: 'VaultError' }
  await assert.rejects(open(other, context), refused)
  await assert.rejects(open(own, contentContext(content.attemptId, 'response')), refused)
  await assert.rejects(open(own, contentContext(newAttemptId(Date.now()), 'request')), refused)
})

test('bytes come back as they were, whatever they are and however many go in one batch', async () => {
  const organizations = [await newOrganization(), await newOrganization()]
  const contents = Array.from({ length: 60 }, (_, index) => {
    const bytes = randomBytes(index % 20 === 0 ? 1024 * 1024 : index * 7)
    return { ...newContent(organizations[index % 2] ?? ''), request: { bytes, originalBytes: bytes.length } }
  })
  await using writer = newWriter()

  for (const content of contents) writer.keep(content)
  await writer.flush()

  for (const { organizationId, attemptId, request } of contents) {
    const row = (await rowsOf(organizationId)).find((found) => found.attempt_id === attemptId)
    const context = contentContext(attemptId, 'request')
    const bytes = await db.forOperator((tx) => vault.openBytes(tx, organizationId, context, row?.sealed))
    assert.ok(bytes.equals(request.bytes))
  }
  assert.deepEqual([writer.droppedCount, writer.pendingBytes], [0, 0])
})

test('what waits is bounded: beyond it content is dropped and counted, told of once, and the rest is written when it can be', async () => {
  const organization = await newOrganization()
  const told: number[] = []
  await using writer = newWriter({ pendingBytesMax: 10_000, onDropped: (count) => told.push(count) })
  await client.query('begin')
  await client.query('lock table contents')

  for (let count = 0; count < 1000; count += 1) writer.keep(newContent(organization, 'x'.repeat(1000)))

  assert.ok(writer.pendingBytes <= 10_000)
  assert.ok(writer.droppedCount > 980)
  assert.deepEqual(told, [1])
  await client.query('rollback')
  await writer.flush()
  assert.equal((await rowsOf(organization)).length + writer.droppedCount, 1000)
  assert.equal(writer.pendingBytes, 0)
  writer.keep(newContent(organization))
  await writer.flush()
  assert.equal((await rowsOf(organization)).length + writer.droppedCount, 1001)
})

test('content that the database refuses for what it is does not hold up the rest, and is counted', async () => {
  const organization = await newOrganization()
  const nobody = randomUUID()
  const errors: unknown[] = []
  await using writer = newWriter({ onDropped: (_count, error) => errors.push(error) })

  for (const owner of [organization, nobody, organization]) writer.keep(newContent(owner))
  await writer.flush()

  assert.deepEqual([(await rowsOf(organization)).length, (await rowsOf(nobody)).length], [2, 0])
  assert.deepEqual([writer.droppedCount, writer.pendingBytes, errors.length], [1, 0, 1])
  assert.ok(errors[0] instanceof Error)
})

test('closing writes what is left', async () => {
  const organization = await newOrganization()
  const writer = newWriter()

  writer.keep(newContent(organization))
  await writer[Symbol.asyncDispose]()

  assert.equal((await rowsOf(organization)).length, 1)
})

test('what has reached its deadline is deleted, by several servers at once and past rows that somebody holds; nothing else is', async () => {
  const organization = await newOrganization()
  await using writer = newWriter()
  for (let count = 0; count < 500; count += 1) writer.keep(newContent(organization))
  const kept = newContent(organization)
  const held = newContent(organization)
  writer.keep(kept)
  writer.keep(held)
  await writer.flush()
  await client.query(`update contents set expires_at = now() - interval '1 second' where attempt_id <> $1`, [
    kept.attemptId,
  ])
  await client.query('begin')
  await client.query('select from contents where attempt_id = $1 for update', [held.attemptId])

  const deleted = await Promise.all([1, 2, 3].map(() => purgeExpiredContent({ db })))

  const left = (await rowsOf(organization)).map((row) => row.attempt_id)
  await client.query('rollback')
  assert.deepEqual(left.sort(), [kept.attemptId, held.attemptId].sort())
  assert.ok(deleted.reduce((sum, count) => sum + count, 0) >= 500)
  assert.equal(await purgeExpiredContent({ db }), 1)
  assert.equal(await purgeExpiredContent({ db }), 0)
})

test('a server purges when it starts', async () => {
  const organization = await newOrganization()
  await using writer = newWriter()
  writer.keep(newContent(organization))
  await writer.flush()
  await client.query('update contents set expires_at = now() where organization_id = $1', [organization])
  const purged = Promise.withResolvers<number>()

  await using _purge = startContentPurge({ db, onPurged: purged.resolve, onFault: purged.reject })

  assert.equal(await purged.promise, 1)
  assert.deepEqual(await rowsOf(organization), [])
})

test('rows show themselves to their own organization only', async () => {
  const [own, other] = [await newOrganization(), await newOrganization()]
  await using writer = newWriter()
  writer.keep(newContent(own))
  await writer.flush()
  const countFor = (organizationId: string) =>
    db.forOrganization(organizationId, (tx) => tx.selectFrom('contents').select('attempt_id').execute())

  assert.equal((await countFor(own)).length, 1)
  assert.equal((await countFor(other)).length, 0)
})

function newWriter(options: Partial<Parameters<typeof openContentWriter>[0]> = {}) {
  return openContentWriter({
    db,
    vault,
    pendingBytesMax: 64 * 1024 * 1024,
    onFault: () => {},
    onDropped: () => {},
    ...options,
  })
}

async function newOrganization(): Promise<string> {
  return (await createOrganization({ db }, OPERATOR, { name: randomUUID() })).id
}

function newContent(organizationId: string, text = 'hello') {
  const bytes = Buffer.from(text)
  return {
    organizationId,
    attemptId: newAttemptId(Date.now()),
    days: 30,
    request: { bytes, originalBytes: bytes.length },
    response: undefined,
  } satisfies Content
}

async function rowsOf(organizationId: string) {
  return (await client.query('select * from contents where organization_id = $1', [organizationId])).rows
}
