import assert from 'node:assert/strict'
import { test } from 'node:test'
import { replicasRun } from './faults/replicas.ts'

test('F31, F40, F13, F14: two servers under load: one is killed, a listener is lost, both are restarted in turn, all secrets are rotated, the next schema comes: no other call fails, no row is wrong', async () => {
  const outcome = await replicasRun({ requestsPerSecond: 20, seed: 11, drainSeconds: 3 })

  assert.ok(outcome.calls > 200, `only ${outcome.calls} calls were made`)
  assert.deepEqual(outcome.failedElsewhere, [])
  assert.deepEqual(outcome.exitCodes, Array(6).fill(0))
  assert.equal(outcome.retired.masterKeys, 1)
  assert.ok(outcome.retired.dataKeys > 1, `${outcome.retired.dataKeys} data keys were retired`)
  assert.deepEqual(outcome.migrated, ['9001_next'])
  assert.deepEqual(outcome.isVerified, [true, true])
  assert.deepEqual(
    { missing: outcome.missing, doubled: outcome.doubled, wrongTokens: outcome.wrongTokens },
    { missing: 0, doubled: 0, wrongTokens: 0 },
  )
})
