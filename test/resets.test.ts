import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resetRun } from './faults/resets.ts'

test('I8: wherever OpenAI breaks off, there is one row with the right ending, and the client sees that it was cut', async () => {
  const outcome = await resetRun({ step: 37 })

  assert.ok(outcome.calls > 50, `only ${outcome.calls} calls were made`)
  assert.deepEqual(
    {
      missing: outcome.missing,
      doubled: outcome.doubled,
      wrongTokens: outcome.wrongTokens,
      cleanEnds: outcome.cleanEnds,
      wrongEndings: outcome.wrongEndings,
    },
    { missing: 0, doubled: 0, wrongTokens: 0, cleanEnds: 0, wrongEndings: 0 },
  )
})
