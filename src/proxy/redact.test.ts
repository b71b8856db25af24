import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HIDDEN_MESSAGE, HiddenText } from './hidden-text.ts'
import { openRedactor } from './redact.ts'

const SECRET = 'You are SENTINEL-7f3a9c, the assistant of Acme. "Quote" this:\nnever \\ ever — é 😀.'
const ECHO = JSON.stringify(SECRET)
const RESPONSE = `{"id":"resp_1","object":"response","error":null,"instructions":${ECHO},"model":"m","output":[{"instructions":"an argument","text":"x"}],"tools":[{"parameters":{"properties":{"instructions":{"type":"string"}}}}],"usage":{"input_tokens":9223372036854775807,"x":1.0}}`
const hidden = new HiddenText([SECRET])
type Form = 'stream' | 'json' | 'error'

test('in a JSON answer the echo becomes null, and every other byte stays, wherever the answer is cut', () => {
  for (const [answer, shown] of [
    [RESPONSE, RESPONSE.replace(ECHO, 'null')],
    [RESPONSE.replace(ECHO, 'null'), RESPONSE.replace(ECHO, 'null')],
    [`{"instructions":[{"role":"developer","content":[{"text":${ECHO}}]}],"a":1}`, '{"instructions":null,"a":1}'],
    [`{ "instructions" : ${ECHO} , "a" : [ ${ECHO.length} ] }`, `{ "instructions" : null , "a" : [ ${ECHO.length} ] }`],
    [`{"in\\u0073truc\\u0074ions":${ECHO}}`, '{"in\\u0073truc\\u0074ions":null}'],
    [`{"a":{"instructions":"deep"},"instructions":${ECHO}}\n`, '{"a":{"instructions":"deep"},"instructions":null}\n'],
    [`{"response":{"instructions":${ECHO},"x":[]},"y":{}}`, '{"response":{"instructions":null,"x":[]},"y":{}}'],
    ['{"instructions":12.5e3,"a":true}', '{"instructions":null,"a":true}'],
    ['{}', '{}'],
  ] as const) {
    assertAtEveryCut('json', answer, shown)
  }
})

test('in a stream the echo becomes null in every event that has a response, wherever it is cut and whatever ends its lines', () => {
  const types = ['created', 'queued', 'in_progress', 'completed', 'incomplete', 'failed', 'of.tomorrow']
  for (const eol of ['\n', '\r\n', '\r']) {
    const event = (type: string, data: string) => `event: ${type}${eol}data: ${data}${eol}${eol}`
    const stream = (echo: string) =>
      [
        `: ping${eol}id: 1${eol}retry: 5${eol}`,
        ...types.map((type) =>
          event(`response.${type}`, `{"type":"response.${type}","response":${RESPONSE.replace(ECHO, echo)}}`),
        ),
        event('response.output_text.delta', '{"type":"response.output_text.delta","delta":"instructions: x"}'),
        `data:{"no":"event line","instructions":${echo}}${eol}${eol}`,
        `data: [DONE]${eol}${eol}`,
      ].join('')

    assertAtEveryCut('stream', stream(ECHO), stream('null'))
  }
})

test('an event whose data stands in several lines, or behind a byte order mark, is read as one', () => {
  const pretty = `\ufeffdata: {"response":{\ndata:  "instructions":\ndata: [ {"text":\ndata: ${ECHO} }\ndata:  ],"a":1}}\n\n`

  assertAtEveryCut('stream', pretty, '\ufeffdata: {"response":{\ndata:  "instructions":\ndata: null,"a":1}}\n\n', {
    isSpacingFree: true,
  })
})

test('an error that quotes the persona loses its text and keeps its code; others pass as they came', () => {
  const quoting = JSON.stringify(`Invalid value: '${SECRET.slice(0, 40)}...'`)
  const harmless = '"Rate limit reached for gpt-4o: 3 / min. The assistant is busy."'
  const masked = JSON.stringify(HIDDEN_MESSAGE)
  const error = (message: string) =>
    `{"error":{"message":${message},"type":"invalid_request_error","param":null,"code":"x"}}`
  const failed = (message: string) =>
    `data: {"type":"response.failed","response":{"error":{"code":"server_error","message":${message}},"instructions":null}}\n\n`
  const event = (message: string) =>
    `event: error\ndata: {"type":"error","code":"x","message":${message},"param":null}\n\n`

  for (const [form, text] of [
    ['error', error],
    ['stream', failed],
    ['stream', event],
  ] as const) {
    assertAtEveryCut(form, text(quoting), text(masked))
    assertAtEveryCut(form, text(harmless), text(harmless))
  }
})

test('an error in any other form passes when it is harmless, and not at all when it is not', () => {
  for (const body of ['', 'upstream busy', '<html>502</html>', '[{"error":"x"}]', '{"broken":', '{ "error" : null }']) {
    assertAtEveryCut('error', body, body)
  }
  const quoting = [
    `<html>${SECRET}</html>`,
    `{"broken":${ECHO}`,
    `{"instructions":${ECHO}`,
    `${' '.repeat(65 * 1024)}x`,
    `"${'x'.repeat(65 * 1024)}"`,
  ]
  for (const body of quoting) {
    const shown = redact('error', [Buffer.from(body)])
    assert.equal(JSON.parse(shown.text).error.message, HIDDEN_MESSAGE, body.slice(0, 50))
  }
  assert.deepEqual(JSON.parse(redact('error', [Buffer.from(`[${ECHO}]`)]).text), [HIDDEN_MESSAGE])
  assert.equal(
    redact('error', [Buffer.from(`{"status":"failed","instructions":${ECHO}}`)]).text,
    '{"status":"failed","instructions":null}',
  )
})

test('what is not in the form it should be in is not passed on', () => {
  for (const answer of [
    `[${RESPONSE}]`,
    ECHO,
    `<p>${SECRET}`,
    `{}${RESPONSE}`,
    `{"a" "instructions":${ECHO}}`,
    `}${ECHO}`,
  ]) {
    const { text, isLost } = redact('json', [Buffer.from(answer)])
    assert.ok(isLost && !text.includes('SENTINEL'), answer)
  }
  for (const line of [
    RESPONSE,
    `data: [${RESPONSE}]`,
    `data: ${ECHO}`,
    `data: <${SECRET}`,
    `dat\u0061x: ${ECHO}`,
    `x: ${ECHO}`,
  ]) {
    const { text } = redact('stream', [Buffer.from(`${line}\n\ndata: {"after":1}\n\n`)])
    assert.ok(!text.includes('SENTINEL') && text.includes('{"after":1}'), line)
  }
  const cut = redact('stream', [Buffer.from(`data: {"response":{"instructions":${ECHO.slice(0, -1)}`)])
  assert.ok(!cut.text.includes('SENTINEL'))
})

test('a value that is not in question is never held, however long it is', () => {
  const redactor = openRedactor('stream', hidden)
  redactor.push(Buffer.from('event: x\ndata: {"type":"x","response":{"output":"'))
  const piece = Buffer.alloc(1024 * 1024, 'x')

  for (let count = 0; count < 5; count += 1) assert.ok(redactor.push(piece).equals(piece))
})

test('runs of a text are recognised, and words that anybody writes are not', () => {
  for (const at of [0, 1, 7, 8, 30]) assert.ok(hidden.isQuotedIn(`<${SECRET.slice(at, at + 23)}>`), String(at))
  assert.ok(!hidden.isQuotedIn(`You are ${'a b c '.repeat(10_000)}`))
  assert.ok(new HiddenText(['Be brief.']).isQuotedIn('You said "Be brief."'))
  assert.ok(!new HiddenText(['Be brief.', ' ', '']).isQuotedIn('Be long.'))
})

/** Cuts at each place, into single bytes, and into threes. */
function assertAtEveryCut(form: Form, answer: string, shown: string, { isSpacingFree = false } = {}): void {
  const bytes = Buffer.from(answer)
  const cuts = [
    [bytes],
    [...bytes].map((byte) => Buffer.from([byte])),
    bytes
      .toString('latin1')
      .match(/[\s\S]{1,3}/g)
      ?.map((three) => Buffer.from(three, 'latin1')) ?? [],
  ]
  for (let at = 1; at < bytes.length; at += 1) cuts.push([bytes.subarray(0, at), bytes.subarray(at)])
  for (const pieces of cuts) {
    const { text, isLost } = redact(form, pieces)
    const lengths = pieces.length > 3 ? `${pieces.length} pieces` : pieces.map((piece) => piece.length).join('+')
    if (isSpacingFree) assert.deepEqual(text.split(/\s+/), shown.split(/\s+/), lengths)
    else assert.equal(text, shown, lengths)
    assert.equal(isLost, false)
  }
}

function redact(form: Form, pieces: readonly Buffer[]) {
  const redactor = openRedactor(form, hidden)
  const passed = [...pieces.map((piece) => Buffer.from(redactor.push(piece))), redactor.finish()]
  return { text: Buffer.concat(passed).toString(), isLost: redactor.isLost }
}
