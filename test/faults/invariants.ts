import assert from 'node:assert/strict'
import type pg from 'pg'
import type { Simulator } from '../../simulator/server.ts'
import type { Seen } from './client.ts'

interface Row {
  request_id: string
  status: string
  usage_source: string
  input_tokens: string | null
  output_tokens: string | null
  cost_nano_usd: string | null
}

export interface Outcome {
  calls: number
  rows: number
  missing: number
  doubled: number
  wrongTokens: number
  interrupted: number
}

/**
 * Holds the ledger against what the simulated OpenAI says it served: each call has exactly one row, no row is without a call, and
 * whoever saw the end of an answer has a row with the exact tokens.
 */
export async function checkInvariants(
  client: pg.Client,
  simulator: Simulator,
  seen: readonly Seen[],
): Promise<Outcome> {
  const { rows } = await client.query<Row>('select * from attempts')
  const byRequest = Map.groupBy(rows, (row) => row.request_id)
  assert.equal(simulator.ledger.forgotten(), 0)
  const served = simulator.ledger.entries().filter(({ path }) => path === '/v1/responses')
  const sawEnd = new Set(seen.filter((one) => one.sawEnd).map(({ requestId }) => requestId))
  const outcome: Outcome = {
    calls: served.length,
    rows: rows.length,
    missing: 0,
    doubled: 0,
    wrongTokens: 0,
    interrupted: 0,
  }

  for (const entry of served) {
    const requestId = String(entry.requestHeaders['x-client-request-id'])
    const found = byRequest.get(requestId) ?? []
    if (found.length === 0) outcome.missing += 1
    const row = found[0]
    if (!row) continue
    if (row.status === 'interrupted') outcome.interrupted += 1
    if (!sawEnd.has(requestId)) continue
    const isExact =
      row.status === 'completed' &&
      row.usage_source === 'reported' &&
      Number(row.input_tokens) === entry.usage?.input_tokens &&
      Number(row.output_tokens) === entry.usage?.output_tokens
    if (!isExact) outcome.wrongTokens += 1
  }
  outcome.doubled = [...byRequest.values()].filter((found) => found.length > 1).length
  const calls = new Set(served.map((entry) => String(entry.requestHeaders['x-client-request-id'])))
  for (const row of rows) {
    // A row without a call upstream may only be one that never left, and that cost nothing.
    if (!calls.has(row.request_id))
      assert.ok(row.status === 'interrupted' || row.cost_nano_usd === '0', JSON.stringify(row))
  }
  await checkSums(client)
  return outcome
}

/** The daily sums equal the rows, to the token and the nano-dollar. */
async function checkSums(client: pg.Client): Promise<void> {
  const of = async (table: string, count: string) =>
    (
      await client.query(
        `select ${count}::text as requests, coalesce(sum(input_tokens), 0)::text as input, coalesce(sum(output_tokens), 0)::text as output,
         coalesce(sum(cost_nano_usd), 0)::text as cost from ${table}`,
      )
    ).rows[0]
  assert.deepEqual(
    await of('usage_daily', 'coalesce(sum(request_count), 0)'),
    await of('attempts', 'count(*) filter (where not is_superseded)'),
  )
}
