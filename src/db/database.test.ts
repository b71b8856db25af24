import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { after, test } from 'node:test'
import { sql } from 'kysely'
import { parseIntoClientConfig } from 'pg-connection-string'
import { createDatabase } from '../../test/harness.ts'
import { AppError } from '../errors.ts'
import { isDatabaseFault, openDatabase, type Tx } from './database.ts'
import { migrate } from './migrate.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const connection = parseIntoClientConfig((await createDatabase(stack)).databaseUrl)
const db = stack.use(openDatabase(connection, 3, () => {}))
await migrate(db)
const ORGANIZATION = randomUUID()
const UNAVAILABLE = { name: 'AppError', code: 'database_unavailable', retryAfterSeconds: 1 }

test('a statement beyond its time is database_unavailable, and the pool is healthy after it', async () => {
  const startedAt = performance.now()

  for (const attempt of [1, 2, 3, 4, 5]) {
    await assert.rejects(db.forOrganization(ORGANIZATION, sleepSeconds(30), 100), UNAVAILABLE, `attempt ${attempt}`)
  }

  assert.ok(performance.now() - startedAt < 3000)
  await assertHealthy()
})

test('work that never asks the database anything is ended by its deadline too', async () => {
  const never = Promise.withResolvers<void>()
  await assert.rejects(
    db.forOperator(() => never.promise, 100),
    UNAVAILABLE,
  )
  never.resolve()
  await assertHealthy()
})

for (const [when, waitsFor] of [
  ['between two statements', sql`select 1`],
  ['in the middle of a statement', sql`select pg_sleep(20)`],
] as const) {
  test(`a connection lost ${when} is database_unavailable, and the next statement has another`, async () => {
    for (let round = 0; round < 5; round += 1) {
      const work = async (tx: Tx) => {
        const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx)
        const isUnderWay = when === 'in the middle of a statement' ? waitsFor.execute(tx) : undefined
        isUnderWay?.catch(() => {})
        await db.forOwner((owner) => sql`select pg_terminate_backend(${rows[0]?.pid}, 1000)`.execute(owner))
        await (isUnderWay ?? waitsFor.execute(tx))
      }
      await assert.rejects(db.forOrganization(ORGANIZATION, work), UNAVAILABLE)
    }
    await assertHealthy()
  })
}

test('all connections lost at once are all replaced', async () => {
  await Promise.all([1, 2, 3].map(() => db.forOperator((tx) => sql`select 1`.execute(tx))))
  await db.forOwner((tx) =>
    sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`.execute(tx),
  )
  for (let round = 0; round < 20; round += 1) {
    const outcome = await db.forOperator((tx) => sql`select 1`.execute(tx)).catch((error: unknown) => error)
    assert.ok(!(outcome instanceof Error) || (outcome instanceof AppError && outcome.code === 'database_unavailable'))
  }
  await assertHealthy()
})

test('a database that is not there, or that never answers, is database_unavailable within its time', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1')
  await new Promise((resolve) => silent.once('listening', resolve))
  const silentPort = (silent.address() as AddressInfo).port
  await Promise.all(
    [
      { host: '127.0.0.1', port: 1 },
      { host: '/nonexistent', port: 5432 },
      { host: '127.0.0.1', port: silentPort },
    ].map(async (address) => {
      const away = openDatabase({ ...connection, ...address }, 2, () => {})
      const startedAt = performance.now()
      await assert.rejects(
        away.forOrganization(ORGANIZATION, async () => {}),
        UNAVAILABLE,
      )
      assert.ok(performance.now() - startedAt < 4000, JSON.stringify(address))
      await away[Symbol.asyncDispose]()
    }),
  )
  silent.close()
})

test("a statement's own fault stays what it is, with its code, and nothing of it is kept", async () => {
  const id = randomUUID()
  const insert = (tx: Tx) => tx.insertInto('organizations').values({ id, name: 'x' }).execute()
  await assert.rejects(
    db.forOperator(async (tx) => {
      await insert(tx)
      await insert(tx)
    }),
    { code: '23505' },
  )
  await assert.rejects(
    db.forOperator(async (tx) => {
      await insert(tx)
      throw new AppError('conflict', 'x')
    }),
    { code: 'conflict' },
  )
  const rows = await db.forOperator((tx) => tx.selectFrom('organizations').select('id').where('id', '=', id).execute())
  assert.deepEqual(rows, [])
})

test('what one transaction was allowed the next one on the same connection is not', async () => {
  const single = stack.use(openDatabase(connection, 1, () => {}))
  const id = randomUUID()
  await single.forOperator((tx) => tx.insertInto('organizations').values({ id, name: 'x' }).execute())
  const seen = (tx: Tx) => tx.selectFrom('organizations').select('id').execute()
  for (let round = 0; round < 3; round += 1) {
    assert.ok((await single.forOperator(seen)).length > 0)
    assert.deepEqual(await single.forOrganization('', seen), [])
    assert.deepEqual(await single.forOrganization(randomUUID(), seen), [])
    assert.deepEqual(await single.forOrganization(id, seen), [{ id }])
    await assert.rejects(
      single.forOperator(() => Promise.reject(new Error('rolled back'))),
      /rolled back/,
    )
    assert.deepEqual(await single.forOrganization('', seen), [])
  }
})

test('an organization id is a value, never a piece of SQL', async () => {
  const count = async (tx: Tx) => (await tx.selectFrom('organizations').select('id').execute()).length
  for (const id of ["' or true --", "x'; set app.operator = 'on", 'null', '*']) {
    await assert.rejects(db.forOrganization(id, count), { code: '22P02' })
  }
})

test('a count beyond what a double holds arrives whole', async () => {
  const { rows } = await db.forOperator((tx) => sql<{ n: bigint }>`select 9007199254740993::bigint as n`.execute(tx))
  assert.equal(rows[0]?.n, 9007199254740993n)
})

test('a fault of the database is told from a fault of the statement', () => {
  const withCode = (code: string) => Object.assign(new Error('x'), { code })
  for (const code of [
    'ECONNREFUSED',
    'ECONNRESET',
    'ENOTFOUND',
    'EPIPE',
    'ETIMEDOUT',
    '08006',
    '53300',
    '57014',
    '57P01',
    // A transaction that gave way to another is as good as one that never began.
    '40001',
    '40P01',
  ]) {
    assert.ok(isDatabaseFault(withCode(code)), code)
  }
  for (const code of ['58030', '25006', '28P01']) assert.ok(isDatabaseFault(withCode(code)), code)
  for (const code of ['23505', '42501', '42P01', '22P02', 'P0001', 'ERR_INVALID_ARG_TYPE']) {
    assert.ok(!isDatabaseFault(withCode(code)), code)
  }
  assert.ok(isDatabaseFault(new Error('Connection terminated unexpectedly')))
  assert.ok(!isDatabaseFault(new Error('something else')))
  assert.ok(!isDatabaseFault(new AppError('not_found', 'x')))
  assert.ok(!isDatabaseFault('Connection terminated'))
})

function sleepSeconds(seconds: number) {
  return async (tx: Tx) => {
    await sql`select pg_sleep(${seconds})`.execute(tx)
  }
}

/** Every connection of the pool, and some more turns, at once. */
async function assertHealthy(): Promise<void> {
  const answers = await Promise.all(
    Array.from({ length: 12 }, () =>
      db.forOrganization(ORGANIZATION, (tx) => sql<{ one: number }>`select 1 as one`.execute(tx)),
    ),
  )
  for (const { rows } of answers) assert.deepEqual(rows, [{ one: 1 }])
}
