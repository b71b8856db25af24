import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AnswerEnd, watchAnswer } from '../answer-watcher.ts'
import { cuts, read, slices } from './reading.ts'

const USAGE = {
  prompt_tokens: 9,
  completion_tokens: 3,
  total_tokens: 12,
  prompt_tokens_details: { cached_tokens: 4 },
  completion_tokens_details: { reasoning_tokens: 1, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
}
const FRAME = {
  id: 'chatcmpl-1é',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'gpt-x',
  service_tier: 'default',
}
const COMPLETED: AnswerEnd = {
  ending: 'completed',
  errorCode: null,
  modelUsed: 'gpt-x',
  serviceTier: 'default',
  usage: { source: 'reported', raw: USAGE },
}

function chunk(fields: object): string {
  return `data: ${JSON.stringify({ ...FRAME, usage: null, ...fields })}\n\n`
}

function choice(delta: object, finish_reason: string | null = null, index = 0): string {
  return chunk({ choices: [{ index, delta, logprobs: null, finish_reason }] })
}

const USAGE_CHUNK = chunk({ choices: [], usage: USAGE })
const DONE = 'data: [DONE]\n\n'
const GOLDEN = [
  choice({ role: 'assistant', content: '', refusal: null }),
  choice({ content: 'é🎈 "finish_reason":"length" [DONE]' }),
  choice({ content: '!' }),
  choice({}, 'stop'),
  USAGE_CHUNK,
  DONE,
].join('')

test('a chat stream says the same wherever it is cut, with any line ending', () => {
  for (const newline of ['\n', '\r\n', '\r']) {
    const bytes = Buffer.from(GOLDEN.replaceAll('\n', newline))
    for (const pieces of cuts(bytes)) {
      const { responseId, end, outputTokensEstimate } = read('chat', 'stream', pieces)
      assert.deepEqual([responseId, end, outputTokensEstimate], ['chatcmpl-1é', COMPLETED, 2])
    }
  }
})

test('a short chat stream says the same at every pair of cuts', () => {
  const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 }
  const text = `data: {"id":"c","model":"m","choices":[{"delta":{"content":"x"}}]}\n\ndata: {"choices":[],"usage":${JSON.stringify(usage)}}\n\n${DONE}`
  for (const pieces of cuts(Buffer.from(text))) {
    const { responseId, end } = read('chat', 'stream', pieces)
    assert.deepEqual([responseId, end?.ending, end?.usage], ['c', 'completed', { source: 'reported', raw: usage }])
  }
})

test('a chat stream has ended when `[DONE]` has come, and not before', () => {
  const watcher = watchAnswer('chat', 'stream')
  watcher.push(Buffer.from(GOLDEN.slice(0, -DONE.length)))
  assert.equal(watcher.end, undefined)
  watcher.push(Buffer.from(DONE))
  assert.deepEqual(watcher.end, COMPLETED)
  for (const last of ['data: [DONE]', 'data:[DONE]\n', 'data: [DONE]  \n\n']) {
    const { end } = read('chat', 'stream', [Buffer.from(GOLDEN.slice(0, -DONE.length) + last)])
    assert.deepEqual(end, COMPLETED, JSON.stringify(last))
  }
  for (const last of [
    '',
    'data: [DON',
    'data: DONE\n\n',
    ': [DONE]\n\n',
    'event: [DONE]\n\n',
    'data: "[DONE]"\n\n',
    'data: [DONE]x\n\n',
  ]) {
    const { end } = read('chat', 'stream', [Buffer.from(GOLDEN.slice(0, -DONE.length) + last)])
    assert.equal(end, undefined, JSON.stringify(last))
  }
})

test('a chat stream that is cut has the usage that it had reported, else an estimate of what it had said', () => {
  const before = GOLDEN.slice(0, GOLDEN.indexOf(USAGE_CHUNK))
  assert.deepEqual(read('chat', 'stream', [Buffer.from(before)]).usageIfCut, { source: 'estimated', outputTokens: 2 })
  assert.deepEqual(read('chat', 'stream', [Buffer.from(before + USAGE_CHUNK)]).usageIfCut, {
    source: 'reported',
    raw: USAGE,
  })
})

test('a chat stream without a usage is unknown, not free', () => {
  const { end } = read('chat', 'stream', [Buffer.from(choice({ content: 'x' }) + choice({}, 'stop') + DONE)])
  assert.deepEqual([end?.ending, end?.usage], ['completed', { source: 'unknown' }])
})

test('every piece of content counts for an estimate: of each choice, of tool calls, refusals and sound', () => {
  const text = [
    choice({ role: 'assistant', content: '' }),
    choice({ content: 'a' }, null, 0) + choice({ content: 'b' }, null, 1),
    choice({ tool_calls: [{ index: 0, function: { arguments: '{' } }] }),
    choice({ refusal: 'no' }),
    choice({ audio: { data: 'x'.repeat(100_000) } }),
    chunk({
      choices: [
        { index: 0, delta: { content: 'c' } },
        { index: 1, delta: { content: 'd' } },
      ],
    }),
    choice({}, 'stop'),
  ].join('')
  assert.equal(read('chat', 'stream', slices(Buffer.from(text), 1000)).outputTokensEstimate, 7)
  const older = `data: ${JSON.stringify({ id: 'cmpl-1', object: 'text_completion', choices: [{ text: 'a', index: 0 }] })}\n\n`
  assert.equal(read('completions', 'stream', [Buffer.from(older)]).outputTokensEstimate, 1)
})

test('cut short by a limit or a filter is incomplete, in a stream as in one piece, of one choice or of several', () => {
  for (const [reasons, ending, errorCode] of [
    [['stop'], 'completed', null],
    [['tool_calls'], 'completed', null],
    [['length'], 'incomplete', 'length'],
    [['stop', 'length'], 'incomplete', 'length'],
    [['content_filter', 'stop'], 'incomplete', 'content_filter'],
  ] as const) {
    const stream = reasons.map((reason, index) => choice({}, reason, index)).join('') + USAGE_CHUNK + DONE
    const message = { role: 'assistant', content: 'the "finish_reason": "length" of it' }
    const choices = reasons.map((finish_reason, index) => ({ index, message, finish_reason }))
    const whole = JSON.stringify({ ...FRAME, choices, usage: USAGE }, null, 2)
    assert.deepEqual(endOf(read('chat', 'stream', [Buffer.from(stream)]).end), [ending, errorCode])
    for (const pieces of cuts(Buffer.from(whole))) {
      const { end, responseId } = read('chat', 'json', pieces)
      assert.deepEqual([...endOf(end), end?.usage, responseId], [ending, errorCode, COMPLETED.usage, FRAME.id])
    }
  }
})

test('an error within a chat stream ends it as failed, with its code', () => {
  for (const [error, code] of [
    [{ message: 'x', type: 'server_error', code: null }, 'server_error'],
    [{ message: 'x', type: 'requests', code: 'rate_limit_exceeded' }, 'rate_limit_exceeded'],
    [{ message: 'x' }, 'failed'],
  ] as const) {
    for (const line of ['', 'event: error\n']) {
      const text = `${choice({ content: 'a' })}${line}data: ${JSON.stringify({ error })}\n\n${DONE}`
      const { end } = read('chat', 'stream', [Buffer.from(text)])
      assert.deepEqual([...endOf(end), end?.usage], ['failed', code, { source: 'estimated', outputTokens: 1 }])
    }
  }
})

test('an error in one piece is failed', () => {
  const { end } = read('chat', 'json', [
    Buffer.from('{"error":{"message":"x","type":"invalid_request_error","code":null}}'),
  ])
  assert.deepEqual([...endOf(end), end?.usage], ['failed', 'invalid_request_error', { source: 'unknown' }])
})

test('odd chunks are no crash and no guess', () => {
  const odd = [
    '5',
    '"x"',
    '[]',
    '{}',
    '{"choices":5}',
    '{"choices":[5,null]}',
    '{"usage":7,"id":{},"model":[]}',
    '{"a":',
    '\u0000',
  ]
  const text = odd.map((data) => `data: ${data}\n\n`).join('') + DONE
  for (const pieces of [[Buffer.from(text)], slices(Buffer.from(text), 1)]) {
    const { end, responseId, modelUsed } = read('chat', 'stream', pieces)
    assert.deepEqual([end?.ending, end?.usage, responseId, modelUsed], ['completed', { source: 'unknown' }, null, null])
  }
})

test('the last usage counts, and nothing behind the end', () => {
  const later = { ...USAGE, completion_tokens: 5 }
  const text = USAGE_CHUNK + chunk({ choices: [], usage: later }) + DONE + USAGE_CHUNK
  const { end } = read('chat', 'stream', [Buffer.from(text)])
  assert.deepEqual([end?.ending, end?.usage], ['completed', { source: 'reported', raw: later }])
})

function endOf(end: AnswerEnd | undefined) {
  return [end?.ending, end?.errorCode]
}
