import assert from 'node:assert/strict'
import { test } from 'node:test'
import { replicasRun } from './faults/replicas.ts'

test('F31, F40, F13, F14: one of two servers is killed, both are restarted in turn, a listener is lost: no other call fails, no row is wrong', async () => {
  const outcome = await replicasRun({ requestsPerSecond: 30, seed: 11 })

  assert.ok(outcome.calls > 200, `only ${outcome.calls} calls were made`)
  assert.equal(outcome.failedElsewhere, 0)
  assert.deepEqual(outcome.exitCodes, [0, 0, 0, 0])
  assert.deepEqual(
    {
      missing: outcome.missing,
      doubled: outcome.doubled,
      wrongTokens: outcome.wrongTokens,
      wrongSums: outcome.wrongSums,
      unshipped: outcome.unshipped,
    },
    { missing: 0, doubled: 0, wrongTokens: 0, wrongSums: 0, unshipped: 0 },
  )
})
