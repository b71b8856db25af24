/** A server goes on serving on the schema of the next version. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { readConfig } from '../src/config.ts'
import { verifyLedger } from '../src/ledger/maintenance.ts'
import { serve } from '../src/serve.ts'
import { startSystem, temporaryDirectory } from './harness.ts'
import { migrateToNextVersion } from './next-version.ts'
import { askUntil } from './poll.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

test('an expanding migration is applied under a server of this version, which goes on, restarts, and keeps true accounts', async () => {
  const system = await startSystem()
  const organization = await system.organization()
  const call = (url = system.url) =>
    fetch(`${url}/v1/responses`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${organization.token}`,
        'x-user-id': `user-${Math.random()}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ model: 'gpt-4o-mini', input: 'Hello' }),
    }).then(async (response) => {
      await response.text()
      return response.status
    })
  const statuses = [await call()]

  let isApplied = false
  const load = (async () => {
    while (!isApplied) statuses.push(await call())
  })()
  const applied = await migrateToNextVersion(stack, system.server.context.db)
  isApplied = true
  await load
  const restarted = await serve(readConfig({ ...system.env, DATA_DIR: await temporaryDirectory(stack) }))
  stack.defer(() => restarted.stop())
  for (const url of [system.url, `http://127.0.0.1:${restarted.port}`]) {
    statuses.push(await call(url))
    const key = await organization.createKey({ name: 'after' })
    assert.ok(key.id)
    for (const [method, path, body] of [
      ['POST', '/v1/api/users', { user_id: `new-${Math.random()}` }],
      ['POST', '/v1/personas', { name: `P ${Math.random()}`, content: 'Be brief.' }],
      ['GET', '/v1/analytics/models', undefined],
    ] as const) {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: { authorization: `Bearer ${organization.token}`, 'content-type': 'application/json' },
        ...(body && { body: JSON.stringify(body) }),
      })
      assert.ok(response.ok, `${path}: ${await response.text()}`)
    }
  }

  assert.deepEqual(
    applied.map(({ name }) => name),
    ['9001_next'],
  )
  assert.deepEqual([...new Set(statuses)], [200])
  const rows = await askUntil(
    () => system.query('select from attempts'),
    (found) => found.length === statuses.length,
  )
  assert.equal(rows.length, statuses.length)
  const { wrongSums } = await verifyLedger({ db: system.server.context.db, journalDirectory: '/nowhere' })
  assert.deepEqual(wrongSums, [])
})
