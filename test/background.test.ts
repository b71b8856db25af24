import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openKillRun } from './faults/kill.ts'
import { startServerProcess } from './faults/server-process.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { askUntil } from './poll.ts'

const system = await startSystem()

test('C117: a background response that its client never asks for again is settled once, exactly', async () => {
  const organization = await system.organization()

  const answer = await organization.client().responses.create({
    model: 'sim:tokens=25,background_ms=300,model=gpt-4o-mini',
    input: 'take your time',
    background: true,
  })

  assert.equal(answer.status, 'queued')
  const rows = await settledRows(organization)
  assert.equal(rows.length, 1)
  assert.equal(rows[0]?.response_id, answer.id)
  assert.deepEqual([rows[0]?.status, rows[0]?.usage_source, rows[0]?.output_tokens], ['completed', 'reported', '25'])
  assert.deepEqual(
    await system.query('select * from background_attempts where organization_id = $1', [organization.id]),
    [],
  )
})

test('a background stream that its client leaves goes on, and is settled exactly when it ends', async () => {
  const organization = await system.organization()

  const stream = await organization.client().responses.create({
    model: 'sim:tokens=30,tps=60,background_ms=500,model=gpt-4o-mini',
    input: 'hello',
    background: true,
    stream: true,
  })
  for await (const event of stream) if (event.type === 'response.output_text.delta') break

  const rows = await settledRows(organization)
  assert.equal(rows.length, 1)
  assert.deepEqual([rows[0]?.status, rows[0]?.usage_source, rows[0]?.output_tokens], ['completed', 'reported', '30'])
})

test('C117: a background response survives kill -9 of the proxy that began it', async () => {
  await using stack = new AsyncDisposableStack()
  const { client, env, token } = await openKillRun(stack)
  const first = await startServerProcess(env)
  const body = { model: 'sim:tokens=12,background_ms=1000,model=gpt-4o-mini', input: 'later', background: true }
  const headers = { authorization: `Bearer ${token}`, 'x-user-id': 'alice', 'content-type': 'application/json' }
  const answer = await fetch(`${first.url}/v1/responses`, { method: 'POST', headers, body: JSON.stringify(body) })
  assert.equal(answer.status, 200)
  await answer.text()

  await first.kill('SIGKILL')
  const second = await startServerProcess(env)

  const rows = await askUntil(
    async () => (await client.query('select * from attempts')).rows,
    (found) => found.length > 0,
  )
  assert.equal(await second.kill('SIGTERM'), 0)
  assert.equal(rows.length, 1)
  assert.deepEqual([rows[0]?.status, rows[0]?.usage_source, rows[0]?.output_tokens], ['completed', 'reported', '12'])
})

function settledRows(organization: TestOrganization) {
  return askUntil(
    () => system.query('select * from attempts where organization_id = $1', [organization.id]),
    (rows) => rows.length > 0,
  )
}
