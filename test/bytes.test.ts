import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import { startSystem, type TestOrganization } from './harness.ts'
import { openRaw, parseAnswers, rawHead, readToEnd, readUntil, sendRaw } from './raw-client.ts'

const system = await startSystem()
const { port } = system.server

async function call(organization: TestOrganization, body: string | Buffer) {
  const answer = await organization.fetch('/v1/responses', { method: 'POST', body: new Uint8Array(Buffer.from(body)) })
  const bytes = Buffer.from(await answer.arrayBuffer())
  await system.simulator.ledger.idle()
  const entry = system.simulator.ledger.entries().at(-1)
  assert.ok(entry)
  return { answer, bytes, entry }
}

async function onlyRow(organization: TestOrganization) {
  const rows = await system.query('select * from attempts where organization_id = $1', [organization.id])
  assert.equal(rows.length, 1)
  return rows[0]
}

const BODIES: Record<string, string> = {
  'integers beyond 2^53, and numbers no double can hold':
    '{"model":"gpt-4o-mini","input":"hi","seed":9223372036854775807,"a":18446744073709551615,"b":1.00000000000000000001,"c":1E400,"d":-0,"e":0.10,"f":1e+2}',
  'fields in an odd order': '{"stream":false,"zz":[],"input":"hi","aa":{},"model":"gpt-4o-mini","0":0,"-1":1}',
  'repeated names inside nested objects':
    '{"model":"gpt-4o-mini","input":"hi","metadata":{"a":"1","a":"2"},"x":[{"b":1,"b":2}]}',
  'unknown fields, named like what we read':
    '{"model":"gpt-4o-mini","input":"hi","x":{"model":"other","stream":true,"previous_response":"resp_1"},"Model":"no","model ":"no"}',
  'escapes as they were written':
    '{"model":"gpt-4o-mini","input":"\\u0068\\u00e9\\ud83d\\ude00\\/\\b\\f\\n\\r\\t\\"\\\\","k\\u00e9y":"\\u0000"}',
  'half a surrogate pair': '{"model":"gpt-4o-mini","input":"\\ud800 \\udc00"}',
  'a field we read, spelled with escapes': '{"\\u006dodel":"gpt\\u002d4o-mini","input":"hi"}',
  'blanks everywhere': ' \r\n\t{ \n"model" :\t"gpt-4o-mini" , "input"\r\n:"hi" , "a" : [ 1 , { } , [ ] ] } \n\n',
  'characters of every length in UTF-8': '{"model":"gpt-4o-mini","input":"aé€😀\u2028\u2029\ufeff\u007f"}',
  'names that mean something to JavaScript':
    '{"model":"gpt-4o-mini","input":"hi","__proto__":{"stream":true},"constructor":1,"toString":null}',
  'null where nothing was meant':
    '{"model":"gpt-4o-mini","input":"hi","stream":null,"previous_response_id":null,"conversation":null}',
  'strings full of brackets and quotes': '{"model":"gpt-4o-mini","input":"{\\"model\\":\\"x\\"}]}\\\\","a":"\\\\\\""}',
  'five megabytes in one string': `{"model":"gpt-4o-mini","input":"${'x\\"é'.repeat(1_050_000)}"}`,
  'five megabytes in a million values': `{"model":"gpt-4o-mini","input":"hi","a":[${'[1],'.repeat(1_250_000)}0]}`,
  'a very long name': `{"model":"gpt-4o-mini","input":"hi","${'n'.repeat(60_000)}":1}`,
}

test('a JSON body arrives at OpenAI byte for byte, and its answer at the client', async (t) => {
  for (const [name, body] of Object.entries(BODIES)) {
    await t.test(name, async () => {
      const organization = await system.organization()
      const { answer, bytes, entry } = await call(organization, body)

      assert.equal(answer.status, 200)
      assert.equal(entry.bodySha256, hash('sha256', body))
      assert.equal(hash('sha256', bytes), entry.bodyOutSha256)
      assert.equal((await onlyRow(organization))?.model_requested, 'gpt-4o-mini')
    })
  }
})

test('a body arrives whole however it is cut on its way: byte by byte, in chunks, with a length or without', async () => {
  const organization = await system.organization()
  const body = Buffer.from(BODIES['escapes as they were written'] ?? '')
  const headers = {
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'Content-Type': 'application/json; charset=utf-8',
  }
  const bytes = Array.from(body, (byte) => Buffer.of(byte))

  const socket = await openRaw(port, rawHead('POST /v1/responses', { ...headers, 'Content-Length': body.length }))
  const all = readToEnd(socket)
  for (const byte of bytes) await new Promise((resolve) => socket.write(byte, resolve))
  const whole = parseAnswers(await all)
  const chunks = bytes.map((byte) => Buffer.concat([Buffer.from('1;x=y\r\n'), byte, Buffer.from('\r\n')]))
  const head = rawHead('POST /v1/responses', { ...headers, 'Transfer-Encoding': 'chunked', Trailer: 'X-User-ID' })
  const chunked = await sendRaw(port, head, ...chunks, '0\r\nX-User-ID: mallory\r\nAuthorization: Bearer x\r\n\r\n')

  assert.deepEqual([whole[0]?.status, chunked[0]?.status], [200, 200])
  for (const entry of system.simulator.ledger.entries().slice(-2)) {
    assert.equal(entry.bodySha256, hash('sha256', body))
    assert.equal(entry.requestHeaders['content-length'], String(body.length))
    assert.equal(entry.requestHeaders['transfer-encoding'], undefined)
  }
  const users = await system.query('select external_id from users where organization_id = $1', [organization.id])
  assert.deepEqual(users, [{ external_id: 'alice' }])
})

const FRAMINGS = [
  '',
  'eol=crlf',
  'eol=cr',
  'comments=1',
  'comments=1,eol=cr',
  'keepalive=2',
  'keepalive=1,no_event_lines,eol=crlf',
  'no_event_lines',
  'done',
  'chunk=1',
  'chunk=1,eol=crlf',
  'chunk=1,eol=cr,comments=1',
  'chunk=7,no_event_lines',
  'chunk=3,keepalive=1,comments=2,done,eol=crlf',
  'tokens=5000',
  'tokens=5000,chunk=4099,eol=crlf',
  'huge=10485760',
  'huge=1048576,chunk=65521,no_event_lines',
  'reasoning=9,cached=100,cache_write=7,web_search=2,tier=priority',
  'ending=incomplete',
  'ending=failed',
]

test('C102: a stream reaches the client byte for byte in every framing, and is accounted for the same', async (t) => {
  for (const framing of FRAMINGS) {
    await t.test(framing || 'as it usually comes', async () => {
      const organization = await system.organization()
      const model = `sim:model=gpt-4o-mini,input=120,${framing}`
      const { answer, bytes, entry } = await call(organization, JSON.stringify({ model, input: 'hello', stream: true }))

      assert.equal(answer.status, 200)
      assert.equal(answer.headers.get('content-type'), 'text/event-stream; charset=utf-8')
      assert.equal(bytes.length, entry.bytesSent)
      assert.equal(hash('sha256', bytes), entry.bodyOutSha256)
      assert.ok(entry.usage)
      const row = await onlyRow(organization)
      assert.deepEqual(
        {
          input_tokens: Number(row?.input_tokens),
          cached_tokens: Number(row?.cached_tokens),
          cache_write_tokens: Number(row?.cache_write_tokens),
          output_tokens: Number(row?.output_tokens),
          reasoning_tokens: Number(row?.reasoning_tokens),
        },
        entry.usage,
      )
      assert.equal(row?.usage_source, 'reported')
      assert.equal(row?.status, /ending=(\w+)/.exec(framing)?.[1] ?? 'completed')
      assert.equal(row?.response_id, entry.responseId)
    })
  }
})

test('a JSON answer reaches the client byte for byte however it is cut, errors and answers that are no JSON too', async () => {
  for (const spec of [
    'chunk=1',
    'chunk=13',
    'gzip',
    'garbage',
    'echo',
    'status=400',
    'status=500,body=html',
    'status=429,body=empty',
  ]) {
    const organization = await system.organization()
    const { bytes, entry } = await call(organization, JSON.stringify({ model: `sim:${spec}`, input: 'hello' }))
    if (spec !== 'gzip') assert.equal(hash('sha256', bytes), entry.bodyOutSha256, spec)
    else assert.equal(JSON.parse(bytes.toString()).id, entry.responseId)
  }
})

test('C30b: only headers on the list cross to OpenAI, and a header named by Connection does not', async () => {
  const organization = await system.organization()
  const body = JSON.stringify({ model: 'gpt-4o-mini', input: 'hi' })
  const crossing = {
    accept: 'application/json',
    'accept-language': 'de',
    'openai-beta': 'responses=v1',
    'user-agent': 'OpenAI/JS 7.57.0',
    'x-client-request-id': 'client-1',
    'x-stainless-lang': 'js',
    'x-stainless-retry-count': '1',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  }
  const staying = {
    Host: 'proxy',
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'X-Session-ID': 'session-1',
    Connection: 'close, authorization, x-user-id, x-stainless-os',
    'x-stainless-os': 'named by Connection',
    'Content-Type': 'application/json; charset=utf-8; sentinel=1',
    'Content-Length': body.length,
    'Accept-Encoding': 'gzip, br',
    Cookie: 'session=1',
    'OpenAI-Organization': 'org-theirs',
    'OpenAI-Project': 'proj-theirs',
    'X-Forwarded-For': '10.0.0.1',
    'X-Forwarded-Host': 'evil',
    'X-Forwarded-Proto': 'https',
    Forwarded: 'for=10.0.0.1',
    'X-Real-IP': '10.0.0.1',
    Via: '1.1 them',
    'X-Api-Key': 'sk-theirs',
    'Api-Key': 'sk-theirs',
    'Proxy-Authorization': 'Basic eDp5',
    'Keep-Alive': 'timeout=5',
    TE: 'trailers',
    'X-HTTP-Method-Override': 'DELETE',
    'X-Original-URL': '/v1/files',
    'X-Request-ID': 'theirs',
    'x-sim': 'status=500',
    Origin: 'http://localhost:3000',
    Referer: 'http://internal/',
    'CF-Connecting-IP': '10.0.0.1',
  }

  const [answer] = await sendRaw(port, rawHead('POST /v1/responses', { ...crossing, ...staying }) + body)

  assert.equal(answer?.status, 200)
  assert.deepEqual(system.simulator.ledger.entries().at(-1)?.requestHeaders, {
    ...crossing,
    host: `127.0.0.1:${system.simulator.port}`,
    connection: 'keep-alive',
    authorization: '[hidden]',
    'content-type': 'application/json',
    'content-length': String(body.length),
    'accept-encoding': 'identity',
  })
})

test("C30c: only headers on the list come back: rate limits and timing do, OpenAI's cookies, organization and network do not", async () => {
  const organization = await system.organization()
  const head = (model: string) => {
    const body = JSON.stringify({ model, input: 'hi', stream: model.includes('tokens') })
    const headers = {
      Authorization: `Bearer ${organization.token}`,
      'X-User-ID': 'alice',
      'X-Session-ID': 'session-1',
      'Content-Type': 'application/json',
      'Content-Length': body.length,
    }
    return rawHead('POST /v1/responses', headers) + body
  }
  const always = [
    'connection',
    'content-type',
    'date',
    'openai-processing-ms',
    'openai-version',
    'server-timing',
    'x-ratelimit-limit-requests',
    'x-ratelimit-limit-tokens',
    'x-ratelimit-remaining-requests',
    'x-ratelimit-remaining-tokens',
    'x-ratelimit-reset-requests',
    'x-ratelimit-reset-tokens',
    'x-request-id',
    'x-session-id',
  ]
  const expected: Record<string, string[]> = {
    'gpt-4o-mini': [...always, 'content-length'],
    'sim:tokens=3': [...always, 'cache-control', 'transfer-encoding'],
    'sim:status=429,retry_after=7,retry_after_ms=7001,should_retry=false': [
      ...always,
      'content-length',
      'retry-after',
      'retry-after-ms',
      'x-should-retry',
    ],
    'sim:status=503': [...always, 'content-length'],
  }
  for (const [model, names] of Object.entries(expected)) {
    const [answer] = await sendRaw(port, head(model))
    assert.deepEqual(Object.keys(answer?.headers ?? {}).sort(), names.sort())
    assert.match(answer?.headers['x-request-id'] ?? '', /^req_[0-9a-f]{32}$/)
    assert.equal(answer?.headers['x-session-id'], 'session-1')
    assert.equal(answer?.headers['x-ratelimit-reset-requests'], '6ms')
  }
})

test("X-Request-ID is the row's, and never the one OpenAI gave", async () => {
  const organization = await system.organization()
  const { answer } = await call(organization, JSON.stringify({ model: 'gpt-4o-mini', input: 'hi' }))

  const row = await onlyRow(organization)
  assert.equal(answer.headers.get('x-request-id'), row?.request_id)
  assert.notEqual(row?.upstream_request_id, row?.request_id)
  assert.match(row?.upstream_request_id, /^req_/)
})

test('C30: nonsense behind a request breaks the answer under way off, and never gets into it', async () => {
  const organization = await system.organization()
  const body = JSON.stringify({ model: 'sim:stall_after=6', input: 'hello', stream: true })
  const headers = {
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'Content-Type': 'application/json',
    'Content-Length': body.length,
    Connection: 'keep-alive',
  }
  const socket = await openRaw(port, rawHead('POST /v1/responses', headers) + body)
  const all = readToEnd(socket)
  await readUntil(socket, '"delta":" said:"')

  socket.write('NONSENSE\0\r\n\r\n')

  const text = (await all).toString()
  assert.equal(text.match(/HTTP\/1\.1 /g)?.length, 1)
  assert.ok(!text.endsWith('0\r\n\r\n'), 'the answer looks whole')
  await system.simulator.ledger.idle()
  assert.equal((await onlyRow(organization))?.status, 'client_closed')
})
