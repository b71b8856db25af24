/** What a caller can get of a persona's text: nothing. The OpenAI here repeats it wherever it could, and in pieces of any size. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { readConfig } from '../src/config.ts'
import { updatePolicies } from '../src/organizations/policies.ts'
import { createPersona, deletePersona } from '../src/personas/service.ts'
import { serve } from '../src/serve.ts'
import { startSystem, type TestOrganization, temporaryDirectory } from './harness.ts'
import { startUpstreamDouble, type UpstreamAnswer, type UpstreamCall } from './upstream-double.ts'

const SENTINEL = 'SENTINEL-5d1c'
const CONTENT = `You are ${SENTINEL}, who helps the customers of {{company}}. "Never" tell them \\ this — é:\n${SENTINEL}.`
const OWN = 'My own instructions, in which there is no secret.'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
/** By response id, as OpenAI would keep them. */
const stored = new Map<string, { instructions: unknown; input: unknown }>()
let lastId = 0
const upstream = stack.use(await startUpstreamDouble(repeatEverything))
const system = await startSystem({ OPENAI_API_BASE_URL: upstream.url })
const { context } = system.server

const BEHAVIOURS = ['ok', 'json400', 'json429', 'html500', 'response500', 'array400', 'huge400', 'wrong_form', 'gzip']
const STREAM_BEHAVIOURS = [
  'ok',
  'crlf',
  'no_event_lines',
  'failed',
  'incomplete',
  'error_event',
  'broken',
  'json_instead',
]

test('no answer of any kind has a persona in it, in pieces of one byte, of seven, or whole', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization)

  for (const size of [1, 7, 100_000]) {
    for (const [stream, behaviours] of [
      [false, BEHAVIOURS],
      [true, [...STREAM_BEHAVIOURS, ...BEHAVIOURS.slice(1)]],
    ] as const) {
      for (const behaviour of behaviours) {
        const { text, status } = await ask(organization, { persona_id: id, stream, behaviour, size })
        if (behaviour === 'gzip' || (behaviour === 'wrong_form' && !stream)) assert.equal(status, 502)
        assert.ok(!text.includes(SENTINEL) && !text.includes('Never'), `${behaviour}, ${size}: ${text.slice(0, 500)}`)
      }
    }
  }
  assert.ok(upstream.calls.length > 0 && upstream.calls.every(({ raw }) => raw.includes(SENTINEL)), 'it was sent')
})

test('a stream and a JSON answer lose nothing but the echo, which is null, and the length that no longer holds', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization)

  const whole = await ask(organization, { persona_id: id, behaviour: 'ok', size: 10 })
  const streamed = await ask(organization, { persona_id: id, behaviour: 'ok', size: 10, stream: true })

  const response = JSON.parse(whole.text)
  assert.equal(response.instructions, null)
  assert.equal(response.output[0].content[0].text, 'instructions')
  assert.equal(whole.headers.get('content-length'), null)
  const events = eventsIn(streamed.text)
  assert.deepEqual(
    events.map(({ type }) => type),
    [...LIFECYCLE, 'response.output_text.delta', 'keepalive', 'response.completed'],
  )
  for (const event of events.filter(({ response }) => response)) assert.equal(event.response?.instructions, null)
  assert.match(streamed.text, /"big":9223372036854775807/)
})

test('an error that quotes the persona keeps its status and code, and one that does not passes byte for byte', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization)

  const quoting = await ask(organization, { persona_id: id, behaviour: 'json400', size: 3 })
  const harmless = await ask(organization, { persona_id: id, behaviour: 'harmless400', size: 3 })

  assert.equal(quoting.status, 400)
  const { error } = JSON.parse(quoting.text)
  assert.deepEqual([error.code, error.param], ['invalid_value', 'instructions'])
  assert.match(error.message, /not shown/)
  assert.deepEqual([harmless.status, harmless.text], [400, HARMLESS])
})

test('nothing of it comes back when the response is read, streamed, listed or cancelled, from another server, and after the persona is deleted', async () => {
  const second = await serve(readConfig({ ...system.env, DATA_DIR: await temporaryDirectory(stack) }))
  stack.defer(() => second.stop())
  const organization = await system.organization()
  const { id } = await newPersona(organization)
  const { text } = await ask(organization, { persona_id: id, behaviour: 'ok', size: 10 })
  const { id: responseId } = JSON.parse(text)
  await deletePersona(context, organization.admin, id)

  const seen: string[] = []
  for (const url of [system.url, `http://127.0.0.1:${second.port}`]) {
    for (const [method, path] of [
      ['GET', ''],
      ['GET', '?stream=true&starting_after=0'],
      ['GET', '?include[]=instructions'],
      ['GET', '/input_items'],
      ['GET', '?fail=json400'],
      ['POST', '/cancel'],
      ['DELETE', ''],
    ]) {
      const response = await fetch(`${url}/v1/responses/${responseId}${path}`, {
        method: method ?? '',
        headers: { authorization: `Bearer ${organization.token}`, 'x-user-id': 'alice' },
      })
      const answer = await response.text()
      assert.ok(!answer.includes(SENTINEL), `${method} ${path}: ${answer}`)
      seen.push(answer)
    }
  }

  assert.equal(JSON.parse(seen[0] ?? '').instructions, null)
  assert.ok(eventsIn(seen[1] ?? '').length > 3)
  assert.match(seen[3] ?? '', /"data":\[/)
})

test('a response made without a persona is read byte for byte, also behind one that was made with it', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization)
  const first = JSON.parse((await ask(organization, { persona_id: id, behaviour: 'ok', size: 9 })).text)
  const fields = { behaviour: 'ok', size: 9, instructions: OWN, previous_response_id: first.id }

  const { text, headers } = await ask(organization, fields)
  const read = await organization.fetch(`/v1/responses/${JSON.parse(text).id}`)

  assert.equal(JSON.parse(text).instructions, OWN)
  assert.equal(headers.get('content-length'), String(Buffer.byteLength(text)))
  assert.equal(JSON.parse(await read.text()).instructions, OWN)
})

test('where both are sent, the caller’s own instructions do not bring the persona back', async () => {
  const organization = await system.organization()
  await updatePolicies(context, organization.admin, { personas: 'append' })
  const { id } = await newPersona(organization)

  for (const stream of [false, true]) {
    const { text } = await ask(organization, { persona_id: id, instructions: OWN, behaviour: 'ok', size: 5, stream })
    assert.ok(!text.includes(SENTINEL) && !text.includes(OWN), text)
  }
  assert.ok(upstream.calls.at(-1)?.raw.includes(OWN))
})

test('what is kept of requests has the persona’s id and not its text; the text is read with org:admin alone', async () => {
  const organization = await system.organization()
  const { id } = await newPersona(organization)
  const { headers } = await ask(organization, { persona_id: id, behaviour: 'ok', size: 50 })
  const inference = await organization.createToken({ scopes: ['inference'] })
  const requestId = headers.get('x-request-id')

  const content = await (await organization.fetch(`/v1/requests/${requestId}/content`)).text()
  const paths = ['', `/${id}`, `/${id}/versions`, `/${id}/versions/1`, `/${id}/diff?from=1&to=1`]
  for (const path of paths) {
    for (const token of [inference, organization.syntheticKey]) {
      const refused = await organization.fetch(`/v1/personas${path}`, { token })
      assert.equal(refused.status, 403, path)
      assert.ok(!(await refused.text()).includes(SENTINEL))
    }
    assert.ok((await (await organization.fetch(`/v1/personas${path}`)).text()).includes(SENTINEL), path)
  }

  assert.ok(content.includes(id) && !content.includes(SENTINEL), content)
})

const HARMLESS =
  '{ "error" : {"message":"Unsupported value: \'temperature\'.","type":"x","param":"temperature","code":null} }'
const LIFECYCLE = ['response.created', 'response.queued', 'response.in_progress']

/** The worst that could come: the instructions in each place there is. */
function repeatEverything({ method, path, body }: UpstreamCall): UpstreamAnswer {
  const url = new URL(path, 'http://upstream')
  const known = stored.get(url.pathname.split('/')[3] ?? '')
  if (method !== 'POST' || known) {
    const { instructions, input } = known ?? {}
    if (url.searchParams.has('fail')) return failure('json400', instructions, 2)
    if (url.pathname.endsWith('/input_items')) return json({ object: 'list', data: [input] }, 5)
    const response = responseWith('resp_x', 'completed', instructions)
    return url.searchParams.get('stream') === 'true' ? events(response, 'ok', 3) : json(response, 4)
  }
  const { instructions, input, behaviour = 'ok', size = 1, stream } = body ?? {}
  lastId += 1
  const id = `resp_secret_${lastId}`
  stored.set(id, { instructions, input })
  const response = responseWith(id, 'completed', instructions)
  if (stream && (behaviour === 'ok' || STREAM_BEHAVIOURS.includes(String(behaviour)))) {
    return events(response, String(behaviour), Number(size))
  }
  return behaviour === 'ok' ? json(response, Number(size)) : failure(String(behaviour), instructions, Number(size))
}

function responseWith(id: string, status: string, instructions: unknown) {
  return {
    id,
    object: 'response',
    status,
    error: status === 'failed' ? { code: 'server_error', message: `It said: ${instructions}` } : null,
    instructions,
    output: [{ type: 'message', content: [{ type: 'output_text', text: 'instructions' }] }],
    big: '#',
    usage: { input_tokens: 5, output_tokens: 1, total_tokens: 6 },
  }
}

function events(response: ReturnType<typeof responseWith>, behaviour: string, size: number): UpstreamAnswer {
  if (behaviour === 'json_instead') return json(response, size)
  const { instructions } = response
  const last = behaviour === 'failed' || behaviour === 'incomplete' ? behaviour : 'completed'
  const all: object[] = [
    ...LIFECYCLE.map((type) => ({ type, response })),
    { type: 'response.output_text.delta', delta: 'instructions' },
    { type: 'keepalive' },
    behaviour === 'error_event'
      ? { type: 'error', code: 'x', message: `Refused: ${instructions}`, param: null }
      : { type: `response.${last}`, response: responseWith(response.id, last, instructions) },
  ]
  const text = all
    .map((event) => {
      const data = JSON.stringify(event).replaceAll('"#"', '9223372036854775807')
      return `${behaviour === 'no_event_lines' ? '' : `event: ${(event as { type: string }).type}\n`}data: ${data}\n\n`
    })
    .join('')
  const cut = behaviour === 'broken' ? text.slice(0, text.lastIndexOf(SENTINEL) + 20) : text
  const lines = behaviour === 'crlf' ? cut.replaceAll('\n', '\r\n') : cut
  return { contentType: 'text/event-stream', headers: hostileHeaders(instructions), pieces: cutInto(lines, size) }
}

function failure(behaviour: string, instructions: unknown, size: number): UpstreamAnswer {
  const message = `Invalid 'instructions': ${instructions}`
  const error = { message, type: 'invalid_request_error', param: 'instructions', code: 'invalid_value' }
  const headers = hostileHeaders(instructions)
  const answers: Record<string, UpstreamAnswer> = {
    json400: { status: 400, pieces: cutInto(JSON.stringify({ error }), size) },
    json429: { status: 429, pieces: cutInto(JSON.stringify({ error, instructions }), size) },
    html500: { status: 500, contentType: 'text/html', pieces: cutInto(`<html>${instructions}</html>`, size) },
    response500: { status: 500, pieces: cutInto(JSON.stringify(responseWith('r', 'failed', instructions)), size) },
    array400: { status: 400, pieces: cutInto(JSON.stringify([instructions]), size) },
    huge400: { status: 400, pieces: cutInto(JSON.stringify({ error, pad: 'x'.repeat(70_000) }), Math.max(size, 999)) },
    wrong_form: { status: 200, pieces: cutInto(JSON.stringify([{ instructions }]), size) },
    gzip: {
      status: 200,
      headers: { 'content-encoding': 'gzip' },
      pieces: cutInto(JSON.stringify({ instructions }), size),
    },
    harmless400: { status: 400, pieces: cutInto(HARMLESS, size) },
  }
  const answer = answers[behaviour]
  assert.ok(answer, behaviour)
  return { ...answer, headers: { ...headers, ...answer.headers } }
}

function json(value: object, size: number): UpstreamAnswer {
  const { instructions } = value as { instructions?: unknown }
  const text = JSON.stringify(value).replaceAll('"#"', '9223372036854775807')
  return { headers: hostileHeaders(instructions), pieces: cutInto(text, size) }
}

function hostileHeaders(instructions: unknown): Record<string, string> {
  const text = encodeURIComponent(String(instructions))
  return { 'x-instructions': text, 'openai-debug': text, 'set-cookie': `a=${text}`, server: text }
}

function cutInto(text: string, size: number): Buffer[] {
  const bytes = Buffer.from(text)
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size))
}

function newPersona(organization: TestOrganization) {
  const variables = { company: 'Acme' }
  return createPersona(context, organization.admin, { name: 'Secret', content: CONTENT, variables })
}

async function ask(organization: TestOrganization, fields: object) {
  const body = JSON.stringify({ model: 'm', input: 'hi', ...fields })
  const response = await organization.fetch('/v1/responses', { method: 'POST', body })
  let text = ''
  try {
    for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString('latin1')
  } catch {
    // Cut in the middle: what came is what counts.
  }
  for (const [name, value] of response.headers) assert.ok(!value.includes(SENTINEL), name)
  return { status: response.status, headers: response.headers, text: Buffer.from(text, 'latin1').toString() }
}

function eventsIn(text: string): { type: string; response?: { instructions: unknown } }[] {
  return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data ?? ''))
}
