import assert from 'node:assert/strict'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseIntoClientConfig } from 'pg-connection-string'
import { openDatabase } from '../src/db/database.ts'
import { importJournals, repriceLedger, verifyLedger } from '../src/ledger/maintenance.ts'
import { parsePriceOverlay } from '../src/ledger/price-table.ts'
import { openPriceTable } from '../src/ledger/pricing.ts'
import { callRelay } from './faults/client.ts'
import { openKillRun } from './faults/kill.ts'
import { startServerProcess } from './faults/server-process.ts'
import { startSystem } from './harness.ts'

const system = await startSystem()

test("replaying a dead replica's whole journal five times gives every attempt once and changes nothing", async () => {
  await using stack = new AsyncDisposableStack()
  const { client, simulator, env, token } = await openKillRun(stack)
  const server = await startServerProcess(env)
  const body = { model: 'sim:tokens=200,tps=100,model=gpt-4o-mini', input: 'hello', stream: true }
  const calls = Array.from({ length: 10 }, () => callRelay(server.url, token, body))
  for (let turn = 0; turn < 20; turn += 1)
    await callRelay(server.url, token, { model: 'gpt-4o-mini', input: `hi ${turn}` })
  await server.kill('SIGKILL')
  await Promise.all(calls)
  const journals = join(String(env.DATA_DIR), 'journal')
  const copies = await temporary()
  const { db } = await databaseOf(env.DATABASE_URL, stack)

  const sums: unknown[] = []
  for (let replay = 0; replay < 5; replay += 1) {
    const copy = join(copies, String(replay))
    await cp(journals, copy, { recursive: true })
    await importJournals({ db, prices: openPriceTable() }, copy)
    sums.push((await client.query('select count(*), sum(cost_nano_usd), sum(output_tokens) from attempts')).rows[0])
    sums.push(
      (
        await client.query(
          'select sum(request_count) as count, sum(cost_nano_usd), sum(output_tokens) as sum1 from usage_daily',
        )
      ).rows[0],
    )
  }

  const served = simulator.ledger.entries().filter(({ path }) => path === '/v1/responses').length
  assert.equal(served, 30)
  assert.equal((sums[0] as { count: string }).count, '30')
  for (let replay = 1; replay < 5; replay += 1) {
    assert.deepEqual(sums[replay * 2], sums[0])
    assert.deepEqual(sums[replay * 2 + 1], sums[1])
  }
  const { wrongSums, unshipped } = await verifyLedger({ db, journalDirectory: journals })
  assert.deepEqual([wrongSums, unshipped], [[], []])
})

test('verify sees a sum that somebody changed, and attempts that only a journal knows', async () => {
  await using stack = new AsyncDisposableStack()
  const { client, env, token } = await openKillRun(stack)
  const server = await startServerProcess(env)
  await callRelay(server.url, token, { model: 'gpt-4o-mini', input: 'hi' })
  await server.kill('SIGTERM')
  const second = await startServerProcess(env)
  await callRelay(second.url, token, { model: 'sim:delay=1,model=gpt-4o-mini', input: 'lost?' })
  await second.kill('SIGKILL')
  await client.query("delete from attempts where model_requested like 'sim:%'")
  await client.query("delete from usage_daily where model like 'sim:%'")
  const { db } = await databaseOf(env.DATABASE_URL, stack)

  await client.query('update usage_daily set output_tokens = output_tokens + 1')
  const found = await verifyLedger({ db, journalDirectory: join(String(env.DATA_DIR), 'journal') })

  assert.ok(found.wrongSums.length >= 1)
  assert.equal(found.unshipped.length, 1)
})

test('pricing history again changes rows and sums by the same amount, once, and a dry run changes nothing', async () => {
  const organization = await system.organization()
  const { db } = system.server.context
  const client = organization.client()
  for (let turn = 0; turn < 3; turn += 1)
    await client.responses.create({ model: 'gpt-4o-mini', input: 'What is the capital of France?' })
  await client.responses.create({ model: 'model-without-price', input: 'hi' })
  const costs = () =>
    system.query(
      `select (select sum(cost_nano_usd) from attempts where organization_id = $1) as rows,
        (select sum(cost_nano_usd) from usage_daily where organization_id = $1) as sums,
        (select sum(unpriced_count) from usage_daily where organization_id = $1) as unpriced`,
      [organization.id],
    )
  const models = {
    'model-without-price': { input_mtok: 1, output_mtok: 1 },
    'gpt-4o-mini': { input_mtok: 1, output_mtok: 2 },
  }
  const prices = openPriceTable({ overlay: parsePriceOverlay({ models }) })
  const range = { from: new Date(Date.now() - 3_600_000), to: new Date(Date.now() + 3_600_000) }
  const before = await costs()

  const dry = await repriceLedger({ db, prices }, { ...range, isDryRun: true })
  const afterDry = await costs()
  const done = await repriceLedger({ db, prices }, { ...range, isDryRun: false })
  const again = await repriceLedger({ db, prices }, { ...range, isDryRun: false })

  assert.deepEqual(before, [{ rows: '14400', sums: '14400', unpriced: '1' }])
  assert.deepEqual(afterDry, before)
  assert.deepEqual([dry.changed, done.changed, again.changed], [4, 4, 0])
  const [repriced] = await costs()
  // 3 x (8 x 1000 + 6 x 2000), and "hi" answered by "You said: hi": 1 and 3 tokens at 1000.
  assert.equal(repriced?.rows, repriced?.sums)
  assert.equal(repriced?.unpriced, '0')
  assert.equal(BigInt(String(repriced?.rows)) - 14_400n, done.differenceNanoUsd)
  const { wrongSums } = await verifyLedger({ db, journalDirectory: join(String(system.env.DATA_DIR), 'journal') })
  assert.deepEqual(wrongSums, [])
})

test('R10: the journal holds ids, counts and prices, and no text of prompts, answers or keys', async () => {
  const organization = await system.organization()
  const sentinel = 'SENTINEL-prompt-7f3a'

  const stream = await organization.client().responses.create({ model: 'gpt-4o-mini', input: sentinel, stream: true })
  for await (const _ of stream);

  const journal = join(String(system.env.DATA_DIR), 'journal')
  for (const file of await readdir(journal, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const bytes = await readFile(join(file.parentPath, file.name))
    assert.equal(bytes.includes('SENTINEL'), false, `${file.name} holds text of a prompt`)
    assert.equal(bytes.includes(organization.token.slice(0, 40)), false)
  }
})

async function temporary(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ledger-'))
  after(() => rm(directory, { recursive: true, force: true }))
  await writeFile(join(directory, '.keep'), '')
  return directory
}

async function databaseOf(databaseUrl: string, stack: AsyncDisposableStack) {
  return { db: stack.use(openDatabase(parseIntoClientConfig(databaseUrl), 4, () => {})) }
}
