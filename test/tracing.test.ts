import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { startSystem, type TestOrganization } from './harness.ts'
import { askUntil } from './poll.ts'

interface ReceivedSpan {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: { key: string; value: Record<string, unknown> }[]
  status: { code?: number }
}

/** A collector: keeps what it is sent, or refuses it. */
const collector = {
  status: 200,
  spans: [] as ReceivedSpan[],
  headers: [] as (string | undefined)[],
  bodies: [] as string[],
}
const listener = createServer(async (request, response) => {
  const body = (await json(request)) as {
    resourceSpans: { resource: unknown; scopeSpans: { spans: ReceivedSpan[] }[] }[]
  }
  collector.bodies.push(JSON.stringify(body))
  collector.headers.push(request.headers['x-collector-key'] as string | undefined)
  if (collector.status === 200 && request.url === '/v1/traces') {
    collector.spans.push(...body.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)))
  }
  response.writeHead(collector.status, { 'content-type': 'application/json' }).end('{}')
})
await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
after(() => listener.close())

const system = await startSystem({
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
  OTEL_EXPORTER_OTLP_HEADERS: 'x-collector-key=s%3Dcret',
  METRICS_TOKEN: 'metrics-of-this-test-installation',
})
const quiet = await startSystem()

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN_ID = '00f067aa0ba902b7'

function ask(
  organization: TestOrganization,
  headers: Record<string, string> = {},
  model = 'sim:tokens=5,input=9,model=gpt-4o-mini',
) {
  const body = JSON.stringify({ model, input: 'a question nobody may see', stream: true })
  return organization.fetch('/v1/responses', { method: 'POST', body, headers }).then((answer) => answer.text())
}

/** The two spans of a request, its own first. */
async function spansOf(traceId: string): Promise<ReceivedSpan[]> {
  const find = async () => collector.spans.filter((span) => span.traceId === traceId).sort((a, b) => a.kind - b.kind)
  return askUntil(find, (spans) => spans.length >= 2)
}

function attributesOf(span: ReceivedSpan | undefined): Record<string, unknown> {
  return Object.fromEntries((span?.attributes ?? []).map(({ key, value }) => [key, Object.values(value)[0]]))
}

function lastCallHeaders(simulator = system.simulator) {
  return simulator.ledger.entries().at(-1)?.requestHeaders ?? {}
}

test("a request joins its caller's trace, the call to OpenAI hangs below it, and both say what happened without any content", async () => {
  const organization = await system.organization()

  await ask(organization, { traceparent: `00-${TRACE_ID}-${SPAN_ID}-01`, tracestate: 'vendor=1' })
  const [server, client] = await spansOf(TRACE_ID)

  const sent = lastCallHeaders()
  assert.deepEqual([server?.kind, client?.kind], [2, 3])
  assert.equal(server?.parentSpanId, SPAN_ID)
  assert.equal(client?.parentSpanId, server?.spanId)
  assert.equal(sent.traceparent, `00-${TRACE_ID}-${client?.spanId}-01`)
  assert.equal(sent.tracestate, 'vendor=1')
  assert.equal(client?.name, 'chat sim:tokens=5,input=9,model=gpt-4o-mini')
  const { 'gen_ai.response.id': responseId, ...attributes } = attributesOf(client)
  assert.match(String(responseId), /^resp_/)
  assert.deepEqual(attributes, {
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'openai',
    'gen_ai.request.model': 'sim:tokens=5,input=9,model=gpt-4o-mini',
    'gen_ai.response.model': 'gpt-4o-mini-2024-07-18',
    'gen_ai.response.finish_reasons': { values: [{ stringValue: 'completed' }] },
    'gen_ai.usage.input_tokens': '9',
    'gen_ai.usage.cache_read.input_tokens': '0',
    'gen_ai.usage.output_tokens': '5',
    'openai.response.service_tier': 'default',
    'server.address': '127.0.0.1',
    'server.port': new URL(system.simulator.url).port,
    'http.response.status_code': '200',
  })
  assert.equal(attributesOf(server)['openai_proxy.organization.id'], organization.id)
  assert.equal(attributesOf(server)['openai_proxy.outcome'], 'completed')
  for (const span of [server, client]) {
    assert.ok(BigInt(span?.endTimeUnixNano ?? 0) >= BigInt(span?.startTimeUnixNano ?? 1))
    assert.ok(Math.abs(Number(BigInt(span?.startTimeUnixNano ?? 0) / 1_000_000n) - Date.now()) < 60_000)
  }
  assert.ok(collector.headers.every((value) => value === 's=cret'))
  const everything = collector.bodies.join()
  for (const secret of ['nobody may see', organization.token, organization.syntheticKey, 'alice']) {
    assert.ok(!everything.includes(secret), secret)
  }
})

test('C34: a traceparent that is none is neither believed nor passed on; a trace that nobody asked for begins here', async () => {
  const organization = await system.organization()
  const bad = [
    '00-00000000000000000000000000000000-00f067aa0ba902b7-01',
    `00-${TRACE_ID}-0000000000000000-01`,
    `ff-${TRACE_ID}-${SPAN_ID}-01`,
    `00-${TRACE_ID.toUpperCase()}-${SPAN_ID}-01`,
    `00-${TRACE_ID}-${SPAN_ID}-01-more`,
    `00-${TRACE_ID}-${SPAN_ID}`,
    `${'9'.repeat(5000)}`,
  ]
  for (const traceparent of bad) {
    await ask(organization, { traceparent })
    const sent = String(lastCallHeaders().traceparent)
    assert.match(sent, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
    const spans = await spansOf(sent.slice(3, 35))
    assert.equal(spans.length, 2, traceparent)
    assert.equal(spans[0]?.parentSpanId, undefined)
  }

  const quietOrganization = await quiet.organization()
  for (const traceparent of bad) {
    await ask(quietOrganization, { traceparent, tracestate: 'vendor=1' })
    const { traceparent: sent, tracestate } = lastCallHeaders(quiet.simulator)
    assert.deepEqual([sent, tracestate], [undefined, undefined], traceparent)
  }
  await ask(quietOrganization, { traceparent: `00-${TRACE_ID}-${SPAN_ID}-00` })
  assert.equal(lastCallHeaders(quiet.simulator).traceparent, `00-${TRACE_ID}-${SPAN_ID}-00`)
})

test('a trace that its caller does not sample is passed on and not exported; failures are marked as such', async () => {
  const organization = await system.organization()
  const unsampled = TRACE_ID.replace('4', '5')
  const failing = TRACE_ID.replace('4', '6')

  await ask(organization, { traceparent: `00-${unsampled}-${SPAN_ID}-00` })
  const sent = String(lastCallHeaders().traceparent)
  await ask(organization, { traceparent: `00-${failing}-${SPAN_ID}-01` }, 'sim:status=500')
  const spans = await spansOf(failing)

  assert.match(sent, new RegExp(`^00-${unsampled}-[0-9a-f]{16}-00$`))
  assert.notEqual(sent.slice(36, 52), SPAN_ID)
  assert.deepEqual(
    spans.map(({ status }) => status.code),
    [2, 2],
  )
  assert.equal(attributesOf(spans[1])['error.type'], 'server_error')
  assert.equal(
    collector.spans.some(({ traceId }) => traceId === unsampled),
    false,
  )
})

test('a collector in trouble costs spans, which are counted, and nothing else', async () => {
  const organization = await system.organization()
  const dropped = async () => {
    const headers = { authorization: 'Bearer metrics-of-this-test-installation' }
    const text = await (await fetch(`${system.url}/metrics`, { headers })).text()
    return Number(/^openai_proxy_spans_dropped_total (\d+)$/m.exec(text)?.[1])
  }
  assert.equal(await dropped(), 0)
  collector.status = 503

  const answer = await ask(organization)
  const count = await askUntil(dropped, (found) => found >= 2)
  collector.status = 200

  assert.match(answer, /response\.completed/)
  assert.equal(count, 2)
})
