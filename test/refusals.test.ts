import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { startSystem, type TestOrganization } from './harness.ts'
import { type RawAnswer, rawHead, sendRaw } from './raw-client.ts'

const BODY_BYTES_MAX = 64 * 1024
const system = await startSystem({ MAX_BODY_BYTES: String(BODY_BYTES_MAX) })
const { port } = system.server
const BODY = JSON.stringify({ model: 'gpt-4o-mini', input: 'hi' })

type Headers = Parameters<typeof rawHead>[1]

/** The one answer to a request that must leave no trace: no call upstream, no row. */
async function refused(
  organization: TestOrganization,
  send: () => Promise<RawAnswer[]>,
  status: number,
  code?: string,
): Promise<RawAnswer> {
  const callsBefore = system.simulator.ledger.entries().length
  const answers = await send()
  assert.deepEqual(
    answers.map((answer) => answer.status),
    [status],
  )
  const answer = answers[0] as RawAnswer
  assert.match(answer.headers['x-request-id'] ?? '', /^req_[0-9a-f]{32}$/)
  assert.equal(answer.headers['content-type'], 'application/json')
  const { error, detail } = JSON.parse(answer.body.toString())
  assert.deepEqual(Object.keys(error), ['message', 'type', 'param', 'code'])
  assert.equal(detail, error.message)
  assert.match(error.message, /^[A-Z"].*\.$/s)
  if (code !== undefined) assert.equal(error.code, code)
  assert.equal(system.simulator.ledger.entries().length, callsBefore, 'OpenAI was called')
  const rows = await system.query('select 1 from attempts where organization_id = $1', [organization.id])
  assert.equal(rows.length, 0, 'a row was written')
  return answer
}

function post(organization: TestOrganization, body: string | Buffer = BODY, headers: Headers = {}) {
  return sendRaw(port, rawHead('POST /v1/responses', requestHeaders(organization, body, headers)), Buffer.from(body))
}

function requestHeaders(organization: TestOrganization, body: string | Buffer, headers: Headers = {}): Headers {
  return {
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    ...headers,
  }
}

test('the request that all these refusals are made from is itself served, called and recorded once', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length

  const [answer, ...more] = await post(organization)

  assert.equal(more.length, 0)
  assert.equal(answer?.status, 200)
  assert.equal(system.simulator.ledger.entries().length, callsBefore + 1)
  const rows = await system.query('select 1 from attempts where organization_id = $1', [organization.id])
  assert.equal(rows.length, 1)
})

const INVALID_JSON: Record<string, string | Buffer> = {
  'a field twice': '{"model":"gpt-4o-mini","input":"hi","model":"gpt-5"}',
  'a field twice, once spelled with escapes': '{"model":"gpt-4o-mini","input":"hi","\\u006dodel":"gpt-5"}',
  'a field twice, both spelled with different escapes': '{"\\u006Dodel":"gpt-4o-mini","input":"hi","mo\\u0064el":"x"}',
  'an unknown field twice': '{"model":"gpt-4o-mini","input":"hi","extra":1,"extra":1}',
  'an empty name twice': '{"model":"gpt-4o-mini","input":"hi","":1,"":1}',
  'stream twice': '{"model":"gpt-4o-mini","input":"hi","stream":false,"stream":true}',
  '__proto__ twice': '{"model":"gpt-4o-mini","input":"hi","__proto__":{},"__proto__":{}}',
  'an array': `[${BODY}]`,
  'an empty array': '[]',
  null: 'null',
  'a number': '42',
  'a string': '"model"',
  true: 'true',
  nothing: '',
  blanks: ' \r\n\t ',
  'half a string': '{"model":"gpt-4o-mi',
  'no closing brace': '{"model":"gpt-4o-mini","input":"hi"',
  'a closing brace too many': `${BODY}}`,
  'two objects': `${BODY}${BODY}`,
  'text behind the object': `${BODY} x`,
  'a NUL behind the object': `${BODY}\0`,
  'a trailing comma': '{"model":"gpt-4o-mini","input":"hi",}',
  'a leading comma': '{,"model":"gpt-4o-mini","input":"hi"}',
  'no comma': '{"model":"gpt-4o-mini" "input":"hi"}',
  'no colon': '{"model" "gpt-4o-mini"}',
  'two colons': '{"model"::"gpt-4o-mini"}',
  'single quotes': "{'model':'gpt-4o-mini'}",
  'names without quotes': '{model:"gpt-4o-mini"}',
  'a comment': '{"model":"gpt-4o-mini",/* */"input":"hi"}',
  NaN: '{"model":"gpt-4o-mini","input":"hi","temperature":NaN}',
  'a number with a leading zero': '{"model":"gpt-4o-mini","input":"hi","seed":01}',
  'a number with a plus': '{"model":"gpt-4o-mini","input":"hi","seed":+1}',
  'brackets that cross': '{"model":"gpt-4o-mini","input":[{"a":1]}}',
  'a byte order mark': `\ufeff${BODY}`,
  'a broken escape in a name': '{"model":"gpt-4o-mini","input":"hi","\\uZZZZ":1}',
  'UTF-16': Buffer.from(BODY, 'utf16le'),
  'a lone continuation byte': Buffer.from(BODY.replace('hi', 'h\u0080i'), 'latin1'),
  'an overlong encoding': Buffer.from(BODY.replace('hi', '\u00c0\u00af'), 'latin1'),
  'a surrogate in UTF-8': Buffer.from(BODY.replace('hi', '\u00ed\u00a0\u0080'), 'latin1'),
  'half a character at the end of a string': Buffer.from(BODY.replace('hi', '\u00e2\u0082'), 'latin1'),
  'bytes that are no UTF-8 in a name': Buffer.from('{"model":"gpt-4o-mini","input":"hi","\u00ff":1}', 'latin1'),
  'a thousand brackets': `{"model":"gpt-4o-mini","input":${'['.repeat(1000)}${']'.repeat(1000)}}`,
}

test('C82: a body that is not one JSON object without repeated fields is 400 and goes nowhere', async (t) => {
  const organization = await system.organization()
  for (const [name, body] of Object.entries(INVALID_JSON)) {
    await t.test(name, async () => {
      await refused(organization, () => post(organization, body), 400, 'invalid_json')
    })
  }
})

test('a field the proxy decides by is refused when it is of the wrong type', async (t) => {
  const organization = await system.organization()
  const fields: Record<string, unknown[]> = {
    model: [5, {}, [], true, 'x'.repeat(60_000)].slice(0, 4),
    previous_response_id: [5, {}, ['resp_1'], false],
    conversation: [5, [], {}, { id: 5 }, { id: null }, true],
  }
  for (const [field, values] of Object.entries(fields)) {
    for (const value of values) {
      await t.test(`${field}: ${JSON.stringify(value)}`, async () => {
        const body = JSON.stringify({ model: 'gpt-4o-mini', input: 'hi', [field]: value })
        const answer = await refused(organization, () => post(organization, body), 400, 'invalid_request')
        assert.equal(JSON.parse(answer.body.toString()).error.param, field)
      })
    }
  }
  await t.test('a string with a broken escape', async () => {
    const body = '{"model":"gpt-4o-mini\\x","input":"hi"}'
    await refused(organization, () => post(organization, body), 400, 'invalid_request')
  })
})

test('an id that this organization did not make is 404 before OpenAI hears of it', async () => {
  const organization = await system.organization()
  for (const fields of [
    { previous_response_id: 'resp_unknown' },
    { conversation: 'conv_unknown' },
    { conversation: { id: 'conv_unknown' } },
    { previous_response_id: "resp_'; drop table attempts; --" },
    { previous_response_id: '' },
    { conversation: 'c'.repeat(300) },
  ]) {
    const body = JSON.stringify({ model: 'gpt-4o-mini', input: 'hi', ...fields })
    await refused(organization, () => post(organization, body), 404, 'not_found')
  }
})

test('a body that is not said to be JSON is 415', async () => {
  const organization = await system.organization()
  for (const type of [
    undefined,
    '',
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/jsonp',
    'application/octet-stream',
    'text/json',
    'application/json, text/plain',
  ]) {
    const headers = { 'Content-Type': type }
    await refused(organization, () => post(organization, BODY, headers), 415, 'unsupported_media_type')
  }
})

test('C75: a compressed body is 415', async () => {
  const organization = await system.organization()
  for (const encoding of ['gzip', 'br', 'deflate', 'zstd', 'GZIP', 'gzip, identity', 'identity, gzip']) {
    const headers = { 'Content-Encoding': encoding }
    await refused(organization, () => post(organization, gzipSync(BODY), headers), 415, 'unsupported_media_type')
  }
})

function bodyOf(bytes: number): string {
  const frame = JSON.stringify({ model: 'gpt-4o-mini', input: '' })
  return frame.replace('""', `"${'x'.repeat(bytes - frame.length)}"`)
}

function chunked(body: string): string {
  return `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
}

test('C74: a body of exactly the limit is served, one byte more is 413, with a length and without', async () => {
  const organization = await system.organization()
  const noLength = { 'Content-Length': undefined, 'Transfer-Encoding': 'chunked' }
  const tooMuch = bodyOf(BODY_BYTES_MAX + 1)
  const head = rawHead('POST /v1/responses', requestHeaders(organization, '', noLength))

  await refused(organization, () => post(organization, tooMuch), 413, 'body_too_large')
  await refused(organization, () => sendRaw(port, head, chunked(tooMuch)), 413, 'body_too_large')

  assert.equal((await post(organization, bodyOf(BODY_BYTES_MAX)))[0]?.status, 200)
  assert.equal((await sendRaw(port, head, chunked(bodyOf(BODY_BYTES_MAX))))[0]?.status, 200)
})

test('C74: a body that is announced too large is refused before it comes', async () => {
  const organization = await system.organization()
  const headers = { 'Content-Length': 10 ** 9 }

  const answer = await refused(organization, () => post(organization, '{"model":', headers), 413, 'body_too_large')

  assert.equal(answer.headers.connection, 'close')
})

test('C74: a client that writes four megabytes before it reads still gets its 413', async () => {
  const organization = await system.organization()
  for (const headers of [{}, { 'Content-Length': undefined, 'Transfer-Encoding': 'chunked' }]) {
    const body = bodyOf(4 * 1024 * 1024)
    const isChunked = 'Transfer-Encoding' in headers
    const head = rawHead('POST /v1/responses', requestHeaders(organization, body, headers))
    await refused(organization, () => sendRaw(port, head, isChunked ? chunked(body) : body), 413, 'body_too_large')
  }
})

test('a token needs X-User-ID, and an empty one or the word null is none', async () => {
  const organization = await system.organization()
  for (const userId of [undefined, '', ' ', 'null', 'NULL', 'Null', ' nUlL ']) {
    const headers = { 'X-User-ID': userId }
    const answer = await refused(organization, () => post(organization, BODY, headers), 400, 'missing_user_id')
    assert.equal(JSON.parse(answer.body.toString()).error.param, 'X-User-ID')
  }
  const users = await system.query('select 1 from users where organization_id = $1', [organization.id])
  assert.equal(users.length, 0)
})

test('a synthetic key does not need X-User-ID, but one that is sent must name a user', async () => {
  const organization = await system.organization()
  for (const userId of ['', 'null', ' ']) {
    const headers = { Authorization: `Bearer ${organization.syntheticKey}`, 'X-User-ID': userId }
    await refused(organization, () => post(organization, BODY, headers), 400, 'missing_user_id')
  }
})

test('an X-User-ID that is too long or no clean text is 400, and makes no user', async () => {
  const organization = await system.organization()
  for (const userId of [
    'x'.repeat(256),
    'a\tb',
    'a\u0001b',
    'a\u007fb',
    'a\u0000b',
    '\u00ff\u00fe',
    '\u00ed\u00a0\u0080',
  ]) {
    const headers = { 'X-User-ID': userId }
    await refused(organization, () => post(organization, BODY, headers), 400, 'invalid_request')
  }
  const users = await system.query('select 1 from users where organization_id = $1', [organization.id])
  assert.equal(users.length, 0)
})

test('C21: a repeated Authorization, X-User-ID or X-Session-ID header is 400, relayed or not', async () => {
  const organization = await system.organization()
  const bearer = `Bearer ${organization.token}`
  const repetitions: Headers[] = [
    { Authorization: [bearer, bearer] },
    { Authorization: bearer, AUTHORIZATION: `Bearer ${organization.syntheticKey}` },
    { 'X-User-ID': ['alice', 'alice'] },
    { 'X-User-ID': 'alice', 'x-user-id': 'bob' },
    { 'X-User-ID': 'alice', 'x-user-id': '' },
    { 'X-Session-ID': ['one', 'two'] },
  ]
  for (const headers of repetitions) {
    await refused(organization, () => post(organization, BODY, headers), 400, 'invalid_request')
    const listing = rawHead('GET /v1/api/users', { Authorization: bearer, ...headers })
    await refused(organization, () => sendRaw(port, listing), 400, 'invalid_request')
  }
})

test('a malformed X-Session-ID is 400', async () => {
  const organization = await system.organization()
  for (const sessionId of ['s'.repeat(256), 'a\tb', 'caf\u00c3\u00a9', '\u00ff', 'a\u0001']) {
    const headers = { 'X-Session-ID': sessionId }
    await refused(organization, () => post(organization, BODY, headers), 400, 'invalid_request')
  }
})

test('no credentials, foreign ones and nonsense are the same 401 and go nowhere', async () => {
  const organization = await system.organization()
  const key = organization.syntheticKey
  const bodies = new Set<string>()
  for (const authorization of [
    'Bearer nonsense',
    'Bearer a.b.c',
    "Bearer '; select pg_sleep(5)--",
    'Bearer',
    'Bearer ',
    `Basic ${Buffer.from(`user:${organization.token}`).toString('base64')}`,
    organization.token,
    `Bearer ${organization.token} `.repeat(2).trim(),
    `Bearer ${organization.token}x`,
    `Bearer ${key.slice(0, -1)}${key.endsWith('a') ? 'b' : 'a'}`,
    `Bearer ${'x'.repeat(20_000)}`,
    'Bearer \u00f0\u009f\u0098\u0080',
  ]) {
    const send = () => post(organization, BODY, { Authorization: authorization })
    const answer = await refused(organization, send, 401, 'invalid_authentication')
    assert.equal(answer.headers['www-authenticate'], 'Bearer')
    bodies.add(answer.body.toString())
  }
  assert.equal(bodies.size, 1)
  const none = () => post(organization, BODY, { Authorization: undefined })
  await refused(organization, none, 401, 'invalid_authentication')
})

test('C12: a credential counts in Authorization alone', async () => {
  const organization = await system.organization()
  const key = organization.syntheticKey
  const elsewhere: Headers = {
    Authorization: undefined,
    'X-Api-Key': key,
    'Api-Key': key,
    Cookie: `authorization=${key}; api_key=${key}`,
    'Proxy-Authorization': `Bearer ${key}`,
  }
  const head = rawHead(
    `POST /v1/responses?api_key=${key}&access_token=${key}`,
    requestHeaders(organization, BODY, elsewhere),
  )
  await refused(organization, () => sendRaw(port, head, BODY), 401, 'invalid_authentication')
})

test('headers that are too many or too large are 431', async () => {
  const organization = await system.organization()
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`X-Number-${index}`, '1']))
  await refused(organization, () => post(organization, BODY, many), 431, 'headers_too_large')
  await refused(
    organization,
    () => post(organization, BODY, { 'X-Large': 'x'.repeat(70_000) }),
    431,
    'headers_too_large',
  )
  const long = rawHead(`POST /v1/responses?${'x'.repeat(70_000)}`, requestHeaders(organization, BODY))
  await refused(organization, () => sendRaw(port, long, BODY), 431, 'headers_too_large')
})

test('C21: a second Authorization behind a hundred other headers is not overlooked', async () => {
  const organization = await system.organization()
  const many = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`X-Number-${index}`, '1']))
  const headers = { ...many, authorization: 'Bearer other', 'x-user-id': 'mallory', 'Content-Encoding': 'gzip' }
  await refused(organization, () => post(organization, BODY, headers), 431, 'headers_too_large')
})

test('another method on a relayed path is 405 and names the one that is possible', async () => {
  const organization = await system.organization()
  for (const method of ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
    const head = rawHead(`${method} /v1/responses`, requestHeaders(organization, BODY))
    const answer = await refused(organization, () => sendRaw(port, head, BODY), 405, 'method_not_allowed')
    assert.equal(answer.headers.allow, 'POST')
  }
  const head = rawHead('HEAD /v1/responses', requestHeaders(organization, '', { 'Content-Length': undefined }))
  const bytes = await sendRaw(port, head).catch((error: Error) => error)
  assert.ok(Array.isArray(bytes))
  assert.equal(bytes[0]?.status, 405)
  assert.equal(bytes[0]?.body.length, 0)
})

test('C30: TRACE, CONNECT and methods of other protocols are 501', async () => {
  const organization = await system.organization()
  for (const line of [
    'TRACE /v1/responses',
    'PROPFIND /v1/responses',
    'PURGE /v1/responses',
    'LINK /',
    'TRACE /health',
  ]) {
    const head = rawHead(line, { Authorization: `Bearer ${organization.token}` })
    await refused(organization, () => sendRaw(port, head), 501, 'not_implemented')
  }
  for (const target of ['example.com:443', '127.0.0.1:22', '/v1/responses']) {
    const head = rawHead(`CONNECT ${target}`, { Authorization: `Bearer ${organization.token}` })
    const tunnelled = rawHead('POST /v1/responses', requestHeaders(organization, BODY))
    await refused(organization, () => sendRaw(port, head, tunnelled, BODY), 501, 'not_implemented')
  }
})

test('C27: a request target that is not a path is 400', async () => {
  const organization = await system.organization()
  for (const target of ['http://proxy/v1/responses', 'https://evil.example/v1/responses', '/v1\\responses', '*']) {
    const head = rawHead(`${target === '*' ? 'OPTIONS' : 'POST'} ${target}`, requestHeaders(organization, BODY))
    await refused(organization, () => sendRaw(port, head, BODY), 400, 'invalid_request')
  }
})

test('C30: an upgrade to another protocol is refused, and what follows it is not read as one', async () => {
  const organization = await system.organization()
  const h2c = { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQAAP__' }
  for (const upgrade of ['h2c', 'TLS/1.0', 'websocket, h2c']) {
    const headers = { ...h2c, Upgrade: upgrade }
    const answers = refused(organization, () => post(organization, BODY, headers), 501, 'not_implemented')
    assert.equal((await answers).headers.connection, 'close')
  }
  const websocket = {
    Authorization: `Bearer ${organization.token}`,
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version': '13',
  }
  for (const [path, status, code] of [
    ['/v1/embeddings', 426, 'upgrade_required'],
    ['/v1/realtime', 404, 'not_found'],
    ['/v1/responses', 400, 'missing_user_id'],
  ] as const) {
    const head = rawHead(`GET ${path}`, websocket)
    await refused(organization, () => sendRaw(port, head, head), status, code)
  }
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
  await refused(organization, () => sendRaw(port, preface), 400, 'invalid_request')
})

test('C30: an expectation that is not understood is refused', async () => {
  const organization = await system.organization()
  await refused(organization, () => post(organization, BODY, { Expect: 'x' }), 501)
})

test('a client that waits for "100 Continue" is told to go on, and served', async () => {
  const organization = await system.organization()
  assert.equal((await post(organization, BODY, { Expect: '100-continue' }))[0]?.status, 200)
})

test('C30: framing that two parsers could read differently is refused once, and the connection closed', async (t) => {
  const organization = await system.organization()
  const smuggled = rawHead('POST /v1/responses', requestHeaders(organization, BODY)) + BODY
  const head = (headers: Headers) =>
    rawHead('POST /v1/responses', requestHeaders(organization, BODY, { Connection: undefined, ...headers }))
  const noLength = { 'Content-Length': undefined }
  const cases: Record<string, [number, string]> = {
    'Content-Length and Transfer-Encoding': [400, `${head({ 'Transfer-Encoding': 'chunked' })}0\r\n\r\n`],
    'two equal lengths': [400, head({ 'Content-Length': [BODY.length, BODY.length] }) + BODY],
    'two different lengths': [400, head({ 'Content-Length': [BODY.length, 5] }) + BODY],
    'a list of lengths': [400, head({ 'Content-Length': `${BODY.length}, ${BODY.length}` }) + BODY],
    'a length with a sign': [400, head({ 'Content-Length': `+${BODY.length}` }) + BODY],
    'a negative length': [400, head({ 'Content-Length': -1 }) + BODY],
    'a length in hexadecimal': [400, head({ 'Content-Length': `0x${BODY.length.toString(16)}` }) + BODY],
    'a length beyond 64 bits': [400, head({ 'Content-Length': '18446744073709551617' }) + BODY],
    'Transfer-Encoding: gzip, chunked': [
      501,
      head({ ...noLength, 'Transfer-Encoding': 'gzip, chunked' }) + chunked(BODY),
    ],
    'Transfer-Encoding: gzip': [501, head({ ...noLength, 'Transfer-Encoding': 'gzip' }) + chunked(BODY)],
    'Transfer-Encoding: chunked, identity': [
      400,
      head({ ...noLength, 'Transfer-Encoding': 'chunked, identity' }) + chunked(BODY),
    ],
    'chunked twice': [400, head({ ...noLength, 'Transfer-Encoding': 'chunked, chunked' }) + chunked(BODY)],
    'Transfer-Encoding: xchunked': [501, head({ ...noLength, 'Transfer-Encoding': 'xchunked' }) + chunked(BODY)],
    'chunked on HTTP/1.0': [
      501,
      head({ ...noLength, 'Transfer-Encoding': 'chunked' }).replace('HTTP/1.1', 'HTTP/1.0') + chunked(BODY),
    ],
    'a chunk size that overflows': [
      400,
      `${head({ ...noLength, 'Transfer-Encoding': 'chunked' })}FFFFFFFFFFFFFFFFF\r\n${BODY}\r\n0\r\n\r\n`,
    ],
    'a chunk size that is no number': [
      400,
      `${head({ ...noLength, 'Transfer-Encoding': 'chunked' })}zz\r\n${BODY}\r\n0\r\n\r\n`,
    ],
    'a chunk longer than it says': [
      400,
      `${head({ ...noLength, 'Transfer-Encoding': 'chunked' })}5\r\n${BODY}\r\n0\r\n\r\n`,
    ],
    'a bare LF behind a header': [400, head({}).replace('X-User-ID: alice\r\n', 'X-User-ID: alice\n') + BODY],
    'a bare CR in a header': [400, head({ 'X-Odd': 'a\rContent-Length: 0' }) + BODY],
    'bare LFs throughout': [400, head({}).replaceAll('\r\n', '\n') + BODY],
    'a folded header': [400, head({ 'X-Odd': 'a\r\n b' }) + BODY],
    'a blank before the colon': [400, head({}).replace('Content-Length:', 'Content-Length :') + BODY],
    'a blank before a name': [400, head({}).replace('\r\nHost', '\r\n Host') + BODY],
    'a NUL in a header': [400, head({ 'X-Odd': 'a\0b' }) + BODY],
    'a name that is no token': [400, head({ 'X(Odd)': 'a' }) + BODY],
    'no version': [400, 'POST /v1/responses\r\n\r\n'],
    'another protocol': [400, head({}).replace('HTTP/1.1', 'HTTP/3.7') + BODY],
    TLS: [400, '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    'two Hosts': [400, head({ Host: ['proxy', 'evil'] }) + BODY],
    'no Host': [400, head({}).replace('Host: proxy\r\n', '') + BODY],
  }
  for (const [name, [status, bytes]] of Object.entries(cases)) {
    await t.test(name, async () => {
      const answer = await refused(organization, () => sendRaw(port, bytes, smuggled), status)
      assert.equal(answer.headers.connection?.toLowerCase(), 'close')
    })
  }
})

test('C27: a path that only looks like a relayed one is not relayed', async (t) => {
  const organization = await system.organization()
  for (const path of [
    '//v1/responses',
    '/v1//responses',
    '/v1/responses/',
    '/v1/responses//',
    '/v1/./responses',
    '/./v1/responses',
    '/v1/x/../responses',
    '/v1/../v1/responses',
    '/v1/%72esponses',
    '/v1/%2e/responses',
    '/v1%2fresponses',
    '/v1/responses%2f',
    '/v1/responses%00',
    '/v1/responses%20',
    '/v1/responses;x',
    '/v1/responses;x=y',
    '/v1/responses&x=y',
    '/v1/responses%3fx',
    '/V1/responses',
    '/v1/Responses',
    '/v1/responses.json',
    '/v1/assistants',
    '/v1/fine_tuning/jobs',
    '/v1/organization/users',
    '/v1/projects/p/roles',
    '/v1/v1/chat/completions',
    '/responses',
    '/v1',
    '/v1/%',
    '/v1/%ff',
    '/health/../v1/responses',
    '/@evil.example/v1/responses',
    '//evil.example/v1/responses',
  ]) {
    await t.test(path, async () => {
      const head = rawHead(`POST ${path}`, requestHeaders(organization, BODY))
      await refused(organization, () => sendRaw(port, head, BODY), 404, 'not_found')
    })
  }
})

test('a query goes along as it came, and does not change where a request goes', async () => {
  const organization = await system.organization()
  for (const query of ['?x=y', '?', '?/v1/files', '?a=/../../v1/files', '?x=%00']) {
    const head = rawHead(`POST /v1/responses${query}`, requestHeaders(organization, BODY))
    assert.equal((await sendRaw(port, head, BODY))[0]?.status, 200)
    assert.equal(system.simulator.ledger.entries().at(-1)?.path, `/v1/responses${query}`)
  }
})

test('C27: Host decides nothing, neither for relayed paths nor for the rest', async (t) => {
  const organization = await system.organization()
  await organization.createUser('only-user')
  for (const host of [
    '',
    'evil/?',
    'evil/#',
    'a@b',
    'evil/v1/responses?',
    '[::1',
    'x:99999',
    'h h',
    '..',
    '/v1/api/users',
    'é',
  ]) {
    await t.test(JSON.stringify(host), async () => {
      const callsBefore = system.simulator.ledger.entries().length
      const [relayed] = await post(organization, BODY, { Host: host })
      assert.equal(relayed?.status, 200)
      assert.equal(system.simulator.ledger.entries().length, callsBefore + 1)
      assert.equal(system.simulator.ledger.entries().at(-1)?.requestHeaders.host, `127.0.0.1:${system.simulator.port}`)

      const authorization = { Authorization: `Bearer ${organization.token}`, Host: host }
      const [health] = await sendRaw(port, rawHead('GET /health', authorization))
      assert.equal(JSON.parse(health?.body.toString() ?? '').status, 'healthy')
      const [users] = await sendRaw(port, rawHead('GET /v1/api/users', authorization))
      assert.equal(users?.status, 200)
      const [stranger] = await sendRaw(port, rawHead('GET /v1/api/users', { Host: host }))
      assert.equal(stranger?.status, 401)
    })
  }
})
