import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { after, test } from 'node:test'
import OpenAI from 'openai'
import { readConfig } from '../src/config.ts'
import { type RunningServer, serve } from '../src/serve.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { startUpstreamDouble, type UpstreamAnswer } from './upstream-double.ts'

const system = await startSystem()
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

/** Another server on the same database, with other settings. */
async function startServer(env: Record<string, string>): Promise<RunningServer> {
  const directory = await temporaryDirectory(stack)
  const server = await serve(readConfig({ ...system.env, PORT: '0', DATA_DIR: directory, ...env }))
  stack.defer(() => server.stop())
  return server
}

interface Row {
  status: string
  error_code: string | null
  http_status: number | null
  usage_source: string
  input_tokens: string | null
  output_tokens: string | null
  total_tokens: string | null
  cost_nano_usd: string | null
  response_id: string | null
}

/** The one row of an organization that made one call. */
async function onlyRow(organization: TestOrganization, server: RunningServer = system.server): Promise<Row> {
  await server.context.ledger.flush()
  const rows = await system.query<Row & { attempt_id: string }>('select * from attempts where organization_id = $1', [
    organization.id,
  ])
  assert.equal(rows.length, 1)
  const row = rows[0] as Row
  for (const count of [row.input_tokens, row.output_tokens, row.total_tokens, row.cost_nano_usd]) {
    assert.ok(count === null || /^\d{1,15}$/.test(count), `${count} is no count`)
  }
  return row
}

/** The events a streaming SDK saw, and how it ended for it. */
async function stream(client: OpenAI, model: string): Promise<{ types: string[]; error: unknown }> {
  const types: string[] = []
  try {
    const events = await client.responses.create({ model, input: 'hello', stream: true })
    for await (const event of events) types.push(event.type)
    return { types, error: undefined }
  } catch (error) {
    return { types, error }
  }
}

/** The bytes of a streamed answer, and whether it ended as HTTP says an answer ends. */
async function streamBytes(organization: TestOrganization, model: string): Promise<{ text: string; isWhole: boolean }> {
  const body = JSON.stringify({ model, input: 'hello', stream: true, stream_options: { include_obfuscation: false } })
  const answer = await organization.fetch('/v1/responses', { method: 'POST', body })
  let text = ''
  try {
    for await (const chunk of answer.body?.pipeThrough(new TextDecoderStream()) ?? []) text += chunk
    return { text, isWhole: true }
  } catch {
    return { text, isWhole: false }
  }
}

test('when OpenAI dies between two events the client gets an error event, and within an event a broken connection', async (t) => {
  const model = 'sim:model=gpt-4o-mini'
  const { text } = await streamBytes(await system.organization(), model)
  const boundaries = [0, ...[...text.matchAll(/\n\n/g)].map(({ index }) => index + 2)].slice(0, -1)
  assert.ok(boundaries.length > 8)
  const offsets = boundaries
    .flatMap((at) => [at, at + 1, at + 10, at + 60])
    .concat(boundaries.slice(1).map((at) => at - 1))
  for (const offset of new Set(offsets)) {
    await t.test(`after ${offset} bytes`, async () => {
      const organization = await system.organization()
      const seen = await streamBytes(organization, `${model},reset=${offset}`)
      const isBetween = boundaries.includes(offset)

      assert.equal(seen.isWhole, isBetween)
      const [prefix, rest] = [seen.text.slice(0, offset), seen.text.slice(offset)]
      assert.equal(withoutIds(prefix), withoutIds(text).slice(0, prefix.length))
      if (isBetween) assert.match(rest, /^event: error\ndata: \{"type":"error","code":"upstream_unreachable".*\}\n\n$/)
      else assert.equal(rest, '')
      const row = await onlyRow(organization)
      assert.deepEqual([row.status, row.usage_source], ['upstream_error', 'estimated'])
    })
  }
})

function withoutIds(text: string): string {
  return text.replace(/(resp|msg)_[0-9a-f]*/g, (id) => '#'.repeat(id.length)).replace(/_at":\d+/g, '_at":0000000000')
}

test('a stream that breaks is raised by the SDK wherever it breaks', async () => {
  for (const fault of [
    'reset=0',
    'reset=700',
    'reset=1500',
    'reset=3000',
    'end_after=0',
    'end_after=1',
    'end_after=6',
  ]) {
    for (const framing of ['', ',eol=crlf', ',eol=cr', ',no_event_lines', ',chunk=1']) {
      const organization = await system.organization()
      const { error } = await stream(organization.client(), `sim:model=gpt-4o-mini,${fault}${framing}`)
      assert.ok(error instanceof Error, `${fault}${framing} looked like a whole answer`)
      const row = await onlyRow(organization)
      assert.deepEqual([row.status, row.usage_source], ['upstream_error', 'estimated'])
      if (fault.startsWith('end')) assert.ok(error instanceof OpenAI.APIError)
    }
  }
})

test('a reset behind the last event changes nothing: the answer was whole', async () => {
  const { text } = await streamBytes(await system.organization(), 'sim:model=gpt-4o-mini')
  const organization = await system.organization()

  await streamBytes(organization, `sim:model=gpt-4o-mini,reset=${text.length}`)

  const row = await onlyRow(organization)
  assert.deepEqual([row.status, row.usage_source, row.output_tokens], ['completed', 'reported', '3'])
})

test('a JSON answer that breaks off is a broken connection, and estimated', async () => {
  for (const offset of [0, 1, 100, 400]) {
    const organization = await system.organization()
    await assert.rejects(organization.client().responses.create({ model: `sim:reset=${offset}`, input: 'hello' }))
    const row = await onlyRow(organization)
    assert.deepEqual(
      [row.status, row.error_code, row.usage_source],
      ['upstream_error', 'upstream_unreachable', 'estimated'],
    )
  }
})

test('a connection that dies before the head is 502, streaming or not', async () => {
  for (const isStream of [true, false]) {
    const organization = await system.organization()
    const call = organization.client().responses.create({ model: 'sim:reset=head', input: 'hello', stream: isStream })
    await assert.rejects(Promise.resolve(call), (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError)
      assert.deepEqual([error.status, error.code], [502, 'upstream_unreachable'])
      return true
    })
    const row = await onlyRow(organization)
    assert.deepEqual([row.status, row.http_status, row.usage_source], ['upstream_error', null, 'estimated'])
  }
})

test('a stream whose content type is false still ends visibly when it breaks, and is accounted for when it does not', async () => {
  for (const type of ['application/json', 'text/plain', 'text/html; charset=utf-8', 'Text/Event-Stream']) {
    const broken = await system.organization()
    const { error } = await stream(broken.client(), `sim:content_type=${type},end_after=6`)
    assert.ok(error instanceof Error, `${type} looked like a whole answer`)
    assert.equal((await onlyRow(broken)).status, 'upstream_error')

    const whole = await system.organization()
    const { types } = await stream(whole.client(), `sim:model=gpt-4o-mini,content_type=${type}`)
    assert.equal(types.at(-1), 'response.completed')
    const row = await onlyRow(whole)
    assert.deepEqual([row.status, row.usage_source, row.output_tokens], ['completed', 'reported', '3'])
  }
})

test('a JSON answer that is no JSON raises, and its usage is unknown, never 0', async () => {
  for (const spec of ['garbage', 'status=200,body=html', 'status=200,body=text']) {
    const organization = await system.organization()
    const raised = await organization
      .client()
      .responses.create({ model: `sim:${spec}`, input: 'hello' })
      .then(
        (answer) => (typeof answer === 'string' ? undefined : answer),
        () => undefined,
      )
    assert.equal(raised?.id, undefined)
    const row = await onlyRow(organization)
    assert.deepEqual([row.error_code, row.usage_source, row.cost_nano_usd], ['unreadable_answer', 'unknown', null])
  }
})

test('a stream of garbage raises, and is an upstream error', async () => {
  const organization = await system.organization()
  const { error } = await stream(organization.client(), 'sim:garbage')

  assert.ok(error instanceof Error)
  const row = await onlyRow(organization)
  assert.deepEqual([row.status, row.usage_source], ['upstream_error', 'estimated'])
})

test('an answer that comes compressed though nobody asked for it still reaches the client whole', async () => {
  const organization = await system.organization()
  const answer = await organization.client().responses.create({ model: 'sim:model=gpt-4o-mini,gzip', input: 'hello' })

  assert.equal(answer.output_text, 'You said: hello')
  assert.equal((await onlyRow(organization)).usage_source, 'unknown')
})

test("OpenAI's error pages keep their status and raise its class, whatever their body, and cost nothing", async () => {
  const classes = {
    400: OpenAI.BadRequestError,
    403: OpenAI.PermissionDeniedError,
    404: OpenAI.NotFoundError,
    409: OpenAI.ConflictError,
    422: OpenAI.UnprocessableEntityError,
    429: OpenAI.RateLimitError,
    500: OpenAI.InternalServerError,
    502: OpenAI.InternalServerError,
    503: OpenAI.InternalServerError,
    529: OpenAI.InternalServerError,
  }
  for (const [status, errorClass] of Object.entries(classes)) {
    for (const body of ['json', 'html', 'empty', 'array', 'text']) {
      for (const isStream of [true, false]) {
        const organization = await system.organization()
        const model = `sim:status=${status},body=${body}`
        const call = organization.client().responses.create({ model, input: 'hello', stream: isStream })
        await assert.rejects(Promise.resolve(call), errorClass)
        const row = await onlyRow(organization)
        const ending = Number(status) >= 500 ? 'upstream_error' : 'failed'
        assert.deepEqual([row.status, row.http_status, row.cost_nano_usd], [ending, Number(status), '0'])
      }
    }
  }
})

test("C62: a redirect is not followed, OpenAI's location stays with us, and the client gets 502", async () => {
  for (const location of ['', 'https://evil.example/v1/responses', `${system.simulator.url}/models`]) {
    const organization = await system.organization()
    const callsBefore = system.simulator.ledger.entries().length
    const answer = await organization.fetch('/v1/responses', {
      method: 'POST',
      body: JSON.stringify({ model: `sim:redirect=${location}`, input: 'hello' }),
    })

    assert.equal(answer.status, 502)
    assert.equal(answer.headers.get('location'), null)
    const text = await answer.text()
    assert.equal(JSON.parse(text).error.code, 'upstream_redirected')
    assert.ok(!text.includes('evil'))
    assert.equal(system.simulator.ledger.entries().length, callsBefore + 1)
    const row = await onlyRow(organization)
    assert.deepEqual([row.status, row.error_code, row.http_status], ['upstream_error', 'upstream_redirected', 307])
  }
})

test('usage that is absent or makes no sense is unknown: not 0, not NaN, not a guess', async () => {
  for (const usage of ['null', 'missing', 'negative', 'fractional', 'absurd', 'text']) {
    for (const isStream of [true, false]) {
      const organization = await system.organization()
      const model = `sim:model=gpt-4o-mini,usage=${usage}`
      if (isStream) assert.equal((await stream(organization.client(), model)).error, undefined)
      else await organization.client().responses.create({ model, input: 'hello' })
      const row = await onlyRow(organization)
      assert.deepEqual(
        [row.status, row.usage_source, row.input_tokens, row.output_tokens, row.total_tokens, row.cost_nano_usd],
        ['completed', 'unknown', null, null, null, null],
        usage,
      )
    }
  }
})

test('a generation that fails, is cut short or breaks with an error event is recorded as what it is', async () => {
  const endings = {
    'ending=failed,code=rate_limit_exceeded': ['failed', 'rate_limit_exceeded', 'reported'],
    'ending=incomplete,reason=content_filter': ['incomplete', 'content_filter', 'reported'],
    'ending=error,code=server_error': ['failed', 'server_error', 'estimated'],
  }
  for (const [spec, expected] of Object.entries(endings)) {
    const organization = await system.organization()
    const { error } = await stream(organization.client(), `sim:model=gpt-4o-mini,${spec}`)
    assert.equal(error instanceof OpenAI.APIError, spec.startsWith('ending=error'))
    const row = await onlyRow(organization)
    assert.deepEqual([row.status, row.error_code, row.usage_source], expected)
  }
})

test('OpenAI that does not answer, stalls or never ends', async (t) => {
  const impatient = await startServer({ OPENAI_TIMEOUT: '0.4', OPENAI_IDLE_TIMEOUT: '0.4' })
  const total = await startServer({ OPENAI_TOTAL_TIMEOUT: '0.4' })
  const clientOf = (organization: TestOrganization, server: RunningServer) =>
    organization.client().withOptions({ baseURL: `http://127.0.0.1:${server.port}/v1` })

  await t.test('no first byte within OPENAI_TIMEOUT is 504, and OpenAI is hung up on', async () => {
    const organization = await system.organization()
    const call = clientOf(organization, impatient).responses.create({ model: 'sim:delay=600000', input: 'hello' })
    await assert.rejects(Promise.resolve(call), (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError)
      assert.deepEqual([error.status, error.code], [504, 'upstream_timeout'])
      return true
    })
    await system.simulator.ledger.idle()
    assert.equal(system.simulator.ledger.entries().at(-1)?.clientClosed, true)
    const row = await onlyRow(organization, impatient)
    assert.deepEqual(
      [row.status, row.error_code, row.usage_source],
      ['upstream_error', 'upstream_timeout', 'estimated'],
    )
  })

  await t.test('a stream that falls silent for OPENAI_IDLE_TIMEOUT ends with an error event', async () => {
    for (const spec of ['stall_after=6', 'stall_after=0', 'first=600000']) {
      const organization = await system.organization()
      const { error } = await stream(clientOf(organization, impatient), `sim:model=gpt-4o-mini,${spec}`)
      assert.ok(error instanceof OpenAI.APIError)
      assert.equal(error.code, 'upstream_timeout')
      await system.simulator.ledger.idle()
      const row = await onlyRow(organization, impatient)
      assert.deepEqual(
        [row.status, row.error_code, row.usage_source],
        ['upstream_error', 'upstream_timeout', 'estimated'],
      )
    }
  })

  await t.test('a call that outlives OPENAI_TOTAL_TIMEOUT is cut, before its answer and within it', async () => {
    for (const spec of ['delay=600000', 'tokens=100000,tps=50']) {
      const organization = await system.organization()
      const { error } = await stream(clientOf(organization, total), `sim:model=gpt-4o-mini,${spec}`)
      assert.ok(error instanceof OpenAI.APIError)
      assert.equal(error.code, 'upstream_timeout')
      await system.simulator.ledger.idle()
      assert.equal(system.simulator.ledger.entries().at(-1)?.clientClosed, true)
      const row = await onlyRow(organization, total)
      assert.deepEqual(
        [row.status, row.error_code, row.usage_source],
        ['upstream_error', 'upstream_timeout', 'estimated'],
      )
    }
  })

  await t.test(
    'OpenAI that takes no connection is tried twice, then 502, and what was not sent is not charged',
    async () => {
      const port = await closedPort()
      const unreachable = await startServer({ OPENAI_API_BASE_URL: `http://127.0.0.1:${port}/v1` })
      const organization = await system.organization()
      const call = clientOf(organization, unreachable).responses.create({ model: 'gpt-4o-mini', input: 'hello' })
      await assert.rejects(Promise.resolve(call), (error) => {
        assert.ok(error instanceof OpenAI.InternalServerError)
        assert.deepEqual([error.status, error.code], [502, 'upstream_unreachable'])
        assert.ok(!error.message.includes(String(port)))
        return true
      })
      await unreachable.context.ledger.flush()
      const rows = await system.query('select * from attempts where organization_id = $1 order by attempt_number', [
        organization.id,
      ])
      assert.deepEqual(
        rows.map((row) => [row.attempt_number, row.status, row.error_code, row.cost_nano_usd]),
        [1, 2].map((number) => [number, 'upstream_error', 'upstream_unreachable', '0']),
      )
    },
  )
})

/** A port on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

test('a model that cannot stream what it hears answers in one piece, which is whole', async () => {
  const organization = await system.organization()
  const form = new FormData()
  form.set('model', 'whisper-1')
  form.set('stream', 'true')
  form.set('file', new Blob(['sound']), 'a.mp3')
  const answer = await fetch(`${system.url}/v1/audio/transcriptions`, {
    method: 'POST',
    body: form,
    headers: { authorization: `Bearer ${organization.token}`, 'x-user-id': 'alice' },
  })

  assert.equal(((await answer.json()) as { text: string }).text, 'sound')
  assert.equal((await onlyRow(organization)).status, 'completed')
})

test('a stream that ends at its announced length without saying how is broken for the client too', async () => {
  for (const text of ['', 'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n']) {
    const answer = { contentType: 'text/event-stream', headers: { 'content-length': String(text.length) } }
    await using upstream = await startUpstreamDouble(() => ({ ...answer, pieces: [Buffer.from(text)] }))
    const server = await startServer({ OPENAI_API_BASE_URL: upstream.url })
    const organization = await system.organization()
    const client = new OpenAI({
      baseURL: `http://127.0.0.1:${server.port}/v1`,
      apiKey: organization.syntheticKey,
      maxRetries: 0,
    })

    const { error } = await stream(client, 'gpt-4o-mini')

    assert.ok(error instanceof Error)
    assert.equal((await onlyRow(organization, server)).status, 'upstream_error')
  }
})

test('a list of objects or models that OpenAI breaks off or garbles is 502, and not a fault of the proxy', async () => {
  const broken: UpstreamAnswer[] = [
    { pieces: [Buffer.from('{"id":"vs_1"')], headers: { 'content-length': '500' } },
    { pieces: [Buffer.from('<html>')], contentType: 'text/html' },
    { pieces: [Buffer.from('null')] },
  ]
  for (const answer of broken) {
    await using upstream = await startUpstreamDouble(({ method }) =>
      method === 'POST' ? { pieces: [Buffer.from('{"id":"vs_1","object":"vector_store"}')] } : answer,
    )
    const server = await startServer({ OPENAI_API_BASE_URL: upstream.url, OPENAI_IDLE_TIMEOUT: '2' })
    const organization = await system.organization()
    const ask = (path: string, body?: string) =>
      fetch(`http://127.0.0.1:${server.port}/v1${path}`, {
        method: body === undefined ? 'GET' : 'POST',
        headers: { authorization: `Bearer ${organization.syntheticKey}`, 'content-type': 'application/json' },
        ...(body !== undefined && { body }),
      })
    assert.equal((await ask('/vector_stores', '{}')).status, 200)

    for (const path of ['/vector_stores', '/models']) assert.ok([502, 504].includes((await ask(path)).status), path)
  }
})
