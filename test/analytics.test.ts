import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import { resolveModel } from '../simulator/models.ts'
import { verifyLedger } from '../src/ledger/maintenance.ts'
import { startSystem, type TestOrganization } from './harness.ts'
import { addPersona, type Recorded, record } from './record.ts'

const system = await startSystem()

// biome-ignore lint/suspicious/noExplicitAny: what an answer holds is what the tests are about
type Json = any

/** Nano-dollars for each token, from OpenAI's price list. */
const RATES: Record<string, { input: number; cached: number; output: number }> = {
  'gpt-4o-mini-2024-07-18': { input: 150, cached: 75, output: 600 },
  'gpt-4o-2024-08-06': { input: 2500, cached: 1250, output: 10_000 },
}

test("reports equal an independent sum over OpenAI's own ledger, to the token and the nano-dollar", async () => {
  const organization = await system.organization()
  const before = system.simulator.ledger.entries().length
  const calls: [user: string, model: string, stream: boolean][] = []
  for (const user of ['alice', 'bob', 'carol']) {
    for (const model of ['gpt-4o', 'gpt-4o-mini', 'model-without-price'])
      calls.push([user, model, false], [user, model, true])
  }
  calls.push(['alice', 'gpt-4o', false], ['dave', 'no-such-model', false])
  for (const [userId, model, stream] of calls) {
    const client = organization.client({ userId })
    const input = `${userId} asks ${model} something ${'again '.repeat(calls.length % 7)}`
    const answer = client.responses.create({ model, input, stream })
    if (model.startsWith('no-such')) await assert.rejects(answer)
    else if (stream) await Array.fromAsync((await answer) as AsyncIterable<unknown>)
    else await answer
  }

  const served = system.simulator.ledger.entries().slice(before)
  const truth = { requests: 0, input: 0, output: 0, cost: 0n, unpriced: 0, failed: 0 }
  const byModel = new Map<string, typeof truth>()
  for (const { model, usage } of served) {
    const name = resolveModel(model ?? '')
    const rate = RATES[name]
    const used = usage ?? { input_tokens: 0, cached_tokens: 0, output_tokens: 0 }
    const isUnpriced = rate === undefined && usage !== null
    const cost = rate
      ? (used.input_tokens - used.cached_tokens) * rate.input +
        used.cached_tokens * rate.cached +
        used.output_tokens * rate.output
      : 0
    const group = byModel.get(name) ?? { ...truth, cost: 0n, requests: 0, input: 0, output: 0, unpriced: 0, failed: 0 }
    byModel.set(name, group)
    for (const sums of [truth, group]) {
      sums.requests += 1
      sums.input += used.input_tokens
      sums.output += used.output_tokens
      sums.cost += BigInt(cost)
      sums.unpriced += isUnpriced ? 1 : 0
      sums.failed += usage === null ? 1 : 0
    }
  }
  await system.query('select 1')
  const [models, users, sessions] = await Promise.all(
    ['models', 'user-usage', 'sessions'].map((name) => get(organization, name)),
  )

  assert.equal(truth.requests, calls.length)
  assert.ok(truth.cost > 0n && truth.unpriced === 6 && truth.failed === 1)
  for (const report of [models, users, sessions]) {
    assert.equal(report.total_requests, truth.requests)
    assert.equal(report.total_cost_nano_usd, String(truth.cost))
    assert.equal(report.total_cost, Number(truth.cost) / 1e9)
    assert.equal(report.unpriced_requests, truth.unpriced)
  }
  for (const row of models.models) {
    const expected = byModel.get(row.model)
    assert.ok(expected, row.model)
    const { request_count, failure_count, input_tokens, output_tokens, unpriced_count } = row
    assert.deepEqual(
      [request_count, failure_count, input_tokens, output_tokens, unpriced_count],
      [expected.requests, expected.failed, expected.input, expected.output, expected.unpriced],
      row.model,
    )
    assert.equal(row.total_cost_nano_usd, expected.unpriced > 0 ? null : String(expected.cost), row.model)
  }
  assert.equal(models.models.length, byModel.size)
  for (const group of ['', 'user', 'key', 'model', 'session', 'user,model', 'persona', 'version,key', 'organization']) {
    for (const interval of ['hour', 'day', 'month', 'total']) {
      const rows = await allPages(organization, `usage?interval=${interval}&group_by=${group}`)
      const sum = (field: string) => rows.reduce((total, row) => total + BigInt(row[field] ?? 0), 0n)
      assert.deepEqual(
        [sum('request_count'), sum('input_tokens'), sum('output_tokens'), sum('total_cost_nano_usd')],
        [BigInt(truth.requests), BigInt(truth.input), BigInt(truth.output), truth.cost],
        `${group} by ${interval}`,
      )
    }
  }
})

test('a request that was tried again is one request, whichever of its rows comes first', async () => {
  const organization = await system.organization()
  const failed = { status: 'upstream_error', input: 0, output: 0, cost: 0, model: null }
  for (const order of [
    [1, 2, 3],
    [3, 2, 1],
    [2, 1, 3],
    [1, 2],
  ]) {
    const request = `req_${randomUUID()}`
    const last = Math.max(...order)
    for (const attempt of order)
      await record(system, organization.id, [{ request, attempt, ...(attempt < last && failed) }])
  }
  const together = { request: `req_${randomUUID()}` }
  await record(system, organization.id, [
    { ...together, attempt: 2 },
    { ...together, ...failed },
  ])

  const { models, total_requests } = await get(organization, 'models')

  assert.equal(total_requests, 5)
  assert.deepEqual(
    models.map((model: Json) => [model.model, model.request_count, model.success_count, model.failure_count]),
    [['gpt-4o', 5, 5, 0]],
  )
  await verifySums()
})

test('sums move with rows that are added and changed, and verify sees when somebody changes one of them', async () => {
  const organization = await system.organization()
  const persona = randomUUID()
  const users = [randomUUID(), randomUUID(), null]
  await record(
    system,
    organization.id,
    Array.from({ length: 200 }, (_, index) => ({
      at: new Date(Date.UTC(2026, 9, 20) + index * 1_234_567),
      user: users[index % 3] ?? null,
      session: `s${index % 11}`,
      model: index % 5 === 0 ? null : `model-${index % 4}`,
      status: ['completed', 'failed', 'client_closed', 'incomplete', 'interrupted'][index % 5] ?? '',
      cost: index % 7 === 0 ? null : index,
      ...(index % 2 === 0 && { persona, version: 1 + (index % 3) }),
    })),
  )
  await verifySums()
  await system.query(
    'update attempts set cost_nano_usd = coalesce(cost_nano_usd, 0) + 7, duration_ms = 5 where organization_id = $1 and persona_version = 2',
    [organization.id],
  )
  await verifySums()

  for (const [table, change] of [
    ['usage_daily', 'output_tokens = output_tokens + 1'],
    ['usage_daily', "last_request_at = last_request_at - interval '1 second'"],
    ['usage_slices', 'cost_nano_usd = cost_nano_usd - 1'],
    ['sessions', 'request_count = request_count + 1'],
  ]) {
    const key = table === 'sessions' ? 'owner_id, session_id' : 'last_request_at, model'
    const back = `update ${table} set ${change?.replaceAll(/[+-] (?=1|interval)/g, (sign) => (sign === '+ ' ? '- ' : '+ '))}`
    const one = `where ctid = (select ctid from ${table} where organization_id = $1 order by ${key} limit 1)`
    await system.query(`update ${table} set ${change} ${one}`, [organization.id])
    const { wrongSums } = await verify()
    assert.equal(wrongSums.length, 1, `${table}: ${JSON.stringify(wrongSums)}`)
    assert.ok(wrongSums[0]?.sum.startsWith(String(table)))
    await system.query(`${back} ${one}`, [organization.id])
    await verifySums()
  }
  await system.query("delete from sessions where organization_id = $1 and session_id = 's1'", [organization.id])
  assert.ok((await verify()).wrongSums.length > 0)
  await system.query('delete from attempts where organization_id = $1', [organization.id])
  for (const table of ['usage_daily', 'usage_slices', 'sessions']) {
    await system.query(`delete from ${table} where organization_id = $1`, [organization.id])
  }
})

test('hours, days and months are those of the zone, also where its clocks change, and every way of summing agrees', async () => {
  const organization = await system.organization()
  const user = await organization.createUser('alice')
  const rows: Recorded[] = []
  // Around changes of the clocks in Berlin, Lord Howe and Havana, where midnight comes twice.
  for (const around of [
    '2026-03-29T01:00:00Z',
    '2026-04-04T15:00:00Z',
    '2026-10-25T01:00:00Z',
    '2026-11-01T05:00:00Z',
  ]) {
    for (let step = -140; step <= 140; step += 1) {
      const at = new Date(Date.parse(around) + step * 17 * 60_000 + (step % 3) * 1000)
      rows.push({ at, user: step % 2 === 0 ? user : null, model: `m${step % 3}`, input: 200 + step, cost: 1 })
    }
  }
  await record(system, organization.id, rows)

  for (const tz of [
    'UTC',
    'Europe/Berlin',
    'Asia/Kolkata',
    'Asia/Kathmandu',
    'Australia/Lord_Howe',
    'America/Havana',
  ]) {
    for (const interval of ['hour', 'day', 'month']) {
      const truth = bucketsOf(rows, tz, interval)
      for (const group of ['', 'model', 'user', 'user,model']) {
        const path = `usage?interval=${interval}&tz=${tz}&group_by=${group}&start_date=2026-03-01&end_date=2026-11-20&limit=97`
        const found = new Map<string, number>()
        const starts = new Map<string, Set<string>>()
        for (const row of await allPages(organization, path)) {
          found.set(row.date, (found.get(row.date) ?? 0) + row.input_tokens)
          starts.set(row.date, (starts.get(row.date) ?? new Set()).add(row.starts_at))
        }
        assert.deepEqual(Object.fromEntries(found), Object.fromEntries(truth), `${interval} of ${tz} by ${group}`)
        // Only an hour can come twice.
        if (interval !== 'hour') for (const [date, all] of starts) assert.equal(all.size, 1, date)
      }
    }
    const day = await get(organization, `models?tz=${tz}&start_date=2026-10-25&end_date=2026-10-25`)
    const expected = bucketsOf(rows, tz, 'day').get('2026-10-25')
    assert.equal(sumOf(day.models, 'input_tokens'), expected, tz)
  }
  for (const [tz, place] of [
    ['CET', 'Europe/Brussels'],
    ['eet', 'Europe/Athens'],
    ['MET', 'Europe/Brussels'],
    ['WET', 'Europe/Lisbon'],
  ]) {
    const summer = 'start_date=2026-07-01&end_date=2026-07-01'
    const named = await get(organization, `models?tz=${tz}&${summer}`)
    assert.deepEqual(named, await get(organization, `models?tz=${place}&${summer}`), `${tz} has summer time`)
  }
  const twice = await get(
    organization,
    'usage?interval=hour&tz=Europe/Berlin&start_date=2026-10-25T02:00:00%2B02:00&end_date=2026-10-25T03:00:00%2B01:00',
  )
  assert.deepEqual(
    twice.usage.map((row: Json) => [row.date, row.starts_at]),
    [
      ['2026-10-25T02:00', '2026-10-25T00:00:00.000Z'],
      ['2026-10-25T02:00', '2026-10-25T01:00:00.000Z'],
    ],
  )
})

test('a day as the end is included whole, a time is not, and the parts of a period add up to it to the second', async () => {
  const organization = await system.organization()
  const user = await organization.createUser('alice')
  const minutes = Array.from({ length: 400 }, (_, index) => Date.UTC(2026, 9, 10) + index * 13 * 60_000)
  const at = minutes.map((minute) => new Date(minute))
  await record(
    system,
    organization.id,
    at.map((time, index) => ({ at: time, user, model: `m${index % 2}`, input: index })),
  )
  const countIn = async (report: string, start: string, end: string, field = 'total_requests') =>
    (await get(organization, `${report}?start_date=${start}&end_date=${end}`))[field]
  const truth = (start: string, end: string) =>
    at.filter((time) => time >= new Date(start) && time < new Date(end)).length

  for (const report of ['models', 'user-usage']) {
    assert.equal(await countIn(report, '2026-10-10', '2026-10-10'), truth('2026-10-10', '2026-10-11'))
    assert.equal(await countIn(report, '2026-10-10', '2026-10-12'), truth('2026-10-10', '2026-10-13'))
    for (const [start, end] of [
      ['2026-10-10T00:00:00Z', '2026-10-10T00:13:00Z'],
      ['2026-10-10T00:13:00Z', '2026-10-10T00:13:00.001Z'],
      ['2026-10-10T07:07:07Z', '2026-10-12T21:20:19.999Z'],
      ['2026-10-10T23:59:00Z', '2026-10-11T00:01:00Z'],
      ['2026-10-10T03:00:00+02:00', '2026-10-12T03:00:00-05:30'],
    ] as const) {
      const [from, to] = [encodeURIComponent(start), encodeURIComponent(end)]
      assert.equal(await countIn(report, from, to), truth(start, end), `${report} from ${start} to ${end}`)
    }
    const cuts = ['2026-10-10T00:00:00Z', '2026-10-10T11:11:11.111Z', '2026-10-11T00:00:00Z', '2026-10-14T00:00:00Z']
    const parts = await Promise.all(cuts.slice(1).map((end, index) => countIn(report, cuts[index] ?? '', end)))
    assert.equal(
      parts.reduce((a, b) => a + b),
      400,
    )
  }
})

test('a series is the same whatever the size of its pages, and a cursor is good for its own report only', async () => {
  const organization = await system.organization()
  const users = await Promise.all(['alice', 'bob', 'carol'].map((name) => organization.createUser(name)))
  const rows = Array.from({ length: 120 }, (_, index) => ({
    at: new Date(Date.UTC(2026, 8, 1) + index * 5 * 3_600_000),
    user: users[index % 3] ?? null,
    model: `m${index % 2}`,
    session: `s${index % 7}`,
  }))
  await record(system, organization.id, rows)
  const period = 'start_date=2026-09-01&end_date=2026-09-30'

  for (const query of [
    'group_by=model',
    'group_by=user',
    'group_by=user&tz=Asia/Tokyo',
    'interval=hour&group_by=user,session',
  ]) {
    const whole = await get(organization, `usage?${period}&${query}&limit=1000`)
    assert.equal(whole.next_cursor, null)
    for (const limit of [1, 7, 60]) {
      assert.deepEqual(await allPages(organization, `usage?${period}&${query}&limit=${limit}`), whole.usage, query)
    }
  }
  const { next_cursor: cursor } = await get(organization, `usage?${period}&group_by=user&limit=1`)
  const changed = (change: (place: Json[]) => unknown) => {
    const place = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    return Buffer.from(JSON.stringify(change(place))).toString('base64url')
  }
  for (const [query, bad] of [
    ['group_by=model', cursor],
    ['group_by=user&tz=Asia/Tokyo', cursor],
    ['group_by=user&user_id=alice', cursor],
    ['group_by=user', 'x'],
    ['group_by=user', `${cursor}AAAA`],
    ['group_by=user', changed((place) => place.with(3, "2026-02-31 00:00:00'"))],
    ['group_by=user', changed((place) => place.with(3, '2026-02-31 00:00:00'))],
    ['group_by=user', changed((place) => place.with(1, 0))],
    ['group_by=user', changed((place) => place.with(2, 1e300))],
    ['group_by=user', changed((place) => place.with(5, ['\0']))],
    ['group_by=user', changed((place) => place.with(5, []))],
    ['group_by=user', changed(() => ({}))],
    ['group_by=user', changed(() => null)],
  ]) {
    const answer = await organization.fetch(`/v1/analytics/usage?${period}&${query}&cursor=${bad}`)
    assert.equal(answer.status, 400, `${query} ${bad}: ${await answer.text()}`)
  }
})

test('filters hold for rows and totals alike, and one that fits nobody gives nothing', async () => {
  const organization = await system.organization()
  const [alice, bob] = [await organization.createUser('alice'), await organization.createUser('bob')]
  const persona = await addPersona(system, organization.id, { name: 'Support' })
  const other = await addPersona(system, organization.id, { name: 'Sales', isActive: false })
  await record(system, organization.id, [
    { user: alice, persona, version: 1, session: 'a', cost: 10 },
    { user: alice, persona, version: 2, session: 'a', cost: 20, status: 'failed' },
    { user: bob, persona: other, version: 1, session: 'b', cost: 40 },
    { user: bob, session: 'b', cost: 80, at: new Date(Date.now() - 3_600_000) },
  ])

  const ofAlice = await get(organization, 'user-usage?user_id=alice')
  assert.deepEqual([ofAlice.total_users, ofAlice.total_requests, ofAlice.total_cost_nano_usd], [1, 2, '30'])
  assert.deepEqual([ofAlice.users.length, ofAlice.users[0].success_rate, ofAlice.filtered_by_user], [1, 50, 'alice'])
  const all = await get(organization, 'user-usage?limit=1&offset=5')
  assert.deepEqual([all.users, all.total_users, all.total_cost_nano_usd], [[], 2, '150'])
  const active = await get(organization, 'personas')
  assert.deepEqual(
    active.personas.map(({ name }: Json) => name),
    ['Support'],
  )
  assert.deepEqual([active.total_personas, active.total_requests, active.total_cost_nano_usd], [1, 2, '30'])
  const both = await get(organization, 'personas?include_inactive=true')
  assert.deepEqual([both.total_personas, both.total_requests, both.total_cost_nano_usd], [2, 3, '70'])
  const ofBob = await get(organization, 'personas?include_inactive=True&user_id=bob')
  assert.deepEqual(
    ofBob.personas.map(({ name }: Json) => name),
    ['Sales'],
  )
  const sessions = await get(organization, 'sessions?user_id=bob')
  assert.deepEqual([sessions.total_sessions, sessions.total_requests, sessions.total_cost_nano_usd], [1, 2, '120'])
  for (const [query, cost] of [
    [`persona_id=${persona}`, '30'],
    [`persona_id=${persona.toUpperCase()}&persona_version=2`, '20'],
    ['user_id=bob', '120'],
    ['session_id=b', '120'],
    ['session_id=b&user_id=alice', undefined],
    [`persona_id=${persona}&user_id=bob`, undefined],
    ['model=gpt-4o', '150'],
    ['model=gpt-4', undefined],
    ['user_id=nobody-at-all', undefined],
  ] as const) {
    const { usage } = await get(organization, `usage?interval=total&${query}`)
    assert.equal(usage[0]?.total_cost_nano_usd, cost, query)
  }
  for (const report of ['models', 'user-usage', 'personas', 'sessions', 'rated-responses', 'ratings', 'usage']) {
    const empty = await get(organization, `${report}?user_id=nobody&start_date=2020-01-01&end_date=2020-02-01`)
    const rows =
      empty.models ?? empty.users ?? empty.personas ?? empty.sessions ?? empty.rated_responses ?? empty.groups
    assert.deepEqual(rows ?? empty.usage, [], report)
  }
})

test('one persona is shown by day, model, status and user; a deleted one keeps its name', async () => {
  const organization = await system.organization()
  const users = await Promise.all(Array.from({ length: 12 }, (_, index) => organization.createUser(`user-${index}`)))
  const persona = await addPersona(system, organization.id, { name: 'Gone', description: 'Was here', isDeleted: true })
  await record(
    system,
    organization.id,
    users.flatMap((user, index) =>
      Array.from({ length: index + 1 }, (_, turn) => ({
        at: new Date(Date.UTC(2026, 9, 1 + (turn % 3), 12)),
        user,
        persona,
        version: 1,
        model: turn % 2 === 0 ? 'gpt-4o' : 'gpt-4o-mini',
        status: turn === 5 ? 'failed' : turn === 7 ? 'client_closed' : 'completed',
      })),
    ),
  )
  const period = 'start_date=2026-10-01&end_date=2026-10-31'

  const report = await get(organization, `personas/${persona}?${period}`)
  const ofOne = await get(organization, `personas/${persona}?${period}&user_id=user-3`)
  const ofNobody = await get(organization, `personas/${persona}?${period}&user_id=nobody`)

  assert.deepEqual(
    [report.persona.name, report.persona.description, report.persona.is_active],
    ['Gone', 'Was here', false],
  )
  assert.equal(report.persona.request_count, 78)
  assert.deepEqual(report.request_count_by_status, { completed: 78 - 7 - 5, failed: 7, other: 5 })
  assert.deepEqual(Object.keys(report.request_count_by_model), ['gpt-4o', 'gpt-4o-mini'])
  assert.equal(report.token_usage_by_model['gpt-4o'].total_tokens, report.request_count_by_model['gpt-4o'] * 15)
  assert.deepEqual(
    report.daily_usage.map((day: Json) => day.date),
    ['2026-10-01', '2026-10-02', '2026-10-03'],
  )
  assert.equal(sumOf(report.daily_usage, 'request_count'), 78)
  assert.deepEqual(report.top_users.map((user: Json) => user.user_id).slice(0, 2), ['user-11', 'user-10'])
  assert.equal(report.top_users.length, 10)
  assert.deepEqual([ofOne.persona.request_count, ofOne.top_users], [4, []])
  assert.equal(sumOf(ofOne.daily_usage, 'request_count'), 4)
  assert.deepEqual([ofNobody.persona, ofNobody.daily_usage], [null, []])
})

test('what has no price is counted and shown, and is never $0', async () => {
  const organization = await system.organization()
  const user = await organization.createUser('alice')
  await record(system, organization.id, [
    { user, model: 'unknown', cost: null, session: 'x' },
    { user, model: 'gpt-4o', cost: 5000, session: 'y' },
  ])

  const { models, ...totals } = await get(organization, 'models')
  const { sessions } = await get(organization, 'sessions')

  const costs = models.map((row: Json) => [row.model, row.total_cost, row.total_cost_nano_usd, row.unpriced_count])
  assert.deepEqual(costs, [
    ['gpt-4o', 0.000005, '5000', 0],
    ['unknown', null, null, 1],
  ])
  assert.deepEqual([totals.total_cost, totals.unpriced_requests], [0.000005, 1])
  assert.equal(sessions.find((session: Json) => session.session_id === 'x').total_cost, null)
})

test('a session is active until it was not used for half an hour, and its totals keep to the flags', async () => {
  const organization = await system.organization()
  const user = await organization.createUser('alice')
  const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000)
  await record(system, organization.id, [
    { user, session: 'over', at: ago(120), model: 'b' },
    { user, session: 'over', at: ago(90), model: 'a' },
    { user, session: 'open', at: ago(50) },
    { user, session: 'open', at: ago(10) },
    { session: 'over', at: ago(40) },
  ])

  const all = await get(organization, 'sessions')
  const active = await get(organization, 'sessions?include_completed=false')
  const over = await get(organization, 'sessions?include_active=false')
  const neither = await get(organization, 'sessions?include_active=false&include_completed=false')

  assert.deepEqual(
    all.sessions.map((session: Json) => [
      session.session_id,
      session.user_id,
      session.is_active,
      session.duration_minutes,
    ]),
    [
      ['over', null, false, 0],
      ['open', 'alice', true, null],
      ['over', 'alice', false, 30],
    ],
  )
  assert.deepEqual([all.sessions[2].models_used, all.sessions[1].ended_at], [['a', 'b'], null])
  assert.deepEqual([all.total_sessions, all.active_sessions, all.avg_session_duration], [3, 1, 15])
  assert.deepEqual([active.total_sessions, active.total_requests, active.avg_session_duration], [1, 2, null])
  assert.deepEqual([over.total_sessions, over.active_sessions, over.total_requests], [2, 0, 3])
  assert.equal(neither.total_sessions, 3)
  const pages: string[] = []
  for (let cursor = ''; ; ) {
    const page = await get(organization, `sessions?limit=1${cursor}`)
    pages.push(...page.sessions.map((session: Json) => `${session.session_id} ${session.user_id}`))
    if (page.next_cursor === null) break
    cursor = `&cursor=${page.next_cursor}`
  }
  assert.deepEqual(pages, ['over null', 'open alice', 'over alice'])
})

test('every user is listed, those without requests too; a deleted one as long as something is on record', async () => {
  const organization = await system.organization()
  const gone = await organization.createUser('gone')
  await organization.createUser('idle')
  const removed = await organization.createUser('never-used')
  await record(system, organization.id, [
    { user: gone, at: new Date('2026-10-05T10:00:00Z') },
    { at: '2026-10-05T11:00:00Z' },
  ])
  for (const id of [gone, removed]) await organization.fetch(`/v1/api/users/${id}`, { method: 'DELETE' })

  const { users } = await get(organization, 'user-usage?start_date=2026-10-01&end_date=2026-10-31')

  assert.deepEqual(
    users.map((user: Json) => [user.user_id, user.request_count, user.last_request_at, user.success_rate]),
    [
      ['gone', 1, '2026-10-05T10:00:00.000Z', 100],
      [null, 1, '2026-10-05T11:00:00.000Z', 100],
      ['idle', 0, null, null],
    ],
  )
})

test('CSV has the rows of the report, and nothing in it is a formula', async () => {
  const organization = await system.organization()
  const evil = '=HYPERLINK("http://x","y")'
  const user = await organization.createUser(evil)
  const persona = await addPersona(system, organization.id, { name: '+persona', description: '@x, "y"' })
  await record(system, organization.id, [{ user, persona, version: 1, model: '-model', session: '\tsession' }])

  for (const report of [
    'models',
    'user-usage',
    'personas',
    `personas/${persona}`,
    'sessions',
    'rated-responses',
    'ratings',
  ].concat('usage?group_by=user,persona,model,session,key,version,organization')) {
    const asked = await organization.fetch(`/v1/analytics/${report}`, { headers: { accept: 'text/csv' } })
    const csv = await asked.text()
    const byQuery = await organization.fetch(`/v1/analytics/${report}${report.includes('?') ? '&' : '?'}format=csv`)
    const asJson = await organization.fetch(`/v1/analytics/${report}`, { headers: { accept: '*/*' } })
    assert.equal(asked.headers.get('content-type'), 'text/csv; charset=utf-8', report)
    assert.equal((await byQuery.text()).split('\r\n')[0], csv.split('\r\n')[0])
    assert.equal(asJson.headers.get('content-type'), 'application/json')
    await asJson.text()
    const [head = [], ...rows] = readCsv(csv)
    assert.ok(head.length >= 7, report)
    for (const row of rows) {
      assert.equal(row.length, head.length, report)
      for (const cell of row) assert.doesNotMatch(cell, /^[=+\-@\t\r]/, report)
    }
  }
  const users = readCsv(await (await organization.fetch('/v1/analytics/user-usage?format=csv')).text())
  assert.equal(users[1]?.[0], `'${evil}`)
  const more = await organization.fetch('/v1/analytics/usage?format=csv&limit=1&group_by=model&interval=hour')
  assert.equal(more.headers.get('x-next-cursor'), null)
  await more.text()
})

test('C54: what is out of bounds or makes no sense is a 400 that names it', async () => {
  const organization = await system.organization()
  const persona = await addPersona(system, organization.id, { name: 'x' })
  const reports = [
    'models',
    'user-usage',
    'personas',
    `personas/${persona}`,
    'sessions',
    'rated-responses',
    'ratings',
    'usage',
  ]
  const dates = [
    '',
    'x',
    'yesterday',
    '2026-13-01',
    '2026-02-30',
    '2026-1-1',
    '1970-01-01',
    '2126-01-01',
    '20261101',
    '%00',
    '2026-11-01T25:00:00Z',
  ]
  dates.push(
    '2026-11-01T12:00:00%2B99:99',
    '2026-11-01T12:00:61Z',
    '2026-11-01Z',
    "2026-11-01'--",
    '9'.repeat(65),
    '%25',
    '%25%25',
    '_',
  )
  const bad = dates.flatMap((date) => [`start_date=${date}`, `end_date=${date}`])
  bad.push(
    'start_date=2026-11-02&end_date=2026-11-01',
    'start_date=2000-01-01',
    'start_date=2001-01-01&end_date=2099-12-31',
  )
  bad.push('start_date=2026-11-01&start_date=2026-11-02', 'start_date=2099-01-01', 'format=xml', 'format=')
  for (const zone of [
    '',
    'x',
    'Mars/Olympus',
    // Node.js knows it, Postgres does not.
    'US/Pacific-New',
    '%2B02:00',
    'UTC%2B3',
    'EST5EDT4,M1',
    '../etc',
    '%00',
    "UTC'",
    'x'.repeat(65),
  ])
    bad.push(`tz=${zone}`)

  for (const report of reports) {
    for (const query of bad) {
      const answer = await organization.fetch(`/v1/analytics/${report}?${query}`)
      const { error } = (await answer.json()) as Json
      assert.equal(answer.status, 400, `${report}?${query}`)
      assert.equal(error.code, 'invalid_request')
      assert.ok(error.param, `${report}?${query}: ${error.message}`)
    }
  }
  const limits = [
    'limit=0',
    'limit=101',
    'limit=1e9',
    'limit=-1',
    'limit=x',
    'limit=1.5',
    'offset=-1',
    'offset=1e9',
    'offset=x',
    'limit=',
  ]
  for (const [report, queries] of [
    ['user-usage', [...limits, 'user_id=', `user_id=${'x'.repeat(256)}`, 'user_id=%00', 'user_id=a&user_id=b']],
    ['personas', [...limits, 'include_inactive=maybe', 'include_inactive=']],
    ['sessions', [...limits, 'include_active=2', 'cursor=x', 'cursor=W10', `cursor=${'x'.repeat(2001)}`]],
    [
      'rated-responses',
      [...limits, 'rating=2', 'rating=-2', 'rating=0.5', 'rating=', 'rating=x', 'cursor=x', 'session_id='],
    ],
    ['ratings', ['group_by=', 'group_by=x', 'persona_id=x', 'group_by=user,model']],
    [
      'usage',
      [
        'limit=0',
        'limit=1001',
        'limit=1e9',
        'interval=minute',
        'interval=',
        'group_by=x',
        'group_by=user,x',
        'persona_id=x',
      ],
    ],
    [
      'usage',
      [
        'api_key_id=x',
        'persona_version=-1',
        'persona_version=',
        'persona_version=1e99',
        'model=',
        'model=%00',
        'session_id=%00',
        'cursor=%00',
      ],
    ],
    ['personas/x', ['']],
    ['personas/%00', ['']],
    [`personas/${'a'.repeat(36)}`, ['']],
  ] as const) {
    for (const query of queries) {
      const answer = await organization.fetch(`/v1/analytics/${report}?${query}`)
      assert.equal(answer.status, 400, `${report}?${query}: ${await answer.text()}`)
    }
  }
  for (const text of ['%25', '_', '%25'.repeat(200), "'; drop table attempts--", '%F0%9F%8E%88']) {
    for (const query of [
      `user-usage?user_id=${text}`,
      `usage?model=${text}`,
      `sessions?user_id=${text}`,
      `rated-responses?session_id=${text}`,
    ]) {
      const answer = await organization.fetch(`/v1/analytics/${query}`)
      assert.equal(answer.status, 200, `${query}: ${await answer.text()}`)
    }
  }
  assert.equal((await organization.fetch('/v1/analytics/models?start_date=2026-11-01T00:00:00 02:00')).status, 200)
})

test('an error is an error: a report that takes too long is a 503 and the next one is served, a broken one is a 500', async () => {
  const organization = await system.organization()
  await record(system, organization.id, [{}])
  await system.query('begin')
  await system.query('lock table usage_slices in access exclusive mode')
  const late = await organization.fetch('/v1/analytics/models')
  assert.equal(late.status, 503, await late.text())
  await system.query('rollback')
  assert.equal((await get(organization, 'models')).total_requests, 1)

  await system.query('alter table usage_slices rename to elsewhere')
  const broken = await organization.fetch('/v1/analytics/models')
  const text = await broken.text()
  await system.query('alter table elsewhere rename to usage_slices')

  assert.equal(broken.status, 500)
  assert.doesNotMatch(text, /usage_slices|select|relation/)
  assert.equal((await get(organization, 'models')).total_requests, 1)
})

async function get(organization: TestOrganization, report: string): Promise<Json> {
  const answer = await organization.fetch(`/v1/analytics/${report}`)
  const text = await answer.text()
  assert.equal(answer.status, 200, `${report}: ${text}`)
  return JSON.parse(text)
}

async function allPages(organization: TestOrganization, report: string): Promise<Json[]> {
  const rows: Json[] = []
  for (let cursor = ''; ; ) {
    const page = await get(organization, `${report}${cursor}`)
    rows.push(...page.usage)
    if (page.next_cursor === null) return rows
    cursor = `&cursor=${page.next_cursor}`
  }
}

function verify() {
  const { db } = system.server.context
  return verifyLedger({ db, journalDirectory: join(String(system.env.DATA_DIR), 'journal') })
}

async function verifySums(): Promise<void> {
  assert.deepEqual((await verify()).wrongSums, [])
}

function sumOf(rows: Json[], field: string): number {
  return rows.reduce((total, row) => total + row[field], 0)
}

/** Input tokens by the local start of their hour, day or month, by JavaScript's own knowledge of time zones. */
function bucketsOf(rows: readonly Recorded[], timeZone: string, interval: string): Map<string, number> {
  const clock = new Intl.DateTimeFormat('en-CA', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
  })
  const buckets = new Map<string, number>()
  for (const row of rows) {
    const parts = Object.fromEntries(clock.formatToParts(new Date(row.at ?? 0)).map(({ type, value }) => [type, value]))
    const day = `${parts.year}-${parts.month}-${parts.day}`
    const labels: Record<string, string> = { hour: `${day}T${parts.hour}:00`, day, month: day.slice(0, 7) }
    const label = labels[interval] ?? ''
    buckets.set(label, (buckets.get(label) ?? 0) + (row.input ?? 0))
  }
  return new Map([...buckets].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** RFC 4180. */
function readCsv(text: string): string[][] {
  return text
    .trimEnd()
    .split('\r\n')
    .map((line) =>
      [...line.matchAll(/("(?:[^"]|"")*"|[^,]*)(?:,|$)/g)]
        .slice(0, -1)
        .map(([, cell = '']) => (cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell)),
    )
}
