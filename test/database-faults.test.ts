import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DatabaseFault, databaseFaultRun } from './faults/database.ts'

const faults: { fault: DatabaseFault; control: string; what: string }[] = [
  { fault: 'cut_repeatedly', control: 'F5', what: 'its connections are cut every second' },
  { fault: 'refused', control: 'F2', what: 'it is away' },
  { fault: 'blackholed', control: 'F3', what: 'it does not answer' },
]

for (const { fault, control, what } of faults) {
  test(`${control}: known callers are served while the database is in trouble (${what}), and no row is lost or doubled`, async () => {
    const outcome = await databaseFaultRun({ fault, faultMs: 3000, seed: 7 })

    assert.ok(outcome.calls > 50, `only ${outcome.calls} calls were made`)
    assert.deepEqual(Object.keys(outcome.statuses), ['200'])
    assert.deepEqual(
      {
        missing: outcome.missing,
        doubled: outcome.doubled,
        wrongTokens: outcome.wrongTokens,
        interrupted: outcome.interrupted,
      },
      { missing: 0, doubled: 0, wrongTokens: 0, interrupted: 0 },
    )
  })
}
