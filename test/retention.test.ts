/** Rows go when nobody keeps them, with what belongs to them; sums stay. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, test } from 'node:test'
import { verifyLedger } from '../src/ledger/maintenance.ts'
import { applyRetention, planRetention, startRetention } from '../src/ledger/retention.ts'
import { insertSettledAttempts, type SettledRow } from '../src/ledger/store.ts'
import { updatePolicies } from '../src/organizations/policies.ts'
import { runCommand } from './command.ts'
import { type System, startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

test('a month that nobody keeps is dropped whole, in others only what is not kept; sums and the ledger stay true', async () => {
  const system = await startSystem()
  const [short, long, forever] = [await withCall(system), await withCall(system), await withCall(system)]
  for (const organization of [short, long, forever]) {
    for (const monthsAgo of [4, 9, 20])
      await addCalls(system, organization, monthsAgo, organization === forever ? 0 : 5)
  }
  await addCalls(system, forever, 9, 5)
  await keep(system, short, 62)
  await keep(system, long, 400)
  const sums = await sumsOf(system)

  const plan = await planRetention(deps(system))
  const before = await countByMonth(system)
  const done = await applyRetention(deps(system))

  assert.deepEqual(
    plan.map(({ rows, expiredRows }) => [rows, expiredRows]),
    [
      [10, 10],
      [15, 5],
      [10, 5],
    ],
    'twenty, nine and four months ago',
  )
  assert.equal(before.length, 4)
  assert.deepEqual([done.months.length, done.rows], [1, 20])
  const left = await countByMonth(system)
  assert.deepEqual(
    left.map(({ count }) => Number(count)),
    [10, 5, 3],
  )
  assert.deepEqual(await sumsOf(system), sums)
  const { wrongSums } = await verifyLedger({ db: system.server.context.db, journalDirectory: '/nowhere' })
  assert.deepEqual(wrongSums, [])
  assert.deepEqual(await applyRetention(deps(system)), { months: [], rows: 0, contents: 0 }, 'again changes nothing')
})

test('without a policy everything is kept; an installation may say how long, and an organization otherwise', async () => {
  const system = await startSystem()
  const [plain, own] = [await withCall(system), await withCall(system)]
  await addCalls(system, plain, 4, 3)
  await addCalls(system, own, 4, 3)
  await keep(system, own, 3650)

  const nothing = await applyRetention(deps(system))
  const done = await applyRetention({ ...deps(system), rowsDays: 31 })

  assert.deepEqual(nothing, { months: [], rows: 0, contents: 0 })
  assert.equal(done.rows, 3)
  const rows = await system.query('select organization_id, count(*)::int from attempts group by 1')
  assert.deepEqual(Object.fromEntries(rows.map((row) => [row.organization_id, row.count])), {
    [plain.id]: 1,
    [own.id]: 4,
  })
})

test('a row of dropped days that comes late is neither inserted nor counted a second time', async () => {
  const system = await startSystem()
  const organization = await withCall(system)
  const rows = await addCalls(system, organization, 4, 2)
  await keep(system, organization, 31)
  await applyRetention(deps(system))
  const sums = await sumsOf(system)

  await system.server.context.db.forOperator((tx) => insertSettledAttempts(tx, rows))

  assert.deepEqual(await sumsOf(system), sums)
  assert.equal((await system.query('select from attempts')).length, 1)
})

test('content of dropped days goes with its rows', async () => {
  const system = await startSystem()
  const organization = await withCall(system)
  await askUntil(
    () => system.query('select from contents'),
    (rows) => rows.length === 2,
  )
  await system.query(
    "update contents set created_at = now() - interval '100 days', expires_at = now() + interval '100 days'",
  )
  await keep(system, organization, 31)

  const done = await applyRetention(deps(system))

  assert.equal(done.contents, 2)
  assert.equal((await system.query('select from contents')).length, 0)
})

test('a server that runs past the months it has partitions for makes new ones, and moves what the default one took', async () => {
  const system = await startSystem()
  const organization = await withCall(system)
  const partitions = async () =>
    (
      await system.query<{ name: string }>(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'attempts'::regclass order by 1",
      )
    ).map(({ name }) => name)
  const atStart = await partitions()
  for (const name of atStart.slice(1, -1)) await system.query(`drop table ${name}`)
  await addCalls(system, organization, -1, 5)
  const sums = await sumsOf(system)
  const inDefault = async () => (await system.query('select from only attempts_default')).length
  assert.equal(await inDefault(), 5)

  const faults: Error[] = []
  const retention = startRetention({ ...deps(system), onDone: () => {}, onFault: (error) => faults.push(error) })
  stack.use(retention)
  await askUntil(inDefault, (count) => count === 0)
  await addCalls(system, organization, -1, 1)

  assert.deepEqual(faults, [])
  assert.deepEqual(await partitions(), atStart)
  assert.equal(await inDefault(), 0)
  assert.equal((await system.query('select from attempts')).length, 7)
  assert.equal((await sumsOf(system)).requests, Number(sums.requests) + 1)
  const { rows } = await system.server.context.db.forOrganization(randomUUID(), async (tx) => ({
    rows: await tx.selectFrom('attempts').select('attempt_id').execute(),
  }))
  assert.deepEqual(rows, [], 'nobody else sees them in the new partition')
})

test('what somebody is reading makes retention wait, and never keeps a call from being recorded for long', async () => {
  const system = await startSystem()
  const organization = await withCall(system)
  await addCalls(system, organization, 4, 2)
  await keep(system, organization, 31)
  await system.query('begin')
  await system.query('select count(*) from attempts')

  const applying = applyRetention(deps(system))
  await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'Hello' })
  await askUntil(
    () => system.query('select from attempts where organization_id = $1', [organization.id]),
    (rows) => rows.length === 4,
  )
  await system.query('commit')

  assert.deepEqual((await applying).months.length, 1)
})

test('the command says what would go, does it, and refuses senseless days', async () => {
  const system = await startSystem()
  const organization = await withCall(system)
  await addCalls(system, organization, 4, 2)
  const directory = await temporaryDirectory(stack)
  const run = (...args: string[]) => runCommand(args, system.env, directory)

  const refusals = await Promise.all(
    ['30', '0', '-1', '1.5', 'x', '36501'].map((days) => run('policies', organization.id, '--rows-days', days)),
  )
  const set = await run('policies', organization.id, '--rows-days', '31', '--json')
  const dry = await run('retention', '--dry-run')
  const done = await run('retention', '--json')
  const after_ = await run('retention', '--dry-run', '--json')

  for (const { code, stderr } of refusals) {
    assert.equal(code, 1)
    assert.match(stderr, /^Error: Rows are kept for 31 to 36500 whole days\.\n$/)
  }
  assert.equal(JSON.parse(set.stdout).rows_days, 31)
  assert.match(
    dry.stdout,
    /^Month +Rows +Expired +What happens\n\d{4}-\d\d +2 +2 +dropped whole\nRows that would be deleted: 2\n$/,
  )
  assert.equal(JSON.parse(done.stdout).rows, 2)
  assert.equal(JSON.parse(after_.stdout).rows, 0)
})

function deps(system: System) {
  return { db: system.server.context.db, rowsDays: null }
}

function keep(system: System, organization: TestOrganization, rowsDays: number) {
  return updatePolicies(system.server.context, organization.admin, { rowsDays })
}

async function withCall(system: System): Promise<TestOrganization> {
  const organization = await system.organization()
  await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'Hello' })
  return organization
}

/** Calls like the one there is, in the middle of a month that long ago, by the way that a journal's rows take. */
async function addCalls(system: System, organization: TestOrganization, monthsAgo: number, count: number) {
  const [template] = await system.query<{ row: SettledRow }>(
    'select to_jsonb(attempts) as row from attempts where organization_id = $1 limit 1',
    [organization.id],
  )
  const now = new Date()
  const openedAt = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - monthsAgo, 15)).toISOString()
  const rows = Array.from({ length: count }, () => ({
    ...(template?.row as SettledRow),
    attempt_id: randomUUID(),
    request_id: `req_${randomUUID()}`,
    opened_at: openedAt,
    settled_at: openedAt,
  }))
  await system.server.context.db.forOperator((tx) => insertSettledAttempts(tx, rows))
  if (monthsAgo > 0) await system.query('select make_attempt_partition($1)', [openedAt])
  return rows
}

async function countByMonth(system: System) {
  return system.query<{ month: string; count: string }>(
    "select date_trunc('month', opened_at)::date::text as month, count(*) from attempts group by 1 order by 1",
  )
}

async function sumsOf(system: System) {
  const [row] = await system.query(
    'select sum(request_count)::int as requests, sum(cost_nano_usd)::text as cost, sum(input_tokens)::int as input from usage_daily',
  )
  return row ?? {}
}
