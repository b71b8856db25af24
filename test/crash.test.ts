import assert from 'node:assert/strict'
import { test } from 'node:test'
import { killRun } from './faults/kill.ts'

test('F31: kill -9 at random moments under load loses no row, doubles none, and whoever saw the end has the exact tokens', async () => {
  const outcome = await killRun({ kills: 6, seed: 20_261_122 })

  assert.ok(outcome.calls > 50, `only ${outcome.calls} calls were made`)
  assert.ok(outcome.interrupted > 0, 'no kill fell into an open attempt')
  assert.deepEqual(
    { missing: outcome.missing, doubled: outcome.doubled, wrongTokens: outcome.wrongTokens },
    { missing: 0, doubled: 0, wrongTokens: 0 },
  )
})
