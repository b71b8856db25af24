import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { updatePolicies } from '../src/organizations/policies.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { askUntil } from './poll.ts'

const METRICS_TOKEN = 'metrics-of-this-test-installation'
const system = await startSystem({ METRICS_TOKEN })

async function scrape(url = system.url, token: string | null = METRICS_TOKEN) {
  const answer = await fetch(`${url}/metrics`, { headers: token === null ? {} : { authorization: `Bearer ${token}` } })
  return { status: answer.status, type: answer.headers.get('content-type'), text: await answer.text() }
}

/** Every sample, by name and labels as they stand in the text. */
async function samples(): Promise<Map<string, number>> {
  const { text } = await scrape()
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]))
}

/** What `work` added to each sample, those that did not change left out. */
async function addedBy(work: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = await samples()
  await work()
  await system.query('select 1')
  const after = await samples()
  const added = [...after].map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const)
  return Object.fromEntries(added.filter(([, difference]) => difference !== 0))
}

function ask(organization: TestOrganization, body: Record<string, unknown>, userId = 'alice') {
  return organization
    .fetch('/v1/responses', { method: 'POST', body: JSON.stringify({ input: 'hello', ...body }), userId })
    .then(async (answer) => ({ status: answer.status, text: await answer.text().catch(() => undefined) }))
}

test('metrics are for whoever has METRICS_TOKEN, or reaches ADMIN_PORT; without either there are none', async () => {
  const organization = await system.organization()

  for (const token of [null, '', 'wrong', `${METRICS_TOKEN}x`, organization.token, organization.syntheticKey]) {
    const refused = await scrape(system.url, token)
    assert.equal(refused.status, 401, String(token))
    assert.ok(!refused.text.includes('openai_proxy_'))
  }
  const allowed = await scrape()
  assert.deepEqual([allowed.status, allowed.type], [200, 'text/plain; version=0.0.4; charset=utf-8'])

  const without = await startSystem()
  assert.equal((await scrape(without.url, null)).status, 404)
  const apart = await startSystem({ ADMIN_PORT: '0' })
  assert.equal((await scrape(apart.url, null)).status, 404)
  assert.equal((await scrape(`http://127.0.0.1:${apart.server.adminPort}`, null)).status, 200)
  const both = await startSystem({ ADMIN_PORT: '0', METRICS_TOKEN })
  assert.equal((await scrape(`http://127.0.0.1:${both.server.adminPort}`, null)).status, 401)
  assert.equal((await scrape(both.url)).status, 404)
})

test('a call is counted once: by endpoint and outcome, its time, its tokens by kind and its cost to the nano-dollar', async () => {
  const organization = await system.organization()

  const added = await addedBy(async () => {
    await ask(organization, { model: 'sim:tokens=7,input=11,cached=4,model=gpt-4o-mini' })
    await ask(organization, { model: 'sim:tokens=9,input=13,reasoning=2,model=gpt-4o-mini', stream: true })
  })

  const [row] = await system.query<{ cost: string }>(
    'select sum(cost_nano_usd)::text as cost from attempts where organization_id = $1',
    [organization.id],
  )
  assert.equal(added['openai_proxy_requests_total{endpoint="responses.create",outcome="completed"}'], 2)
  assert.equal(added.openai_proxy_request_duration_seconds_count, 2)
  assert.equal(added.openai_proxy_time_to_first_event_seconds_count, 1)
  assert.equal(added.openai_proxy_overhead_seconds_count, 2)
  assert.equal(added['openai_proxy_tokens_total{kind="input"}'], 24)
  assert.equal(added['openai_proxy_tokens_total{kind="cached"}'], 4)
  assert.equal(added['openai_proxy_tokens_total{kind="output"}'], 18)
  assert.equal(added['openai_proxy_tokens_total{kind="reasoning"}'], 2)
  assert.equal(added['openai_proxy_settled_calls_total{usage="reported"}'], 2)
  assert.ok(Number(row?.cost) > 0)
  const { text } = await scrape()
  assert.match(
    text,
    new RegExp(
      `openai_proxy_cost_usd_total\\{model="gpt-4o-mini"\\} 0\\.${row?.cost.padStart(9, '0').replace(/0+$/, '')}\n`,
    ),
  )
})

test('what goes wrong is told apart: refusals by code, errors of OpenAI by kind, calls without a price', async () => {
  const organization = await system.organization()

  const added = await addedBy(async () => {
    await ask(organization, { model: 'sim:status=429' })
    await ask(organization, { model: 'sim:status=500' })
    await ask(organization, { model: 'sim:status=400' })
    await ask(organization, { model: 'sim:reset=head' })
    await ask(organization, { model: 'model-of-tomorrow' })
    await organization.fetch('/v1/responses', { method: 'POST', body: '{"model"', userId: 'alice' })
    await organization.fetch('/v1/responses', { method: 'POST', body: '{}', token: 'nonsense' })
    await organization.fetch('/v1/api/users', { token: 'nonsense' })
    await organization.fetch('/no/such/path')
  })

  assert.equal(added['openai_proxy_upstream_errors_total{kind="429"}'], 1)
  assert.equal(added['openai_proxy_upstream_errors_total{kind="5xx"}'], 1)
  assert.equal(added['openai_proxy_upstream_errors_total{kind="4xx"}'], 1)
  assert.equal(added['openai_proxy_upstream_errors_total{kind="unreachable"}'], 1)
  assert.equal(added['openai_proxy_requests_total{endpoint="responses.create",outcome="upstream_error"}'], 2)
  assert.equal(added['openai_proxy_requests_total{endpoint="responses.create",outcome="failed"}'], 2)
  assert.equal(added['openai_proxy_requests_total{endpoint="responses.create",outcome="refused"}'], 2)
  assert.equal(added['openai_proxy_requests_total{endpoint="administration",outcome="refused"}'], 2)
  assert.equal(added['openai_proxy_refusals_total{code="invalid_json"}'], 1)
  assert.equal(added['openai_proxy_refusals_total{code="invalid_authentication"}'], 2)
  assert.equal(added['openai_proxy_refusals_total{code="not_found"}'], 1)
  assert.ok((added.openai_proxy_unpriced_requests_total ?? 0) >= 1)
})

test('what is under way is seen while it is, and gone when it is over', async () => {
  const organization = await system.organization()
  const stream = await organization
    .client()
    .responses.create({ model: 'sim:tokens=5,stall_after=5,model=gpt-4o-mini', input: 'hello', stream: true })
  const under = await samples()

  stream.controller.abort()
  const over = await askUntil(samples, (now) => now.get('openai_proxy_in_flight_requests') === 0)

  assert.equal(under.get('openai_proxy_in_flight_requests'), 1)
  assert.equal(under.get('openai_proxy_in_flight_upstream_calls'), 1)
  assert.ok((under.get('openai_proxy_ledger_pending_records') ?? 0) >= 1)
  assert.ok((under.get('openai_proxy_journal_bytes') ?? 0) > 0)
  assert.equal(under.get('openai_proxy_journal_full'), 0)
  assert.equal(under.get('openai_proxy_invalidation_channel_down'), 0)
  assert.equal(over.get('openai_proxy_in_flight_requests'), 0)
  assert.equal(over.get('openai_proxy_request_body_bytes'), 0)
})

test('the number of series is bounded, whatever clients call their models, and no user, organization or id is in them', async () => {
  const organization = await system.organization()
  await updatePolicies(system.server.context, organization.admin, { content: 'none' })
  const userId = `user-${randomUUID()}`

  for (let turn = 0; turn < 60; turn += 1) {
    const model = `sim:model=gpt-4o-mini-${turn}"\\,tag=${randomUUID()}`
    await ask(organization, { model: turn % 2 === 0 ? model : `made-up-${randomUUID()}` }, userId)
  }
  const { text } = await scrape()

  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  assert.ok(lines.length <= 300, `${lines.length} series`)
  for (const secret of [userId, organization.id, 'made-up', organization.apiKeyId]) assert.ok(!text.includes(secret))
  for (const line of lines) assert.match(line, /^[a-z_]+(?:\{(?:[a-z]+="[\w.+-]+",?)+\})? [\d.e+-]+$/)
})

test('every metric that the dashboard asks for exists', async () => {
  const dashboard = readFileSync(join(import.meta.dirname, '../deploy/grafana/openai-proxy.json'), 'utf8')
  const { text } = await scrape()
  const names = new Set(
    [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].flatMap(([, name = '', type]) =>
      type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  )

  const expressions = [...dashboard.matchAll(/"expr": "((?:[^"\\]|\\.)*)"/g)].map(([, expression = '']) => expression)
  const asked = expressions.flatMap((expression) => expression.match(/\b(?:openai_proxy|process|nodejs)_\w+/g) ?? [])

  assert.ok(expressions.length >= 15 && asked.length >= expressions.length)
  assert.deepEqual(
    [...new Set(asked)].filter((name) => !names.has(name)),
    [],
  )
  // And what is measured is looked at.
  const unseen = [...names].filter(
    (name) => /^openai_proxy.*(?<!_sum|_count|_info)$/.test(name) && !dashboard.includes(name),
  )
  assert.deepEqual(unseen, [])
})
