import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AnswerEnd } from '../answer-watcher.ts'
import { cuts, read } from './reading.ts'

const IMAGES = {
  input_tokens: 50,
  input_tokens_details: { text_tokens: 10, image_tokens: 40 },
  output_tokens: 1056,
  total_tokens: 1106,
}
const SPEECH = { input_tokens: 14, output_tokens: 101, total_tokens: 115 }
const TRANSCRIPT = {
  type: 'tokens',
  input_tokens: 14,
  input_token_details: { text_tokens: 0, audio_tokens: 14 },
  output_tokens: 45,
  total_tokens: 59,
}
const UNKNOWN = { source: 'unknown' } as const

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

function event(data: { type: string } & Record<string, unknown>): string {
  return `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
}

function completed(usage: AnswerEnd['usage']): AnswerEnd {
  return { ending: 'completed', errorCode: null, modelUsed: null, serviceTier: null, usage }
}

test('images give their usage wherever they are cut, and without one are unknown', () => {
  const answer = { created: 1, data: [{ b64_json: 'iVBOR"usage":1'.repeat(3) }], usage: IMAGES }
  for (const pieces of cuts(json(answer))) {
    assert.deepEqual(read('images', 'json', pieces).end, completed({ source: 'reported', raw: IMAGES }))
  }
  assert.deepEqual(read('images', 'json', [json({ data: [] })]).end, completed(UNKNOWN))
})

test('SVG that was written is a part of its own, with its own model', () => {
  const svg = { model: 'gpt-w', input_tokens: 3, output_tokens: 5, reasoning_tokens: 2, total_tokens: 8 }
  const { end } = read('images', 'json', [json({ data: [], usage: IMAGES, svg_usage: svg })])
  assert.deepEqual(end?.usage, {
    source: 'reported',
    raw: IMAGES,
    parts: [{ usage: IMAGES }, { model: 'gpt-w', usage: svg }],
  })
})

test('a stream of images ends with the whole image; a partial one is no end and no tokens', () => {
  for (const kind of ['image_generation', 'image_edit']) {
    const partial = event({
      type: `${kind}.partial_image`,
      b64_json: 'abc',
      usage: { input_tokens: 1, output_tokens: 1 },
    })
    const whole = event({ type: `${kind}.completed`, b64_json: 'abcdef', usage: IMAGES })
    for (const pieces of cuts(Buffer.from(partial + whole))) {
      assert.deepEqual(read('images', 'stream', pieces).end, completed({ source: 'reported', raw: IMAGES }))
    }
    const cut = read('images', 'stream', [Buffer.from(partial)])
    assert.deepEqual([cut.end, cut.usageIfCut, cut.outputTokensEstimate], [undefined, UNKNOWN, 0])
  }
})

test('a stream of images that fails says why', () => {
  for (const [data, code] of [
    [{ type: 'error', error: { code: 'moderation_blocked' } }, 'moderation_blocked'],
    [{ type: 'error', code: 'server_error' }, 'server_error'],
    [{ type: 'error' }, 'stream_error'],
    [{ type: '', error: { type: 'server_error' } }, 'server_error'],
  ] as const) {
    const { end } = read('images', 'stream', [Buffer.from(event(data))])
    assert.deepEqual([end?.ending, end?.errorCode, end?.usage], ['failed', code, UNKNOWN])
  }
})

test('a transcription gives its usage by tokens or by time, in one piece or streamed', () => {
  for (const usage of [TRANSCRIPT, { type: 'duration', seconds: 9.2 }]) {
    for (const pieces of cuts(json({ text: 'a "usage": b', usage }))) {
      assert.deepEqual(read('audio', 'json', pieces).end, completed({ source: 'reported', raw: usage }))
    }
    const stream =
      event({ type: 'transcript.text.delta', delta: 'a' }) + event({ type: 'transcript.text.done', text: 'a', usage })
    for (const pieces of cuts(Buffer.from(stream))) {
      assert.deepEqual(read('audio', 'stream', pieces).end, completed({ source: 'reported', raw: usage }))
    }
  }
})

test('a verbose answer without a usage is known by its duration', () => {
  for (const [duration, usage] of [
    [8.47, { source: 'reported', raw: { type: 'duration', seconds: 8.47 } }],
    ['8.470000267028809', { source: 'reported', raw: { type: 'duration', seconds: 8.470000267028809 } }],
    ['english', UNKNOWN],
    ['', UNKNOWN],
    [null, UNKNOWN],
    [undefined, UNKNOWN],
  ] as const) {
    assert.deepEqual(read('audio', 'json', [json({ text: 'a', duration })]).end?.usage, usage)
  }
})

test('sound and bare text say nothing of their usage, and still end', () => {
  for (const bytes of [
    Buffer.from([0xff, 0xfb, 0x90, 0x00, 0x0a, 0x0a]),
    Buffer.from('1\n00:00 --> 00:01\nhello\n'),
    Buffer.alloc(0),
  ]) {
    for (const pieces of cuts(bytes)) assert.deepEqual(read('audio', 'json', pieces).end, completed(UNKNOWN))
  }
})

test('streamed speech ends with its usage', () => {
  const text =
    event({ type: 'speech.audio.delta', audio: 'AAAA' }) + event({ type: 'speech.audio.done', usage: SPEECH })
  for (const pieces of cuts(Buffer.from(text))) {
    assert.deepEqual(read('audio', 'stream', pieces).end, completed({ source: 'reported', raw: SPEECH }))
  }
  assert.equal(
    read('audio', 'stream', [Buffer.from(event({ type: 'speech.audio.delta', audio: 'AAAA' }))]).end,
    undefined,
  )
})

test('images that a response made on the side are a part of their own, with the model of the tool', () => {
  const usage = { input_tokens: 5, output_tokens: 2 }
  const made = { input_tokens: 20, output_tokens: 1000, total_tokens: 1020 }
  const response = (tools: unknown, image_gen: unknown) =>
    json({ id: 'resp_1', status: 'completed', model: 'gpt-x', usage, tool_usage: { image_gen }, tools })
  const parts = (tools: unknown, image_gen: unknown) => {
    const found = read('responses', 'json', [response(tools, image_gen)]).end?.usage
    return found?.source === 'reported' ? found.parts : 'not reported'
  }
  const tool = { type: 'image_generation', model: 'gpt-image-2' }
  assert.deepEqual(parts([{ type: 'function' }, tool], made), [
    { usage },
    { model: 'gpt-image-2', serviceTier: null, usage: made },
  ])
  for (const tools of [undefined, [], [{ type: 'image_generation' }], [tool, { ...tool, model: 'gpt-image-1.5' }]]) {
    assert.deepEqual(parts(tools, made), [{ usage }, { model: null, serviceTier: null, usage: made }])
  }
  for (const none of [undefined, null, { input_tokens: 0, output_tokens: 0 }])
    assert.equal(parts([tool], none), undefined)
})
