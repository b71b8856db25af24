import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { after, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import OpenAI from 'openai'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
after(() => simulator[Symbol.asyncDispose]())

function post(path: string, body: string | Buffer, headers: Record<string, string> = {}): Promise<Response> {
  const all = { authorization: 'Bearer sk-test', 'content-type': 'application/json', ...headers }
  return fetch(`${simulator.url}${path}`, { method: 'POST', body, headers: all, redirect: 'manual' })
}

async function errorOf(answer: Promise<Response>): Promise<[number, string | null, string | null]> {
  const response = await answer
  const { error } = (await response.json()) as { error: { code: string | null; param: string | null } }
  return [response.status, error.code, error.param]
}

test('a call without a key is refused', async () => {
  assert.deepEqual(await errorOf(post('/responses', '{}', { authorization: '' })), [401, null, null])
  assert.deepEqual(await errorOf(post('/responses', '{}', { authorization: 'Bearer ' })), [401, null, null])
})

test('a wrong key is refused in the words of OpenAI, and not repeated whole', async () => {
  const wrong = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-invalid', maxRetries: 0 })

  await assert.rejects(wrong.responses.create({ model: 'gpt-5', input: 'x' }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError)
    assert.equal(error.code, 'invalid_api_key')
    assert.match(error.message, /Incorrect API key provided: sk-inv\.\.\.alid\. You can find your API key at/)
    return true
  })
})

test('a request that makes no sense is refused with the parameter at fault', async () => {
  assert.deepEqual(await errorOf(post('/responses', '{"model":')), [400, null, null])
  assert.deepEqual(await errorOf(post('/responses', '[]')), [400, null, null])
  assert.deepEqual(await errorOf(post('/responses', '{}')), [400, 'missing_required_parameter', 'model'])
  assert.deepEqual(await errorOf(post('/responses', '{"model":1}')), [400, 'invalid_type', 'model'])
  assert.deepEqual(await errorOf(post('/responses', '{"model":"x"}')), [400, 'missing_required_parameter', 'input'])
})

test('an unknown model is a 400 for responses and a 404 for chat', async () => {
  const body = JSON.stringify({ model: 'no-such', input: 'x', messages: [] })

  assert.deepEqual(await errorOf(post('/responses', body)), [400, 'model_not_found', 'model'])
  assert.deepEqual(await errorOf(post('/chat/completions', body)), [404, 'model_not_found', null])
})

test('an unknown field is let pass', async () => {
  assert.equal((await post('/responses', '{"model":"gpt-5","input":"x","client_metadata":{"a":1}}')).status, 200)
})

test('an unknown URL is a 404', async () => {
  assert.deepEqual(await errorOf(post('/frobnicate', '{}')), [404, null, null])
  assert.deepEqual(await errorOf(post('/files/file-1/frobnicate', '{}')), [404, null, null])
})

test('answers carry the headers of OpenAI, cookies and limits included', async () => {
  const { headers } = await post('/responses', '{"model":"gpt-5","input":"x"}')

  assert.match(headers.get('x-request-id') ?? '', /^req_/)
  assert.equal(headers.get('openai-version'), '2020-10-01')
  assert.equal(headers.get('openai-organization'), 'org-sim')
  assert.match(headers.get('openai-processing-ms') ?? '', /^\d+$/)
  assert.match(headers.get('set-cookie') ?? '', /__cf_bm=/)
  for (const kind of ['limit', 'remaining', 'reset']) {
    assert.ok(headers.has(`x-ratelimit-${kind}-requests`) && headers.has(`x-ratelimit-${kind}-tokens`))
  }
})

test('a status on request has the error, the headers and the body asked for', async () => {
  const overloaded = await post(
    '/responses',
    '{"model":"sim:status=503,retry_after=2,retry_after_ms=1500","input":"x"}',
  )
  assert.equal(overloaded.status, 503)
  assert.equal(overloaded.headers.get('retry-after'), '2')
  assert.equal(overloaded.headers.get('retry-after-ms'), '1500')

  const quota = post('/responses', '{"model":"sim:status=429,code=insufficient_quota","input":"x"}')
  assert.deepEqual(await errorOf(quota), [429, 'insufficient_quota', null])

  const bodyOf = async (kind: string) =>
    (await post('/responses', `{"model":"sim:status=500,body=${kind}","input":"x"}`)).text()
  assert.match(await bodyOf('html'), /^<html>/)
  assert.equal(await bodyOf('empty'), '')
  assert.equal(await bodyOf('array'), '[]')
})

test('the header says the same as the model name, and works where there is no model', async () => {
  const get = (spec: string) =>
    fetch(`${simulator.url}/models`, { headers: { authorization: 'Bearer sk-test', 'x-sim': spec } })

  assert.equal((await get('status=418')).status, 418)
  assert.equal((await get('')).status, 200)
})

test('a behaviour limited to some calls is over after them, so that a retry succeeds', async () => {
  const patient = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 2 })
  const model = 'sim:status=500,retry_after_ms=1,times=2,model=gpt-4o-mini'
  const response = await patient.responses.create({ model, input: 'x' })

  assert.equal(response.model, 'gpt-4o-mini-2024-07-18')
  const statuses = simulator.ledger.entries().filter((entry) => entry.model === model)
  assert.deepEqual(
    statuses.map(({ status }) => status),
    [500, 500, 200],
  )
})

test('an unknown behaviour is refused, not ignored', async () => {
  for (const spec of ['sttaus=500', 'status=abc', 'chunk=0', 'echo=maybe']) {
    const refused = post('/responses', JSON.stringify({ model: `sim:${spec}`, input: 'x' }))
    assert.deepEqual(await errorOf(refused), [400, 'unknown_behaviour', null])
  }
})

test('an echo shows the very bytes and headers that arrived', async () => {
  const sent = Buffer.from('{ "model":"sim:echo", "big": 9223372036854775807, "b":1.0, "b":2 }')
  const echo = (await (await post('/responses?beta=true', sent, { 'X-Odd-Case': 'yes' })).json()) as {
    url: string
    raw_headers: string[]
    body_sha256: string
    body_base64: string
  }

  assert.equal(echo.url, '/v1/responses?beta=true')
  assert.equal(echo.body_base64, sent.toString('base64'))
  assert.equal(echo.body_sha256, hash('sha256', sent))
  assert.ok(echo.raw_headers.includes('Bearer sk-test'))

  const notJson = Buffer.from([0, 255, 10])
  const other = (await (await post('/responses', notJson, { 'x-sim': 'echo' })).json()) as { body_base64: string }
  assert.equal(other.body_base64, notJson.toString('base64'))
})

test('a redirect, garbage, a false content type and compression come on request', async () => {
  const redirect = await post('/responses', '{"model":"sim:redirect=http://127.0.0.1:1/x?a=b","input":"x"}')
  assert.deepEqual([redirect.status, redirect.headers.get('location')], [307, 'http://127.0.0.1:1/x?a=b'])

  const garbage = await post('/responses', '{"model":"sim:garbage","input":"x"}')
  assert.equal(garbage.status, 200)
  await assert.rejects(garbage.json(), SyntaxError)

  const odd = await post('/responses', '{"model":"sim:content_type=text/plain","input":"x"}')
  assert.equal(odd.headers.get('content-type'), 'text/plain')

  const { promise, resolve } = Promise.withResolvers<Buffer>()
  const headers = { authorization: 'Bearer sk-test' }
  httpRequest(`${simulator.url}/responses`, { method: 'POST', headers, agent: false }, async (answer) => {
    resolve(gunzipSync(Buffer.concat(await Array.fromAsync(answer))))
  }).end('{"model":"sim:gzip","input":"x"}')
  assert.equal(JSON.parse(String(await promise)).object, 'response')
})

test('a reset ends a JSON answer at that byte, or before its head', async () => {
  const cut = await post('/responses', '{"model":"sim:reset=100","input":"x"}')
  await assert.rejects(cut.text(), TypeError)
  await assert.rejects(post('/responses', '{"model":"sim:reset=head","input":"x"}'), TypeError)

  await simulator.ledger.idle()
  const [atByte, atHead] = simulator.ledger.entries().slice(-2)
  assert.equal(atByte?.bytesSent, 100)
  assert.equal(atByte?.terminalSent, false)
  assert.equal(atHead?.status, null)
  assert.equal(atHead?.clientClosed, false)
})

test('usage is spoiled on request', async () => {
  const usageOf = async (variant: string) =>
    (await client.responses.create({ model: `sim:usage=${variant}`, input: 'x' })).usage as unknown

  assert.equal(await usageOf('null'), null)
  assert.equal(await usageOf('missing'), undefined)
  assert.partialDeepStrictEqual(await usageOf('negative'), { input_tokens: -5 })
  assert.partialDeepStrictEqual(await usageOf('fractional'), { input_tokens: 1.5 })
  assert.partialDeepStrictEqual(await usageOf('absurd'), { input_tokens: 1e300 })
  assert.partialDeepStrictEqual(await usageOf('text'), { input_tokens: 'many' })
})

test('models are listed and found', async () => {
  const ids = (await client.models.list()).data.map(({ id }) => id)

  assert.ok(ids.includes('gpt-4o-mini'))
  assert.equal((await client.models.retrieve('gpt-4o-mini')).id, 'gpt-4o-mini')
  await assert.rejects(client.models.retrieve('no-such'), OpenAI.NotFoundError)
})
