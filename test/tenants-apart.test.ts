/** Two organizations whose every name and id is the same: what one sees is what it would see alone. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { parsePeriod } from '../src/analytics/period.ts'
import { reportSatisfaction } from '../src/analytics/ratings.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { addPersona, record } from './record.ts'

const system = await startSystem()

/** The same in both. */
const IDS = { user: randomUUID(), key: randomUUID(), persona: randomUUID() }
const REQUEST = `req_${'a'.repeat(32)}`
const RESPONSE = `resp_${'b'.repeat(32)}`
const DAY = '2026-10-05'

interface Twin {
  organization: TestOrganization
  /** In no report of the other. */
  sentinel: string
  requests: number
  cost: number
}

test('in every report, list, search, export and error there is only what is one’s own, whatever the query asks for', async () => {
  const [own, other] = [await newTwin('own', 3, 1000), await newTwin('other', 7, 1_000_000)]
  const reports = [
    'models',
    'user-usage',
    'user-usage?user_id=alice',
    'personas',
    'personas?user_id=alice',
    `personas/${IDS.persona}`,
    'sessions',
    'sessions?user_id=alice',
    'rated-responses',
    'rated-responses?session_id=sess_same',
    ...['persona', 'version', 'model', 'user', 'none'].map((group) => `ratings?group_by=${group}`),
    ...['', 'organization', 'user', 'key', 'persona', 'version', 'model', 'session', 'user,model,session'].flatMap(
      (group) => ['hour', 'day', 'month', 'total'].map((interval) => `usage?interval=${interval}&group_by=${group}`),
    ),
    `usage?persona_id=${IDS.persona}&api_key_id=${IDS.key}&user_id=alice&model=gpt-4o&session_id=sess_same`,
    'usage?group_by=user&tz=Asia/Tokyo',
  ].map((report) => `/v1/analytics/${report}${report.includes('?') ? '&' : '?'}start_date=${DAY}&end_date=${DAY}`)
  const lists = ['/v1/api/users', '/v1/api/keys', '/v1/personas', '/v1/persona-defaults']
  lists.push(`/v1/requests/${REQUEST}/ratings`, `/v1/requests/${RESPONSE}/ratings`, `/v1/requests/${REQUEST}/content`)

  for (const path of [...reports, ...lists]) {
    for (const twin of [own, other]) {
      const stranger = twin === own ? other : own
      const plain = await read(twin, path)
      assert.equal(plain.status, 200, `${path}: ${plain.text}`)
      assertOwn(plain.text, twin, stranger, path)
      for (const trick of tricksOf(stranger)) {
        const tricked = await read(twin, `${path}${path.includes('?') ? '&' : '?'}${trick}`)
        assert.equal(withoutNow(tricked.text), withoutNow(plain.text), `${path} with ${trick}`)
      }
      const csv = await read(twin, path, { accept: 'text/csv', 'x-organization-id': stranger.organization.id })
      assertOwn(csv.text, twin, stranger, `${path} as CSV`)
    }
  }
  assert.ok(reports.length > 50)
})

test('sums are those of one’s own rows, to the nano-dollar', async () => {
  for (const twin of [await newTwin('one', 2, 10), await newTwin('two', 5, 100_000)]) {
    for (const report of ['models', 'user-usage', 'personas', 'sessions']) {
      const { text } = await read(twin, `/v1/analytics/${report}?start_date=${DAY}&end_date=${DAY}`)
      const { total_requests, total_cost_nano_usd } = JSON.parse(text)
      assert.deepEqual([total_requests, total_cost_nano_usd], [twin.requests, String(twin.cost)], report)
    }
    const { context } = system.server
    const period = parsePeriod({ start: DAY, end: DAY })
    const { all } = await reportSatisfaction(context, twin.organization.admin, { period, groupBy: 'none' })
    assert.deepEqual([all.ratingCount, all.costNanoUsd], [1, BigInt(twin.cost / twin.requests)])
  }
})

test("what only the other has is not found, in the words for what never was, and a cursor of the other's shows one's own", async () => {
  const [own, other] = [await newTwin('a', 1, 1), await newTwin('b', 4, 4)]
  const persona = await addPersona(system, other.organization.id, { name: 'Theirs' })
  const request = `req_${randomUUID()}`
  await record(system, other.organization.id, [{ persona, request, session: 'theirs', at: `${DAY}T13:00:00Z` }])

  for (const path of [(id: string) => `/v1/analytics/personas/${id}`, (id: string) => `/v1/requests/${id}/ratings`]) {
    const [foreignId, unknownId] = path('').includes('personas')
      ? [persona, randomUUID()]
      : [request, `req_${randomUUID()}`]
    const [foreign, unknown] = [await read(own, path(foreignId)), await read(own, path(unknownId))]
    assert.deepEqual([foreign.status, unknown.status], [404, 404])
    assert.equal(foreign.text.replaceAll(foreignId, 'x'), unknown.text.replaceAll(unknownId, 'x'))
  }
  for (const filter of [`persona_id=${persona}`, 'session_id=theirs', 'session_id=%', 'user_id=%']) {
    const { text } = await read(own, `/v1/analytics/usage?start_date=${DAY}&end_date=${DAY}&${filter}`)
    assert.deepEqual(JSON.parse(text).usage, [], filter)
  }
  for (const report of ['usage?group_by=session&interval=hour', 'sessions?', 'rated-responses?']) {
    const path = `/v1/analytics/${report}&start_date=${DAY}&end_date=${DAY}`
    const page = JSON.parse((await read(other, `${path}&limit=1`)).text)
    if (page.next_cursor === null) continue
    const tricked = await read(own, `${path}&cursor=${page.next_cursor}`)
    assert.equal(tricked.status, 200, tricked.text)
    assertOwn(tricked.text, own, other, report)
  }
})

async function newTwin(name: string, requests: number, costEach: number): Promise<Twin> {
  const organization = await system.organization()
  const sentinel = `SENTINEL-${name}-${randomUUID()}`
  await system.query("update organizations set name = 'Same' where id = $1", [organization.id])
  await system.query("insert into users (organization_id, id, external_id) values ($1, $2, 'alice')", [
    organization.id,
    IDS.user,
  ])
  await system.query(
    `insert into api_keys (organization_id, id, name, key_hash, key_prefix, key_last4, upstream_key_sealed)
     values ($1, $2, 'Same', sha256($3::bytea), 'sk-proxy-same', 'same', 'x')`,
    [organization.id, IDS.key, sentinel],
  )
  await addPersona(system, organization.id, { id: IDS.persona, name: 'Same', userId: IDS.user })
  await record(
    system,
    organization.id,
    Array.from({ length: requests }, (_, index) => ({
      at: `${DAY}T${10 + index}:00:00Z`,
      user: IDS.user,
      key: IDS.key,
      persona: IDS.persona,
      version: 1,
      session: 'sess_same',
      request: index === 0 ? REQUEST : `req_${index}`,
      response: index === 0 ? RESPONSE : null,
      cost: costEach,
    })),
  )
  const rated = await organization.fetch(`/v1/responses/${RESPONSE}/rate`, {
    method: 'POST',
    body: JSON.stringify({ rating: 1, feedback: sentinel }),
  })
  assert.equal(rated.status, 200, await rated.text())
  return { organization, sentinel, requests, cost: requests * costEach }
}

function assertOwn(text: string, own: Twin, other: Twin, path: string): void {
  for (const foreign of [other.sentinel, other.organization.id, other.organization.apiKeyId]) {
    assert.ok(!text.includes(foreign), `${path} shows ${foreign}`)
  }
  if (/rated-responses|\/req_.*ratings|\/resp_.*ratings/.test(path)) assert.ok(text.includes(own.sentinel), path)
}

function tricksOf({ organization: { id } }: Twin): string[] {
  return [
    `org_id=${id}`,
    `org_id[]=${id}`,
    `organization_id=${id}`,
    `organization_id[]=${id}`,
    `organizationId=${id}`,
    `filter[organization_id]=${id}`,
    `__proto__[organization_id]=${id}`,
  ]
}

async function read(twin: Twin, path: string, headers: Record<string, string> = {}) {
  const answer = await twin.organization.fetch(path, { headers, userId: null })
  return { status: answer.status, text: await answer.text() }
}

/** Nothing here depends on when it is asked, but for what says so. */
function withoutNow(text: string): string {
  return text.replaceAll(/"(?:created_at|updated_at)":"[^"]*"/g, '')
}
