import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NO_USAGE, readUsage } from './usage.ts'

test('a Responses usage is read with its cache reads, both kinds of writes and reasoning', () => {
  const usage = readUsage({
    input_tokens: 1000,
    input_tokens_details: {
      cached_tokens: 200,
      cache_write_tokens: 400,
      cache_write_tokens_details: { ttl_30m_tokens: 300, ttl_12h_tokens: 100 },
    },
    output_tokens: 50,
    output_tokens_details: { reasoning_tokens: 40 },
    total_tokens: 1050,
  })

  assert.deepEqual(usage, {
    ...NO_USAGE,
    inputTokens: 1000,
    cachedTokens: 200,
    cacheWrite30mTokens: 300,
    cacheWrite12hTokens: 100,
    outputTokens: 50,
    reasoningTokens: 40,
    totalTokens: 1050,
  })
})

test('a chat usage is read by its own names', () => {
  const usage = readUsage({
    prompt_tokens: 100,
    completion_tokens: 30,
    total_tokens: 130,
    prompt_tokens_details: { cached_tokens: 20, audio_tokens: 60, text_tokens: 40 },
    completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 25, accepted_prediction_tokens: 0 },
  })

  assert.deepEqual(usage, {
    ...NO_USAGE,
    inputTokens: 100,
    cachedTokens: 20,
    outputTokens: 30,
    totalTokens: 130,
    inputAudioTokens: 60,
    outputAudioTokens: 25,
  })
})

test('speech is read by the length of its text', () => {
  assert.deepEqual(readUsage({ type: 'characters', characters: 12 }), { ...NO_USAGE, characters: 12 })
  for (const bad of [-1, 0.5, '5', Number.NaN])
    assert.equal(readUsage({ type: 'characters', characters: bad }), undefined)
})

test('the largest of several requests is kept, and can not be larger than all of them', () => {
  const read = (largest: unknown) => readUsage({ input_tokens: 10, output_tokens: 1, largest_input_tokens: largest })

  assert.equal(read(10)?.largestInputTokens, 10)
  assert.equal(read(undefined)?.largestInputTokens, undefined)
  for (const bad of [11, -1, 0.5, '5', Number.NaN]) assert.equal(read(bad), undefined)
})

test('an embedding has no output because its total says so', () => {
  assert.deepEqual(readUsage({ prompt_tokens: 8, total_tokens: 8 }), { ...NO_USAGE, inputTokens: 8, totalTokens: 8 })
  assert.equal(readUsage({ prompt_tokens: 8, total_tokens: 9 }), undefined)
  assert.equal(readUsage({ prompt_tokens: 8 }), undefined)
})

test('an image usage is split into text and images, and its cached tokens may stand outside the details', () => {
  const usage = readUsage({
    input_tokens: 250,
    input_tokens_details: { text_tokens: 50, image_tokens: 200 },
    output_tokens: 1000,
    output_tokens_details: { image_tokens: 990, text_tokens: 10 },
    total_tokens: 1250,
    cached_tokens: 70,
    cached_tokens_details: { image_tokens: 60, text_tokens: 10 },
  })

  assert.deepEqual(usage, {
    ...NO_USAGE,
    inputTokens: 250,
    cachedTokens: 70,
    outputTokens: 1000,
    totalTokens: 1250,
    inputImageTokens: 200,
    cachedImageTokens: 60,
    outputImageTokens: 990,
  })
})

test('a transcription is read by tokens or by time, whichever it has', () => {
  const byTokens = readUsage({
    type: 'tokens',
    input_tokens: 14,
    input_token_details: { text_tokens: 4, audio_tokens: 10 },
    output_tokens: 45,
    total_tokens: 59,
  })
  const byTime = readUsage({ type: 'duration', seconds: 9.2 })

  assert.deepEqual(byTokens, { ...NO_USAGE, inputTokens: 14, outputTokens: 45, totalTokens: 59, inputAudioTokens: 10 })
  assert.deepEqual(byTime, { ...NO_USAGE, seconds: 10 })
  assert.equal(readUsage({ type: 'duration' }), undefined)
})

test('a realtime usage is read with what kind of tokens were cached', () => {
  const usage = readUsage({
    input_tokens: 1000,
    input_token_details: {
      text_tokens: 500,
      audio_tokens: 400,
      image_tokens: 100,
      cached_tokens: 300,
      cached_tokens_details: { text_tokens: 150, audio_tokens: 100, image_tokens: 50 },
    },
    output_tokens: 200,
    output_token_details: { text_tokens: 50, audio_tokens: 150 },
    total_tokens: 1200,
  })

  assert.equal(usage?.cachedAudioTokens, 100)
  assert.equal(usage?.cachedImageTokens, 50)
  assert.equal(usage?.outputAudioTokens, 150)
})

test('cached tokens without a breakdown are text first, then audio, then images', () => {
  const read = (cached: number) =>
    readUsage({
      input_tokens: 100,
      input_tokens_details: { audio_tokens: 30, image_tokens: 20, cached_tokens: cached },
      output_tokens: 0,
    })

  assert.deepEqual([read(50)?.cachedAudioTokens, read(50)?.cachedImageTokens], [0, 0])
  assert.deepEqual([read(70)?.cachedAudioTokens, read(70)?.cachedImageTokens], [20, 0])
  assert.deepEqual([read(100)?.cachedAudioTokens, read(100)?.cachedImageTokens], [30, 20])
})

test('cache writes without a time to live are 30-minute writes', () => {
  const read = (details: object) =>
    readUsage({ input_tokens: 100, input_tokens_details: details, output_tokens: 0, total_tokens: 100 })

  const writes = [
    read({ cache_write_tokens: 40 }),
    read({ cache_write_tokens: 40, cache_write_tokens_details: { ttl_12h_tokens: 10 } }),
    read({ cache_write_tokens: 40, cache_write_tokens_details: { ttl_30m_tokens: 20, ttl_12h_tokens: 10 } }),
    read({ cache_write_tokens_details: { ttl_30m_tokens: 20, ttl_12h_tokens: 10 } }),
  ].map((usage) => [usage?.cacheWrite30mTokens, usage?.cacheWrite12hTokens])

  assert.deepEqual(writes, [
    [40, 0],
    [30, 10],
    [30, 10],
    [20, 10],
  ])
})

test('null details and null counts are none', () => {
  const usage = readUsage({
    input_tokens: 5,
    input_tokens_details: null,
    output_tokens: 1,
    output_tokens_details: { reasoning_tokens: null },
    total_tokens: null,
  })

  assert.deepEqual(usage, { ...NO_USAGE, inputTokens: 5, outputTokens: 1, totalTokens: 6 })
})

test('the total is input and output, whatever the object claims', () => {
  assert.equal(readUsage({ input_tokens: 5, output_tokens: 1, total_tokens: 1e300 })?.totalTokens, 6)
})

test('reasoning beyond the output is cut to it, because it costs nothing of its own', () => {
  const usage = readUsage({ input_tokens: 5, output_tokens: 10, output_tokens_details: { reasoning_tokens: 11 } })

  assert.equal(usage?.reasoningTokens, 10)
})

test('minus zero is zero', () => {
  const usage = readUsage(JSON.parse('{"input_tokens": -0, "output_tokens": -0}'))

  assert.ok(Object.is(usage?.inputTokens, 0) && Object.is(usage?.outputTokens, 0))
})

test('what is no usage object is an unknown usage', () => {
  for (const raw of [undefined, null, 0, 12, Number.NaN, '', '{}', true, [], [1], {}, () => 1, Symbol('x'), 3n]) {
    assert.equal(readUsage(raw), undefined)
  }
})

const NOT_COUNTS = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 1e12 + 1, 1e300, '5', '', true, [], {}, 5n]

test('a count that is none makes the whole usage unknown, wherever it stands', () => {
  for (const bad of NOT_COUNTS) {
    const good = { input_tokens: 100, output_tokens: 100 }
    const raws = [
      { ...good, input_tokens: bad },
      { ...good, output_tokens: bad },
      { ...good, input_tokens_details: { cached_tokens: bad } },
      { ...good, input_tokens_details: { cache_write_tokens: bad } },
      { ...good, input_tokens_details: { cache_write_tokens_details: { ttl_30m_tokens: bad } } },
      { ...good, input_tokens_details: { cache_write_tokens_details: { ttl_12h_tokens: bad } } },
      { ...good, input_tokens_details: { audio_tokens: bad } },
      { ...good, input_tokens_details: { image_tokens: bad } },
      { ...good, input_tokens_details: { cached_tokens_details: { audio_tokens: bad } } },
      { ...good, input_tokens_details: { cached_tokens_details: { image_tokens: bad } } },
      { ...good, output_tokens_details: { reasoning_tokens: bad } },
      { ...good, output_tokens_details: { audio_tokens: bad } },
      { ...good, output_tokens_details: { image_tokens: bad } },
      { ...good, seconds: typeof bad === 'number' && bad === 0.5 ? -0.5 : bad },
    ]
    for (const raw of raws) assert.equal(readUsage(raw), undefined, `${String(bad)} in ${Object.keys(raw)}`)
  }
})

test('details that are no object make the usage unknown', () => {
  for (const details of [5, 'x', [], true]) {
    assert.equal(readUsage({ input_tokens: 1, output_tokens: 1, input_tokens_details: details }), undefined)
    assert.equal(readUsage({ input_tokens: 1, output_tokens: 1, output_tokens_details: details }), undefined)
    assert.equal(
      readUsage({ input_tokens: 1, output_tokens: 1, input_tokens_details: { cache_write_tokens_details: details } }),
      undefined,
    )
  }
})

test('a part larger than its whole makes the usage unknown', () => {
  const contradictions = [
    { input_tokens_details: { cached_tokens: 101 } },
    { input_tokens_details: { cache_write_tokens: 101 } },
    { input_tokens_details: { cached_tokens: 60, cache_write_tokens: 41 } },
    { input_tokens_details: { cache_write_tokens: 5, cache_write_tokens_details: { ttl_12h_tokens: 6 } } },
    { input_tokens_details: { cache_write_tokens: 5, cache_write_tokens_details: { ttl_30m_tokens: 6 } } },
    { input_tokens_details: { audio_tokens: 101 } },
    { input_tokens_details: { audio_tokens: 60, image_tokens: 41 } },
    { input_tokens_details: { cached_tokens: 10, audio_tokens: 5, cached_tokens_details: { audio_tokens: 6 } } },
    { input_tokens_details: { cached_tokens: 10, audio_tokens: 50, cached_tokens_details: { audio_tokens: 11 } } },
    { input_tokens_details: { cached_tokens: 60, audio_tokens: 50, cached_tokens_details: { audio_tokens: 0 } } },
    { output_tokens_details: { audio_tokens: 101 } },
    { output_tokens_details: { audio_tokens: 60, image_tokens: 41 } },
  ]

  for (const details of contradictions) {
    assert.equal(readUsage({ input_tokens: 100, output_tokens: 100, ...details }), undefined, JSON.stringify(details))
  }
})
