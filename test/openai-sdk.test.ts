import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI from 'openai'
import { updateApiKey } from '../src/api-keys/service.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { until } from './raw-client.ts'

const system = await startSystem()

async function rowsOf(organization: TestOrganization) {
  return system.query('select * from attempts where organization_id = $1 order by opened_at', [organization.id])
}

/** The error that a call ends with. */
async function errorOf(call: PromiseLike<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  const error = await Promise.resolve(call).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof OpenAI.APIError, `This is no APIError: ${error}`)
  return error
}

test('an answer arrives through the SDK, with a request id that is ours and OpenAI reached with the key behind the token', async () => {
  const organization = await system.organization()
  const { data, response, request_id } = await organization
    .client()
    .responses.create({ model: 'gpt-4o-mini', input: 'hello' })
    .withResponse()

  assert.equal(data.output_text, 'You said: hello')
  assert.match(request_id ?? '', /^req_[0-9a-f]{32}$/)
  assert.equal(response.headers.get('x-request-id'), request_id)
  assert.equal(response.headers.get('x-ratelimit-remaining-requests'), '9999')
  assert.equal(response.headers.get('openai-organization'), null)
  assert.match(response.headers.get('x-session-id') ?? '', /^sess_/)
  const rows = await rowsOf(organization)
  assert.deepEqual(
    rows.map((row) => [row.request_id, row.status, row.is_stream]),
    [[request_id, 'completed', false]],
  )
})

test('a synthetic key works in place of a token, without a user', async () => {
  const organization = await system.organization()
  const answer = await organization
    .client({ apiKey: organization.syntheticKey })
    .responses.create({ model: 'gpt-4o-mini', input: 'hello' })

  assert.equal(answer.output_text, 'You said: hello')
  assert.equal((await rowsOf(organization))[0]?.user_id, null)
})

test('a stream arrives event by event, in order, with its usage', async () => {
  const organization = await system.organization()
  const { data, request_id } = await organization
    .client()
    .responses.create({ model: 'sim:model=gpt-4o-mini,tokens=50', input: 'hello', stream: true })
    .withResponse()
  const events = await Array.fromAsync(data)

  assert.deepEqual(
    events.map((event) => event.sequence_number),
    events.map((_, index) => index),
  )
  assert.equal(events[0]?.type, 'response.created')
  const last = events.at(-1)
  assert.ok(last?.type === 'response.completed')
  assert.equal(last.response.usage?.output_tokens, 50)
  const [row, ...more] = await rowsOf(organization)
  assert.equal(more.length, 0)
  assert.deepEqual([row?.request_id, row?.output_tokens, row?.is_stream], [request_id, '50', true])
})

test('each event is passed on as it comes, not when the answer is complete', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const stream = await organization
    .client()
    .responses.create({ model: 'sim:stall_after=6', input: 'hello', stream: true })
  const deltas: string[] = []
  for await (const event of stream) {
    if (event.type === 'response.output_text.delta') deltas.push(event.delta)
    if (deltas.length === 2) break
  }

  assert.deepEqual(deltas, ['You', ' said:'])
  assert.equal(system.simulator.ledger.entries()[callsBefore]?.terminalSent, false)
})

test('the .stream() helper puts the answer together', async () => {
  const organization = await system.organization()
  const stream = organization.client().responses.stream({ model: 'gpt-4o-mini', input: 'hello' })
  const snapshots: string[] = []
  stream.on('response.output_text.delta', ({ snapshot }) => snapshots.push(snapshot))
  const answer = await stream.finalResponse()

  assert.equal(answer.output_text, 'You said: hello')
  assert.equal(snapshots.at(-1), 'You said: hello')
})

test('a tool is called and its output answered, streamed or not, as one conversation', async () => {
  const organization = await system.organization()
  const client = organization.client()
  const tools: OpenAI.Responses.Tool[] = [
    {
      type: 'function',
      name: 'get_weather',
      strict: true,
      parameters: {
        type: 'object',
        properties: { city: { type: 'string' } },
        required: ['city'],
        additionalProperties: false,
      },
    },
  ]
  for (const isStream of [false, true]) {
    const request = { model: 'sim-tool', input: 'weather?', tools }
    const first = isStream
      ? await client.responses.stream(request).finalResponse()
      : await client.responses.create(request)
    const called = first.output[0]
    assert.ok(called?.type === 'function_call')
    assert.equal(called.name, 'get_weather')
    assert.equal(typeof JSON.parse(called.arguments).city, 'string')

    const second = await client.responses.create({
      model: 'sim-tool',
      previous_response_id: first.id,
      input: [{ type: 'function_call_output', call_id: called.call_id, output: 'sunny' }],
      tools,
    })
    assert.match(second.output_text, /sunny/)
  }
})

test('a conversation goes on with the key that began it, even when the user has another by now', async () => {
  const organization = await system.organization()
  const first = await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'my name is Ada' })
  const began = system.simulator.ledger.entries().at(-1)?.keyHash
  await organization.createKey({ userId: await organization.createUser('alice-2') })
  const second = await organization
    .client()
    .responses.create({ model: 'gpt-4o-mini', input: 'and you?', previous_response_id: first.id })

  assert.match(second.output_text, /my name is Ada/)
  assert.equal(system.simulator.ledger.entries().at(-1)?.keyHash, began)
})

test("the proxy's own refusals raise the SDK's classes, with code, param and request id", async () => {
  const organization = await system.organization()
  const keyless = await system.organization()
  await updateApiKey(system.server.context, keyless.admin, keyless.apiKeyId, { isActive: false })
  const hello = { model: 'gpt-4o-mini', input: 'hello' }
  const cases: [() => PromiseLike<unknown>, unknown, number, string, string | null][] = [
    [
      () => organization.client({ userId: null }).responses.create(hello),
      OpenAI.BadRequestError,
      400,
      'missing_user_id',
      'X-User-ID',
    ],
    [
      () => organization.client({ apiKey: 'sk-wrong' }).responses.create(hello),
      OpenAI.AuthenticationError,
      401,
      'invalid_authentication',
      null,
    ],
    [() => keyless.client().responses.create(hello), OpenAI.PermissionDeniedError, 403, 'no_api_key', null],
    [
      () => organization.client().responses.create({ ...hello, previous_response_id: 'resp_unknown' }),
      OpenAI.NotFoundError,
      404,
      'not_found',
      'previous_response_id',
    ],
    [() => organization.client().fineTuning.jobs.list(), OpenAI.NotFoundError, 404, 'not_found', null],
  ]
  for (const [call, errorClass, status, code, param] of cases) {
    const error = await errorOf(call())
    assert.ok(error instanceof (errorClass as typeof OpenAI.APIError), code)
    assert.deepEqual([error.status, error.code, error.param], [status, code, param])
    assert.match(error.requestID ?? '', /^req_[0-9a-f]{32}$/)
  }
})

test("OpenAI's errors arrive as OpenAI's: class, code, message, and the headers that say when to come back", async () => {
  const organization = await system.organization()
  const client = organization.client()
  const create = (model: string, stream = false) => client.responses.create({ model, input: 'hello', stream })

  const missing = await errorOf(client.responses.create({ model: 'gpt-4o-mini' }))
  assert.ok(missing instanceof OpenAI.BadRequestError)
  assert.deepEqual([missing.code, missing.param], ['missing_required_parameter', 'input'])
  for (const isStream of [false, true]) {
    const limited = await errorOf(
      create('sim:status=429,retry_after=7,retry_after_ms=6500,should_retry=false', isStream),
    )
    assert.ok(limited instanceof OpenAI.RateLimitError)
    assert.equal(limited.code, 'rate_limit_exceeded')
    assert.equal(limited.headers?.get('retry-after'), '7')
    assert.equal(limited.headers?.get('retry-after-ms'), '6500')
    assert.equal(limited.headers?.get('x-should-retry'), 'false')
    assert.equal(limited.headers?.get('x-ratelimit-reset-tokens'), '1ms')
    assert.match(limited.requestID ?? '', /^req_[0-9a-f]{32}$/)
  }
  assert.ok((await errorOf(create('sim:status=404'))) instanceof OpenAI.NotFoundError)
  assert.ok((await errorOf(create('sim:status=500'))) instanceof OpenAI.InternalServerError)
  assert.ok((await errorOf(create('sim:status=503'))) instanceof OpenAI.InternalServerError)
  const quota = await errorOf(create('sim:status=429,code=insufficient_quota'))
  assert.equal(quota.code, 'insufficient_quota')
})

test("OpenAI refusing the key behind a caller's is the proxy's fault, 502, and not a word of OpenAI's about that key", async () => {
  const organization = await system.organization()
  for (const isStream of [false, true]) {
    const call = organization.client().responses.create({ model: 'sim:status=401', input: 'hello', stream: isStream })
    const error = await errorOf(call)
    assert.ok(error instanceof OpenAI.InternalServerError)
    assert.deepEqual([error.status, error.code], [502, 'upstream_unauthorized'])
    assert.doesNotMatch(JSON.stringify([error.message, error.error]), /incorrect|platform\.openai|sk-/i)
  }
  const rows = await rowsOf(organization)
  assert.deepEqual(
    rows.map((row) => [row.status, row.error_code, row.http_status, row.cost_nano_usd]),
    Array(2).fill(['upstream_error', 'upstream_unauthorized', 401, '0']),
  )
})

test("the SDK's retries are calls of their own: one row and one request id each", async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const model = `sim:model=gpt-4o-mini,status=503,retry_after_ms=1,times=1,tag=${organization.id}`
  const answer = await organization.client().responses.create({ model, input: 'hello' }, { maxRetries: 2 })

  assert.equal(answer.output_text, 'You said: hello')
  const rows = await rowsOf(organization)
  assert.deepEqual(
    rows.map((row) => [row.status, row.http_status]),
    [
      ['upstream_error', 503],
      ['completed', 200],
    ],
  )
  assert.equal(rows[1]?.request_id, answer._request_id)
  assert.notEqual(rows[0]?.request_id, rows[1]?.request_id)
  const calls = system.simulator.ledger.entries().slice(callsBefore)
  assert.deepEqual(
    calls.map(({ requestHeaders }) => requestHeaders['x-stainless-retry-count']),
    ['0', '1'],
  )
})

test('an abort raises in the SDK and ends the call at OpenAI', async () => {
  const organization = await system.organization()
  const callsBefore = system.simulator.ledger.entries().length
  const abort = new AbortController()
  const call = organization
    .client()
    .responses.create({ model: 'sim:delay=600000', input: 'hello' }, { signal: abort.signal })
  const error = errorOf(call)
  await until('OpenAI is called', () => system.simulator.ledger.entries().length > callsBefore)
  abort.abort()

  assert.ok((await error) instanceof OpenAI.APIUserAbortError)
  await until('OpenAI is hung up on', () => system.simulator.ledger.entries()[callsBefore]?.clientClosed === true, 1000)
  await until('the row is written', async () => (await rowsOf(organization)).length === 1)
  assert.equal((await rowsOf(organization))[0]?.status, 'client_closed')
})

test('structured output, fields that the SDK does not know, and store:false pass through', async () => {
  const organization = await system.organization()
  const answer = await organization.client().responses.create({
    model: 'gpt-4o-mini',
    input: 'hello',
    store: false,
    text: {
      format: {
        type: 'json_schema',
        name: 'answer',
        schema: {
          type: 'object',
          properties: { n: { type: 'integer' } },
          required: ['n'],
          additionalProperties: false,
        },
      },
    },
    ...{ a_field_of_next_year: { yes: true } },
  })

  assert.ok(Number.isInteger(JSON.parse(answer.output_text).n))
  await assert.rejects(
    async () =>
      organization.client().responses.create({ model: 'gpt-4o-mini', input: 'more', previous_response_id: answer.id }),
    OpenAI.BadRequestError,
  )
})

test('a background response is begun, streamed or not, and recorded', async () => {
  const organization = await system.organization()
  const queued = await organization
    .client()
    .responses.create({ model: 'gpt-4o-mini', input: 'hello', background: true })
  const stream = await organization
    .client()
    .responses.create({ model: 'gpt-4o-mini', input: 'hello', background: true, stream: true })
  const events = await Array.fromAsync(stream)

  assert.equal(queued.status, 'queued')
  assert.equal(events.at(-1)?.type, 'response.completed')
  await until('both rows are written', async () => (await rowsOf(organization)).length === 2, 30_000)
})

test('two hundred calls at once through one client are each answered with their own answer', async () => {
  const organization = await system.organization()
  const client = organization.client()
  const answers = await Promise.all(
    Array.from({ length: 200 }, async (_, index) => {
      const request = { model: 'gpt-4o-mini', input: `number ${index}` }
      return index % 2 === 0 ? client.responses.create(request) : client.responses.stream(request).finalResponse()
    }),
  )

  assert.deepEqual(
    answers.map(({ output_text }) => output_text),
    Array.from({ length: 200 }, (_, index) => `You said: number ${index}`),
  )
  const rows = await rowsOf(organization)
  assert.equal(new Set(rows.map(({ response_id }) => response_id)).size, 200)
  assert.deepEqual(new Set(rows.map(({ response_id }) => response_id)), new Set(answers.map(({ id }) => id)))
})
