import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EventFilter } from './event-filter.ts'
import { askForUsage, hideUsage } from './hidden-usage.ts'
import { cuts, slices } from './watchers/reading.ts'

/** A stream that was asked for its usage, and the same stream as it is without being asked. */
const FRAME = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x"'
function stream({ isAsked, newline }: { isAsked: boolean; newline: string }): Buffer {
  const usage = isAsked ? ',"usage":null' : ''
  const first = isAsked ? '"usage":null,' : ''
  return Buffer.from(
    [
      ': keepalive',
      '',
      `data: {${FRAME},"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]${usage},"obfuscation":"x1"}`,
      '',
      `data: {${first}${FRAME},"choices":[{"index":0,"delta":{"content":"é🎈 \\"usage\\":null "}}]}`,
      '',
      `data: { ${FRAME} , "choices" : [{"delta":{"usage":null}}] ${isAsked ? ', "usage" : null' : ''}}`.replace(
        ' }',
        '}',
      ),
      '',
      `data:{${FRAME},"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]${usage}}`,
      '',
      ...(isAsked ? [`data: {${FRAME},"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, ''] : []),
      'data: [DONE]',
      '',
      '',
    ].join(newline),
  )
}

for (const [name, newline] of [
  ['LF', '\n'],
  ['CRLF', '\r\n'],
  ['CR', '\r'],
] as const) {
  test(`a client that did not ask sees the bytes of a stream that was not asked, wherever it is cut: ${name}`, () => {
    const asked = stream({ isAsked: true, newline })
    const unasked = stream({ isAsked: false, newline }).toString()
    for (const pieces of cuts(asked)) assert.equal(filtered(pieces), unasked)
  })
}

test('at every pair of cuts the usage is hidden and nothing else', () => {
  for (const newline of ['\n', '\r\n', '\r']) {
    const lines = [
      'data: {"choices":[1],"usage":null}',
      '',
      'data: {"choices":[],"usage":{"a":1}}',
      '',
      'data: [DONE]',
      '',
      '',
    ]
    const expected = ['data: {"choices":[1]}', '', 'data: [DONE]', '', ''].join(newline)
    for (const pieces of cuts(Buffer.from(lines.join(newline)))) assert.equal(filtered(pieces), expected)
  }
})

test('each event goes on as soon as it is whole, and a piece of one not before', () => {
  const filter = hideUsage()
  assert.equal(filter.push(Buffer.from('data: {"a"'))?.toString(), undefined)
  assert.equal(filter.push(Buffer.from(':1}\n'))?.toString(), undefined)
  assert.equal(filter.push(Buffer.from('\ndata: {'))?.toString(), 'data: {"a":1}\n\n')
  assert.equal(filter.push(Buffer.from(''))?.toString(), undefined)
  assert.equal(filter.push(Buffer.from('"choices":[],"usage":{}}\n\n'))?.toString(), undefined)
  assert.equal(filter.push(Buffer.from('data: [DONE]\n\n'))?.toString(), 'data: [DONE]\n\n')
  assert.equal(filter.finish()?.toString(), undefined)
})

test('what has no usage to hide goes on byte for byte', () => {
  for (const text of [
    'data: {"usage":\n\n',
    'data: not JSON "usage"\n\n',
    'data: {"choices":[],\ndata: "usage":{}}\n\n',
    'data: {"choices":[{"usage":{"a":1}}]}\n\n',
    'data: {"choices":[{"delta":{"content":"\\"usage\\":null"}}]}\n\n',
    ': "usage"\n\n',
    'event: error\ndata: {"error":{"message":"the \\"usage\\" of"}}\n\n',
    '\n\n\n',
    '\r\n\r\n\n\r\r',
    'data: [DONE]',
    'data: {"choices":[],"usa',
    '\u0000"usage"\u0000',
  ]) {
    for (const pieces of cuts(Buffer.from(text))) assert.equal(filtered(pieces), text)
  }
})

test('a chunk without choices stays when it has no usage, and the last bytes come even without a blank line', () => {
  const filters = '{"choices":[],"prompt_filter_results":[]'
  assert.equal(filtered([Buffer.from(`data: ${filters},"usage":null}\n\n`)]), `data: ${filters}}\n\n`)
  assert.equal(filtered([Buffer.from('data: {"choices":[],"usage":{"a":1}}')]), '')
  assert.equal(filtered([Buffer.from('data: {"choices":[1],"usage":{"a":1}}')]), 'data: {"choices":[1]}')
})

test('an event too large to be held goes on as it comes, and the next one is edited again', () => {
  const filter = new EventFilter(() => undefined, 100)
  const large = `data: ${'x'.repeat(500)}\n\n`
  const text = `data: small\n\n${large}data: small\n\n`
  for (const size of [1, 7, 50]) {
    const out = slices(Buffer.from(text), size).map((piece) => filter.push(piece) ?? Buffer.alloc(0))
    assert.equal(Buffer.concat(out).toString(), large)
  }
})

test('the usage is asked for beside what the client asked for, and not where it asked itself', () => {
  const ask = (sent: string | undefined) => askForUsage(sent === undefined ? undefined : Buffer.from(sent))
  assert.equal(ask(undefined), '{"include_usage":true}')
  assert.equal(ask('null'), '{"include_usage":true}')
  assert.equal(ask('{}'), '{"include_usage":true}')
  assert.equal(ask('{"include_usage":false}'), '{"include_usage":true}')
  assert.equal(ask('{ "include_usage" : null }'), '{ "include_usage" : true }')
  assert.equal(
    ask('{"include_obfuscation":false,"n":1.0}'),
    '{"include_obfuscation":false,"n":1.0,"include_usage":true}',
  )
  assert.equal(ask('{"\\u0069nclude_usage":false}'), '{"\\u0069nclude_usage":true}')
  for (const sent of [
    '{"include_usage":true}',
    '{"include_usage":1}',
    '{"include_usage":"yes"}',
    '{"include_usage":false,"include_usage":false}',
    '[]',
    '5',
    '"x"',
  ]) {
    assert.equal(ask(sent), undefined, sent)
  }
})

function filtered(pieces: readonly Buffer[]): string {
  const filter = hideUsage()
  const out = pieces.map((piece) => filter.push(piece))
  return Buffer.concat([...out, filter.finish()].map((piece) => piece ?? Buffer.alloc(0))).toString()
}
