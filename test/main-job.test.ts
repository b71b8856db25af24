import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startSystem } from './harness.ts'

const system = await startSystem()

test("an answer comes through OpenAI's own SDK, and its row has the tokens and the cost", async () => {
  const organization = await system.organization()

  const answer = await organization
    .client()
    .responses.create({ model: 'gpt-4o-mini', input: 'What is the capital of France?' })

  assert.equal(answer.output_text, 'The capital of France is Paris.')
  assert.match(answer._request_id ?? '', /^req_[0-9a-f]{32}$/)
  const rows = await system.query('select * from attempts where organization_id = $1', [organization.id])
  assert.equal(rows.length, 1)
  assert.equal(rows[0]?.request_id, answer._request_id)
  assert.equal(rows[0]?.status, 'completed')
  assert.equal(rows[0]?.model_used, 'gpt-4o-mini-2024-07-18')
  // 8 x 150 + 6 x 600 nano-dollars.
  assert.deepEqual([rows[0]?.input_tokens, rows[0]?.output_tokens, rows[0]?.cost_nano_usd], ['8', '6', '4800'])
})
