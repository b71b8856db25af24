import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { cp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { parseIntoClientConfig } from 'pg-connection-string'
import { openDatabase } from '../src/db/database.ts'
import { migrate } from '../src/db/migrate.ts'
import { verifyLedger } from '../src/ledger/maintenance.ts'
import { createDatabase, temporaryDirectory } from './harness.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

test('what was recorded before there were these sums is in them after the upgrade, and ratings know what they rated', async () => {
  const { databaseUrl, client } = await createDatabase(stack)
  const db = stack.use(openDatabase(parseIntoClientConfig(databaseUrl), 4, () => {}))
  const directory = await temporaryDirectory(stack)
  await cp(new URL('../src/db/migrations/', import.meta.url), directory, { recursive: true })
  for (const file of await readdir(directory)) if (file >= '0009') await rm(join(directory, file))
  await migrate(db, pathToFileURL(`${directory}/`))
  const organizationId = randomUUID()
  await client.query("insert into organizations (id, name) values ($1, 'Old')", [organizationId])
  await client.query(
    `insert into attempts (organization_id, attempt_id, opened_at, settled_at, request_id, attempt_number, endpoint, api_key_id,
       session_id, model_used, is_stream, status, usage_source, input_tokens, output_tokens, cost_nano_usd, duration_ms)
     select $1, gen_random_uuid(), '2026-10-01T00:00:00Z'::timestamptz + number * interval '7 hours', now(), 'req_' || number / 2,
       1 + number % 2, 'responses', '00000000-0000-4000-8000-000000000001', 's' || number % 5, 'gpt-4o', false,
       case number % 2 when 0 then 'upstream_error' else 'completed' end, 'reported', number % 2 * 10, number % 2, number % 2 * 100, 5
     from generate_series(0, 199) as numbers (number)`,
    [organizationId],
  )
  await client.query(
    "insert into ratings (organization_id, request_id, rating) select $1, 'req_' || number, 1 from generate_series(0, 9) as numbers (number)",
    [organizationId],
  )

  await migrate(db)

  const { days, wrongSums } = await verifyLedger({ db, journalDirectory: directory })
  assert.ok(days > 50)
  assert.deepEqual(wrongSums, [])
  for (const table of ['usage_daily', "(select * from usage_slices where slice = 'all')", 'sessions']) {
    const { rows } = await client.query(
      `select sum(request_count)::int as requests, sum(failure_count)::int as failed, sum(cost_nano_usd)::int as cost from ${table} as sums`,
    )
    assert.deepEqual(rows, [{ requests: 100, failed: 0, cost: 10_000 }], table)
  }
  const { rows: rated } = await client.query(
    'select count(*)::int as count, sum(cost_nano_usd)::int as cost, count(opened_at)::int as times from ratings',
  )
  assert.deepEqual(rated, [{ count: 10, cost: 1000, times: 10 }])
  assert.equal((await client.query('select from rating_history')).rowCount, 10)
})
