import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { repriceLedger } from '../src/ledger/maintenance.ts'
import { parsePriceOverlay } from '../src/ledger/price-table.ts'
import { openPriceTable } from '../src/ledger/pricing.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { addPersona, record } from './record.ts'

const system = await startSystem()

// biome-ignore lint/suspicious/noExplicitAny: what an answer holds is what the tests are about
type Json = any

test('every rating is kept with who gave it, and the last one counts', async () => {
  const organization = await system.organization()
  const answer = await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'rate me' })
  const requestId = String(answer._request_id)
  const bobs = await organization.createToken({ externalUserId: 'alice' })

  await rate(organization, requestId, { rating: 1, feedback: 'good' }, { userId: 'carol' })
  await rate(organization, answer.id, { rating: -1 }, { userId: null })
  await rate(organization, answer.id, { rating: 1, feedback: 'after all' }, { userId: null, token: bobs })
  const byKey = await organization.fetch(`/v1/responses/${answer.id}/rate`, {
    method: 'POST',
    body: '{"rating":-1}',
    userId: null,
    token: organization.syntheticKey,
  })

  assert.equal(byKey.status, 200, await byKey.text())
  const [byRequest, byResponse] = await Promise.all(
    [requestId, answer.id].map(async (id) => read(organization, `/v1/requests/${id}/ratings`)),
  )
  assert.deepEqual(byRequest, byResponse)
  assert.equal(byRequest.request_id, requestId)
  assert.deepEqual(
    byRequest.ratings.map((rating: Json) => [rating.rating, rating.feedback, rating.rated_by_user]),
    [
      [1, 'good', 'carol'],
      [-1, null, null],
      [1, 'after all', 'alice'],
      [-1, null, null],
    ],
  )
  const raters = byRequest.ratings.map((rating: Json) => rating.rated_by)
  assert.match(raters.join(' '), /^token:\S+ token:\S+ token:\S+ key:\S+$/)
  assert.equal(raters[3], `key:${organization.apiKeyId}`)
  assert.notEqual(raters[2], raters[0])
  const { all } = await read(organization, '/v1/analytics/ratings')
  assert.deepEqual([all.rating_count, all.satisfied_count, all.satisfied_share], [1, 0, 0])
})

test('feedback that is erased is gone from the history too; rating without any leaves what was said before', async () => {
  const organization = await system.organization()
  const answer = await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'rate me' })
  await rate(organization, answer.id, { rating: 1, feedback: 'my address is' })
  await rate(organization, answer.id, { rating: -1 })
  const feedback = async () => {
    const { ratings } = await read(organization, `/v1/requests/${answer.id}/ratings`)
    return ratings.map((rating: Json) => rating.feedback)
  }
  const before = await feedback()

  await system.query('update ratings set feedback = null where organization_id = $1', [organization.id])

  assert.deepEqual(before, ['my address is', null])
  assert.deepEqual(await feedback(), [null, null])
})

test('ratings at the same time are all kept, one after the other', async () => {
  const organization = await system.organization()
  const answer = await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'rate me' })

  await Promise.all(
    Array.from({ length: 20 }, (_, index) => rate(organization, answer.id, { rating: index % 2 === 0 ? 1 : -1 })),
  )

  const { ratings } = await read(organization, `/v1/requests/${answer.id}/ratings`)
  const { rated_responses: rated } = await read(organization, '/v1/analytics/rated-responses')
  assert.equal(ratings.length, 20)
  assert.deepEqual([rated.length, rated[0].rating], [1, ratings.at(-1).rating])
})

test('a rating by somebody else than the credential is bound to is refused, and a user who is none too', async () => {
  const organization = await system.organization()
  const answer = await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'rate me' })
  const alices = await organization.createToken({ externalUserId: 'alice' })
  const send = (userId: string, token = organization.token) =>
    organization.fetch(`/v1/responses/${answer.id}/rate`, { method: 'POST', body: '{"rating":1}', userId, token })

  assert.equal((await send('bob', alices)).status, 403)
  assert.equal((await send('null')).status, 400)
  assert.equal((await send('alice', alices)).status, 200)
  assert.equal((await read(organization, `/v1/requests/${answer.id}/ratings`)).ratings.length, 1)
})

test('C44: a text of a megabyte is a 413, HTML stays text', async () => {
  const organization = await system.organization()
  const answer = await organization.client().responses.create({ model: 'gpt-4o-mini', input: '<b>rate</b> me' })
  const html = '<script>alert(1)</script>'

  const big = await organization.fetch(`/v1/responses/${answer.id}/rate`, {
    method: 'POST',
    body: JSON.stringify({ rating: 1, feedback: 'x'.repeat(1024 * 1024) }),
  })
  await rate(organization, answer.id, { rating: 1, feedback: html })

  assert.equal(big.status, 413)
  const { rated_responses: rated } = await read(organization, '/v1/analytics/rated-responses')
  assert.deepEqual([rated[0].rating_feedback, rated[0].input_preview], [html, '<b>rate</b> me'])
})

test('rated answers come newest first with the beginning of what was said, whatever it holds, and by filter', async () => {
  const organization = await system.organization()
  const ids: string[] = []
  for (const [userId, input, stream] of [
    ['alice', 'plain', false],
    ['bob', 'with \u0000 in it', false],
    ['alice', `streamed ${'long '.repeat(60)}`, true],
  ] as const) {
    const response = await organization.fetch('/v1/responses', {
      method: 'POST',
      userId,
      headers: { 'x-session-id': 'sess_rated' },
      body: JSON.stringify({ model: 'gpt-4o-mini', input, stream }),
    })
    await response.text()
    const id = String(response.headers.get('x-request-id'))
    ids.unshift(id)
    await rate(organization, id, { rating: userId === 'bob' ? -1 : 1 })
  }

  const report = await read(organization, '/v1/analytics/rated-responses')
  const list = async (query: string) => {
    const { rated_responses: rated, ...counts } = await read(organization, `/v1/analytics/rated-responses?${query}`)
    return [rated.length, counts.total_count, counts.positive_count, counts.negative_count, counts.neutral_count]
  }

  assert.deepEqual(
    report.rated_responses.map((rated: Json) => rated.request_id),
    ids,
  )
  const [streamed, odd, plain] = report.rated_responses
  assert.deepEqual([plain.input_preview, plain.output_preview], ['plain', 'You said: plain'])
  assert.equal(odd.input_preview, 'with  in it')
  assert.equal(streamed.input_preview, `streamed ${'long '.repeat(60)}`.slice(0, 100))
  assert.match(streamed.output_preview, /^You said: streamed long /)
  assert.deepEqual([plain.user_id, odd.user_id, plain.model], ['alice', 'bob', 'gpt-4o-mini-2024-07-18'])
  assert.deepEqual(await list(''), [3, 3, 2, 1, 0])
  assert.deepEqual(await list('user_id=bob'), [1, 1, 0, 1, 0])
  assert.deepEqual(await list('rating=1'), [2, 2, 2, 0, 0])
  assert.deepEqual(await list('rating=0'), [0, 0, 0, 0, 0])
  assert.deepEqual(await list('session_id=sess_other'), [0, 0, 0, 0, 0])
  assert.deepEqual(await list('limit=1&offset=2'), [1, 3, 2, 1, 0])
  const pages: string[] = []
  for (let cursor = ''; ; ) {
    const page = await read(organization, `/v1/analytics/rated-responses?limit=1${cursor}`)
    pages.push(...page.rated_responses.map((rated: Json) => rated.request_id))
    if (page.next_cursor === null) break
    cursor = `&cursor=${page.next_cursor}`
  }
  assert.deepEqual(pages, ids)
})

test('without content there is a rating without previews', async () => {
  const organization = await system.organization()
  await system.query(
    `insert into organization_policies (organization_id, content) values ($1, 'none')
     on conflict (organization_id) do update set content = 'none'`,
    [organization.id],
  )
  const request = `req_${randomUUID()}`
  await record(system, organization.id, [{ request }])
  await rate(organization, request, { rating: 1 })

  const { rated_responses: rated } = await read(organization, '/v1/analytics/rated-responses')

  assert.deepEqual([rated[0].input_preview, rated[0].output_preview], ['Input not available', 'Output not available'])
})

test('satisfaction is by persona version, persona, model and user, with its interval and its cost, exact', async () => {
  const organization = await system.organization()
  const persona = await addPersona(system, organization.id, { name: 'Support', isDeleted: true })
  const [alice, bob] = [await organization.createUser('alice'), await organization.createUser('bob')]
  const rows = Array.from({ length: 30 }, (_, index) => ({
    request: `req_${randomUUID()}`,
    user: index % 3 === 0 ? alice : bob,
    persona,
    version: 1 + (index % 2),
    model: index % 5 === 0 ? 'unpriced' : 'gpt-4o',
    cost: index % 5 === 0 ? null : 1001 + index,
  }))
  await record(system, organization.id, [...rows, { cost: 5_000_000 }])
  for (const [index, { request }] of rows.entries()) {
    await rate(organization, request, { rating: index % 4 === 0 ? -1 : 1 })
  }
  const expected = (of: (row: (typeof rows)[number]) => boolean) => {
    const rated = rows.map((row, index) => ({ ...row, isSatisfied: index % 4 !== 0 })).filter(of)
    const priced = rated.filter(({ cost }) => cost !== null)
    const [cost, satisfied] = [
      priced.reduce((sum, row) => sum + Number(row.cost), 0),
      priced.filter(({ isSatisfied }) => isSatisfied).length,
    ]
    return [
      rated.length,
      rated.filter(({ isSatisfied }) => isSatisfied).length,
      rated.length - priced.length,
      priced.length === 0 ? null : String(cost),
      satisfied === 0 ? null : String(Math.floor((2 * cost + satisfied) / (2 * satisfied))),
    ]
  }
  const figures = (group: Json) => [
    group.rating_count,
    group.satisfied_count,
    group.unpriced_count,
    group.rated_cost_nano_usd,
    group.cost_per_satisfied_answer_nano_usd,
  ]
  const by = async (group: string) =>
    (await read(organization, `/v1/analytics/ratings?group_by=${group}`)).groups as Json[]

  for (const group of await by('version')) {
    assert.deepEqual([group.persona_id, group.persona_name], [persona, 'Support'])
    assert.deepEqual(
      figures(group),
      expected(({ version }) => version === group.persona_version),
    )
  }
  for (const group of await by('model'))
    assert.deepEqual(
      figures(group),
      expected(({ model }) => model === group.model),
    )
  for (const group of await by('user')) {
    assert.deepEqual(
      figures(group),
      expected(({ user }) => user === group.internal_user_id),
    )
    assert.equal(group.user_id, group.internal_user_id === alice ? 'alice' : 'bob')
  }
  assert.deepEqual((await by('persona')).map(figures), [expected(() => true)])
  const { all } = await read(organization, '/v1/analytics/ratings')
  assert.deepEqual(
    figures(all),
    expected(() => true),
  )
  assert.deepEqual([all.satisfied_share, all.satisfied_share_low, all.satisfied_share_high], [0.7333, 0.5555, 0.8582])
  const ofBob = await read(organization, `/v1/analytics/ratings?user_id=bob&persona_id=${persona}`)
  assert.deepEqual(
    figures(ofBob.all),
    expected(({ user }) => user === bob),
  )
  const before = await read(organization, '/v1/analytics/ratings?end_date=2020-01-01')
  assert.deepEqual([before.groups, before.all.satisfied_share, before.all.rated_cost_nano_usd], [[], null, '0'])
})

test('a price that is corrected holds for what was rated as well', async () => {
  const organization = await system.organization()
  const answer = await organization.client().responses.create({ model: 'soon-priced', input: 'hi' })
  await rate(organization, answer.id, { rating: 1 })
  const before = await read(organization, '/v1/analytics/ratings?group_by=model')
  const prices = openPriceTable({
    overlay: parsePriceOverlay({ models: { 'soon-priced': { input_mtok: 1, output_mtok: 1 } } }),
  })

  const range = { from: new Date(Date.now() - 3_600_000), to: new Date(Date.now() + 3_600_000), isDryRun: false }
  await repriceLedger({ db: system.server.context.db, prices }, range)

  const after = await read(organization, '/v1/analytics/ratings?group_by=model')
  assert.deepEqual(
    [before.all.cost_per_satisfied_answer_nano_usd, before.all.rated_cost_nano_usd, before.all.unpriced_count],
    [null, null, 1],
  )
  // 1 token in, 3 tokens out.
  assert.deepEqual([after.all.cost_per_satisfied_answer_nano_usd, after.all.unpriced_count], ['4000', 0])
})

async function rate(
  organization: TestOrganization,
  id: string,
  rating: { rating: number; feedback?: string },
  as: { userId?: string | null; token?: string } = {},
): Promise<void> {
  const body = JSON.stringify(rating)
  const answer = await organization.fetch(`/v1/responses/${id}/rate`, { method: 'POST', body, ...as })
  assert.equal(answer.status, 200, await answer.text())
}

async function read(organization: TestOrganization, path: string): Promise<Json> {
  const answer = await organization.fetch(path)
  const text = await answer.text()
  assert.equal(answer.status, 200, `${path}: ${text}`)
  return JSON.parse(text)
}
