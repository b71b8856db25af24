import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AnswerEnd, type AnswerWatcher, watchAnswer } from '../answer-watcher.ts'

const USAGE = { input_tokens: 11, output_tokens: 7, total_tokens: 18, output_tokens_details: { reasoning_tokens: 3 } }
const RESPONSE = {
  id: 'resp_1é',
  object: 'response',
  status: 'in_progress',
  model: 'gpt-x',
  service_tier: 'auto',
  output: [],
  usage: null,
  error: null,
  incomplete_details: null,
}
const COMPLETED = {
  ...RESPONSE,
  status: 'completed',
  service_tier: 'default',
  output: [{ type: 'message', content: [{ text: '"usage":{"input_tokens":1}, "id": "resp_forged" 🎈' }] }],
  usage: USAGE,
  tool_usage: { web_search: { num_requests: 2 } },
}
const COMPLETED_END: AnswerEnd = {
  ending: 'completed',
  errorCode: null,
  modelUsed: 'gpt-x',
  serviceTier: 'default',
  usage: { source: 'reported', raw: USAGE, toolCalls: { webSearchCalls: 2, fileSearchCalls: 0 } },
}

interface StreamStyle {
  newline?: string
  hasEventLines?: boolean
  space?: string
  isDataFirst?: boolean
}

for (const [name, style] of Object.entries<StreamStyle>({
  LF: {},
  CRLF: { newline: '\r\n' },
  CR: { newline: '\r' },
  'data lines alone': { hasEventLines: false },
  'no space behind the colon': { space: '' },
  'data before event': { isDataFirst: true },
})) {
  test(`a recorded stream says the same wherever it is cut: ${name}`, () => {
    const bytes = Buffer.from(golden(style))
    const whole = read('stream', [bytes])
    assert.deepEqual(whole, { responseId: 'resp_1é', end: COMPLETED_END, eventCount: 5, isBetweenEvents: true })
    for (let at = 0; at <= bytes.length; at += 1) {
      const cut = read('stream', [bytes.subarray(0, at), bytes.subarray(at)])
      assert.deepEqual(cut, whole, `cut at ${at}`)
    }
    for (const size of [1, 2, 3, 5, 16, 100]) {
      assert.deepEqual(read('stream', slices(bytes, size)), whole, `in pieces of ${size}`)
    }
  })
}

test('the response id is known as soon as the first event has come, the end not before the last', () => {
  const bytes = Buffer.from(golden({}))
  const firstEnd = bytes.indexOf('\n\n', bytes.indexOf('data:')) + 2
  const lastStart = bytes.lastIndexOf('event: response.completed')
  const watcher = watchAnswer('responses', 'stream')
  watcher.push(bytes.subarray(0, firstEnd))
  assert.equal(watcher.responseId, 'resp_1é')
  assert.deepEqual([watcher.modelUsed, watcher.serviceTier], ['gpt-x', 'auto'])
  watcher.push(bytes.subarray(firstEnd, lastStart))
  assert.equal(watcher.end, undefined)
  watcher.push(bytes.subarray(lastStart))
  assert.deepEqual(watcher.end, COMPLETED_END)
})

test('a stream without its last blank line, or its last line ending, is accounted for when its bytes are over', () => {
  for (const newline of ['\n', '\r\n', '\r']) {
    const text = golden({ newline })
    for (const missing of [newline, newline + newline]) {
      const watcher = watchAnswer('responses', 'stream')
      watcher.push(Buffer.from(text.slice(0, -missing.length)))
      watcher.finish()
      assert.deepEqual(watcher.end, COMPLETED_END, JSON.stringify(missing))
    }
  }
  const cutOff = watchAnswer('responses', 'stream')
  cutOff.push(Buffer.from(golden({}).slice(0, -4)))
  cutOff.finish()
  assert.equal(cutOff.end, undefined, 'an event that is not whole is not the end')
})

test('a stream ends as its terminal event says', () => {
  const incomplete = { ...COMPLETED, status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } }
  const failed = { ...RESPONSE, status: 'failed', error: { code: 'server_error', message: 'x' } }
  const reported = COMPLETED_END.usage
  const cases: [string, object, Partial<AnswerEnd>][] = [
    ['response.completed', COMPLETED, { ending: 'completed', errorCode: null, usage: reported }],
    ['response.incomplete', incomplete, { ending: 'incomplete', errorCode: 'max_output_tokens', usage: reported }],
    ['response.failed', failed, { ending: 'failed', errorCode: 'server_error', usage: { source: 'unknown' } }],
  ]
  for (const [type, response, expected] of cases) {
    const { end } = read('stream', [Buffer.from(event({ type, response }))])
    assert.deepEqual({ ending: end?.ending, errorCode: end?.errorCode, usage: end?.usage }, expected, type)
  }
})

test('an error event ends a stream as failed, with its code, and with what was known of the model and the output', () => {
  const created =
    event({ type: 'response.created', response: RESPONSE }) + event({ type: 'response.output_text.delta', delta: 'x' })
  for (const [error, code] of [
    [{ type: 'error', code: 'rate_limit_exceeded', message: 'x' }, 'rate_limit_exceeded'],
    [{ type: 'error', code: null, message: 'x' }, 'stream_error'],
    [{ type: 'error', message: 'x' }, 'stream_error'],
  ] as const) {
    const { end } = read('stream', [Buffer.from(created + event(error))])
    assert.deepEqual(end, {
      ending: 'failed',
      errorCode: code,
      modelUsed: 'gpt-x',
      serviceTier: 'auto',
      usage: { source: 'estimated', outputTokens: 1 },
    })
  }
})

test('the first ending counts: nothing behind it changes what is accounted', () => {
  const later = { ...COMPLETED, id: 'resp_other', usage: { ...USAGE, output_tokens: 1 } }
  const text = golden({}) + event({ type: 'response.completed', response: later }) + event({ type: 'error', code: 'x' })
  const { responseId, end } = read('stream', [Buffer.from(text)])
  assert.deepEqual([responseId, end], ['resp_1é', COMPLETED_END])
})

test('events that are no lifecycle of the response say nothing about it, whatever they carry', () => {
  const { responseId, end } = read('stream', [
    Buffer.from(
      event({ type: 'response.output_item.done', response: COMPLETED }) +
        event({ type: 'keepalive', response: COMPLETED }) +
        'data: [DONE]\n\n' +
        event({ type: 'response.completed.delta', response: COMPLETED }) +
        'event: response.completed\ndata: not JSON\n\n: response.completed\n\n',
    ),
  ])
  assert.equal(responseId, null)
  assert.equal(end?.usage.source ?? 'unknown', 'unknown')
})

test('a JSON answer says the same wherever it is cut', () => {
  const bytes = Buffer.from(JSON.stringify(COMPLETED, null, 1))
  const whole = read('json', [bytes])
  assert.deepEqual([whole.responseId, whole.end], ['resp_1é', COMPLETED_END])
  for (let at = 0; at <= bytes.length; at += 1) {
    assert.deepEqual(read('json', [bytes.subarray(0, at), bytes.subarray(at)]), whole, `cut at ${at}`)
  }
  assert.deepEqual(read('json', slices(bytes, 1)), whole)
})

test('a JSON answer ends as its status says', () => {
  const cases: [object, AnswerEnd['ending'], string | null, AnswerEnd['usage']['source']][] = [
    [COMPLETED, 'completed', null, 'reported'],
    [{ ...COMPLETED, status: 'cancelled' }, 'cancelled', null, 'reported'],
    [
      { ...COMPLETED, status: 'incomplete', incomplete_details: { reason: 'content_filter' } },
      'incomplete',
      'content_filter',
      'reported',
    ],
    [{ ...RESPONSE, status: 'failed', error: { code: 'server_error' } }, 'failed', 'server_error', 'unknown'],
    [{ ...RESPONSE, status: 'failed', error: null }, 'failed', null, 'unknown'],
    [
      { error: { message: 'x', type: 'invalid_request_error', code: null } },
      'failed',
      'invalid_request_error',
      'unknown',
    ],
    [
      { error: { message: 'x', type: 'requests', code: 'rate_limit_exceeded' } },
      'failed',
      'rate_limit_exceeded',
      'unknown',
    ],
  ]
  for (const [answer, ending, errorCode, source] of cases) {
    const { end } = read('json', [Buffer.from(JSON.stringify(answer))])
    assert.deepEqual(
      [end?.ending, end?.errorCode, end?.usage.source],
      [ending, errorCode, source],
      JSON.stringify(answer),
    )
  }
})

test('an answer that only says that it runs in the background has an id, and has not ended', () => {
  for (const status of ['queued', 'in_progress']) {
    const { responseId, end } = read('json', [Buffer.from(JSON.stringify({ ...RESPONSE, status, background: true }))])
    assert.deepEqual([responseId, end?.ending, end?.usage.source], ['resp_1é', 'pending', 'unknown'])
  }
})

test('tool calls are counted as they go by, but for searches that OpenAI counts itself', () => {
  const { tool_usage, ...uncounted } = COMPLETED
  const output = [
    { type: 'web_search_call' },
    { type: 'file_search_call' },
    { type: 'file_search_call' },
    { type: 'message', text: 'a "web_search_call" that is only talked about' },
  ]
  const events = [
    { type: 'response.web_search_call.searching' },
    { type: 'response.web_search_call.completed' },
    { type: 'response.file_search_call.completed' },
    { type: 'response.file_search_call.completed' },
  ]
  for (const [response, webSearchCalls] of [
    [{ ...uncounted, output }, 1],
    [{ ...uncounted, output, tool_usage }, 2],
    [{ ...uncounted, output, tool_usage: { web_search: { num_requests: 0 } } }, 0],
  ] as const) {
    const expected = { source: 'reported', raw: USAGE, toolCalls: { webSearchCalls, fileSearchCalls: 2 } }
    const json = Buffer.from(JSON.stringify(response))
    const stream = Buffer.from([...events, { type: 'response.completed', response }].map(event).join(''))
    for (const size of [1, 2, 3, 7, 10_000]) {
      assert.deepEqual(read('json', slices(json, size)).end?.usage, expected, `JSON in pieces of ${size}`)
      assert.deepEqual(read('stream', slices(stream, size)).end?.usage, expected, `a stream in pieces of ${size}`)
    }
  }
})

test('an answer that is not whole, or not JSON, has no end', () => {
  const whole = JSON.stringify(COMPLETED)
  for (const text of ['', whole.slice(0, -1), '<html>', '[]', `[${whole}]`, `${whole.slice(0, -1)},}`]) {
    assert.equal(read('json', [Buffer.from(text)]).end, undefined, text.slice(0, 20))
  }
})

test('odd values in an answer are unknown, never a crash or a guess', () => {
  const odd = {
    id: 5,
    status: 7,
    model: null,
    service_tier: [],
    usage: 'much',
    error: 'x',
    tool_usage: { web_search: 3 },
  }
  const { responseId, end } = read('json', [Buffer.from(JSON.stringify(odd))])
  assert.equal(responseId, null)
  assert.deepEqual(end, {
    ending: 'completed',
    errorCode: null,
    modelUsed: null,
    serviceTier: null,
    usage: { source: 'unknown' },
  })
  for (const calls of [-1, 1.5, '2', null, 1e300]) {
    const answer = { ...COMPLETED, tool_usage: { web_search: { num_requests: calls } } }
    const { usage } = read('json', [Buffer.from(JSON.stringify(answer))]).end ?? {}
    assert.deepEqual(usage, { source: 'reported', raw: USAGE, toolCalls: { webSearchCalls: 0, fileSearchCalls: 0 } })
  }
})

test('usage behind a very large output is still found', () => {
  const { usage, ...rest } = COMPLETED
  const large = { ...rest, output: [{ text: 'x'.repeat(3_000_000) }], usage }
  const bytes = Buffer.from(event({ type: 'response.completed', response: large }))
  assert.deepEqual(read('stream', slices(bytes, 65_536)).end, COMPLETED_END)
})

function golden({ newline = '\n', hasEventLines = true, space = ' ', isDataFirst = false }: StreamStyle): string {
  const events = [
    { type: 'response.created', response: RESPONSE },
    { type: 'response.in_progress', response: RESPONSE },
    { type: 'response.output_text.delta', delta: 'é🎈 "usage"' },
    { type: 'response.output_text.done', text: 'é🎈' },
    { type: 'response.completed', response: COMPLETED },
  ]
  const texts = events.map((one) => {
    const lines = [`event:${space}${one.type}`, `data:${space}${JSON.stringify(one)}`]
    if (isDataFirst) lines.reverse()
    return [...lines.filter((line) => hasEventLines || line.startsWith('data')), '', ''].join(newline)
  })
  return [`: ping${newline}${newline}`, ...texts].join('')
}

function event(data: { type: string } & Record<string, unknown>): string {
  return `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
}

function read(form: 'stream' | 'json', chunks: Buffer[]) {
  const watcher: AnswerWatcher = watchAnswer('responses', form)
  for (const chunk of chunks) watcher.push(chunk)
  const { responseId, end, eventCount, isBetweenEvents } = watcher
  return { responseId, end, eventCount, isBetweenEvents }
}

function slices(bytes: Buffer, size: number): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
  return chunks
}
