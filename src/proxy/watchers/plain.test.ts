import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Meter } from '../answer-watcher.ts'
import { cuts, read } from './reading.ts'

const INPUT = { prompt_tokens: 8, total_tokens: 8 }
const TOKENS = { input_tokens: 5, input_tokens_details: { cached_tokens: 2 }, output_tokens: 3, total_tokens: 8 }

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value, null, 1))
}

test('an answer in one piece gives its end, model and usage wherever it is cut', () => {
  const cases: [Meter, object, string | null, unknown][] = [
    ['compact', { id: 'resp_c', object: 'response.compaction', output: [{ usage: 1 }], usage: TOKENS }, null, TOKENS],
    ['embeddings', { object: 'list', data: [{ embedding: [0.1, -2e-3] }], model: 'm', usage: INPUT }, 'm', INPUT],
    ['chat', { id: 'c', model: 'm', choices: [{ finish_reason: 'stop' }], usage: TOKENS }, 'm', TOKENS],
    [
      'completions',
      { id: 'cmpl-1', model: 'm', choices: [{ text: 'x', finish_reason: 'stop' }], usage: TOKENS },
      'm',
      TOKENS,
    ],
  ]
  for (const [meter, answer, modelUsed, raw] of cases) {
    for (const pieces of cuts(json(answer))) {
      assert.deepEqual(
        read(meter, 'json', pieces).end,
        { ending: 'completed', errorCode: null, modelUsed, serviceTier: null, usage: { source: 'reported', raw } },
        meter,
      )
    }
  }
})

test('moderations and counted input tokens are free, also when they are cut or refused', () => {
  const answers: [Meter, object][] = [
    ['moderations', { id: 'modr-1', model: 'omni-moderation-latest', results: [] }],
    ['input_tokens', { object: 'response.input_tokens', input_tokens: 12 }],
    ['input_tokens', { error: { code: 'x' } }],
  ]
  for (const [meter, answer] of answers) {
    assert.deepEqual(read(meter, 'json', [json(answer)]).end?.usage, { source: 'none' })
    assert.deepEqual(read(meter, 'json', [json(answer).subarray(0, 9)]).usageIfCut, { source: 'none' })
  }
})

test('a batch goes on until its status says that it has ended; one that was refused is none', () => {
  const usage = { input_tokens: 1, output_tokens: 1 }
  const ending = (status: unknown) => {
    const { responseId, end } = read('batch', 'json', [json({ id: 'batch_1', object: 'batch', status, usage })])
    assert.deepEqual([responseId, end?.usage], ['batch_1', { source: 'unknown' }])
    return end?.ending
  }
  for (const status of ['validating', 'in_progress', 'finalizing', 'cancelling', 'new', null, 5]) {
    assert.equal(ending(status), 'pending', String(status))
  }
  for (const status of ['completed', 'failed', 'expired', 'cancelled'])
    assert.equal(ending(status), 'completed', status)
  assert.equal(read('batch', 'json', [json({ error: { code: 'x' } })]).end?.ending, 'failed')
  assert.deepEqual(read('batch', 'json', []).usageIfCut, { source: 'unknown' })
})

test('vectors that are cut are not taken for tokens, text is', () => {
  const bytes = Buffer.from(`{"data":[{"embedding":[${'0.25,'.repeat(100)}`)
  assert.deepEqual(read('embeddings', 'json', [bytes]).usageIfCut, { source: 'estimated', outputTokens: 0 })
  assert.equal(read('embeddings', 'json', [bytes]).outputTokensEstimate, 0)
  assert.deepEqual(read('compact', 'json', [Buffer.from('{"output":"12345')]).usageIfCut, {
    source: 'estimated',
    outputTokens: 4,
  })
})

test('what is not metered ends well whatever it is, and broken streams of responses are still seen', () => {
  for (const bytes of ['', 'PDF', '[1]', '{"a":1}', '{"a":']) {
    assert.deepEqual(
      read('none', 'json', [Buffer.from(bytes)]).end?.usage.source ?? 'none',
      bytes === '{"a":1}' ? 'unknown' : 'none',
    )
  }
  assert.equal(
    read('none', 'stream', [Buffer.from('data: {"type":"response.created","response":{}}\n\n')]).end,
    undefined,
  )
})

test('a usage that is none is unknown, never a crash', () => {
  for (const usage of [undefined, null, 5, 'x', [], true]) {
    for (const meter of ['compact', 'embeddings', 'images', 'audio', 'chat'] as const) {
      assert.deepEqual(read(meter, 'json', [json({ usage })]).end?.usage, { source: 'unknown' }, `${meter} ${usage}`)
    }
  }
})
