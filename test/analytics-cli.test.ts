/** Reports on the command line, as the processes that operators start. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startSystem, type TestOrganization } from './harness.ts'
import { addPersona, type Recorded, record } from './record.ts'

const BINARY = fileURLToPath(new URL('../bin/openai-proxy.cjs', import.meta.url))
const RULE = '-'.repeat(80)

const system = await startSystem()

test('get-analytics prints what the guide shows, in its words and its order', async () => {
  const organization = await system.organization()
  const persona = await addPersona(system, organization.id, { name: 'Marketing Specialist' })
  const users = await Promise.all(
    ['alice', 'bob', 'charlie'].map((name) => organization.createUser(`${name}@example.com`)),
  )
  const day = (ago: number) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10)
  const rows: Recorded[] = []
  for (let ago = 0; ago < 9; ago += 1) {
    for (let turn = 0; turn < 10 + ago; turn += 1) {
      rows.push({
        at: `${day(ago)}T00:00:00.${turn}Z`,
        persona,
        version: 1,
        user: users[turn % 7 === 0 ? 2 : turn % 2] ?? null,
        model: turn % 3 === 0 ? 'gpt-4o-mini' : 'gpt-4o',
        status: ago === 8 && turn < 2 ? 'failed' : 'completed',
        input: 1000,
        output: 500,
        cost: 31_345_679,
      })
    }
  }
  await record(system, organization.id, rows)
  const countOf = (field: keyof Recorded, value: unknown) => rows.filter((row) => row[field] === value).length

  const { stdout } = await run(['get-analytics', persona])

  assert.equal(rows.length, 126)
  assert.deepEqual(stdout.split('\n'), [
    '',
    `Persona Analytics: Marketing Specialist (${persona})`,
    RULE,
    'Total Requests: 126',
    'Success Rate: 98.4%',
    'Total Tokens: 189,000',
    'Total Cost: $3.95',
    '',
    'Top Models:',
    `- gpt-4o: ${countOf('model', 'gpt-4o')} requests`,
    `- gpt-4o-mini: ${countOf('model', 'gpt-4o-mini')} requests`,
    '',
    'Top Users:',
    `- alice@example.com: ${countOf('user', users[0])} requests`,
    `- bob@example.com: ${countOf('user', users[1])} requests`,
    `- charlie@example.com: ${countOf('user', users[2])} requests`,
    '',
    'Daily Usage (Last 7 Days):',
    `- ${day(0)}: 10 requests, 15,000 tokens, $0.31`,
    `- ${day(1)}: 11 requests, 16,500 tokens, $0.34`,
    `- ${day(2)}: 12 requests, 18,000 tokens, $0.38`,
    `- ${day(3)}: 13 requests, 19,500 tokens, $0.41`,
    `- ${day(4)}: 14 requests, 21,000 tokens, $0.44`,
    `- ${day(5)}: 15 requests, 22,500 tokens, $0.47`,
    `- ${day(6)}: 16 requests, 24,000 tokens, $0.50`,
    RULE,
    '',
  ])
  const json = JSON.parse((await run(['get-analytics', persona, '--json'])).stdout)
  assert.deepEqual(
    [json.name, json.persona.request_count, json.persona.total_cost_nano_usd],
    ['Marketing Specialist', 126, String(126n * 31_345_679n)],
  )
  const csv = (await run(['get-analytics', persona, '--csv', '--from', day(1), '--to', day(1)])).stdout
  assert.match(csv, new RegExp(`^date,request_count,.*\\r\\n${day(1)},11,11,0,16500,0.344802469,344802469,0\\r\\n$`))
})

test('a persona that was never used has zeros, and one without prices is no $0; money has the digits it takes', async () => {
  const organization = await system.organization()
  const [unused, unpriced, cheap] = await Promise.all(
    ['Unused', 'Unpriced', 'Cheap'].map((name) => addPersona(system, organization.id, { name })),
  )
  await record(system, organization.id, [
    { persona: unpriced, version: 1, cost: null },
    { persona: cheap, version: 1, cost: 300_000 },
    { persona: cheap, version: 1, cost: null },
  ])
  const of = async (id: string | undefined) => (await run(['get-analytics', String(id)])).stdout

  assert.match(await of(unused), /Total Requests: 0\nSuccess Rate: None\nTotal Tokens: 0\nTotal Cost: \$0\.00\n/)
  assert.match(await of(unused), /Top Models:\n- None\n\nTop Users:\n- None\n/)
  assert.equal((await of(unused)).match(/: 0 requests, 0 tokens, \$0\.00/g)?.length, 7)
  assert.match(await of(unpriced), /Total Cost: unpriced\n/)
  assert.match(await of(cheap), /Total Cost: \$0\.0003 \(1 unpriced\)\n/)
})

test('usage is summed by what is asked for, the dearest first, for one organization or all', async () => {
  const [organization, other] = [await system.organization(), await system.organization()]
  const user = await organization.createUser('alice')
  await record(system, organization.id, [
    { at: '2026-10-05T10:00:00Z', user, model: 'cheap', input: 1_000_000, cost: 1_500_000 },
    { at: '2026-10-06T23:30:00Z', user, model: 'dear', input: 1000, output: 234, cost: 4_920_000_000 },
    { at: '2026-10-06T10:00:00Z', model: 'free?', cost: null, status: 'failed' },
  ])
  await record(system, other.id, [{ at: '2026-10-05T10:00:00Z', model: 'elsewhere' }])
  const period = ['--from', '2026-10-05', '--to', '2026-10-06']
  const usage = async (...args: string[]) =>
    (await run(['usage', ...period, '--org-id', organization.id, ...args])).stdout

  assert.deepEqual(
    (await usage('--by', 'model')).split('\n').map((line) => line.replaceAll(/ {2,}/g, ' | ')),
    [
      '',
      'Model | Requests | Success | Input | Cached | Output | Tokens | Cost',
      'dear | 1 | 100.0% | 1,000 | 1 | 234 | 1,234 | $4.92',
      'cheap | 1 | 100.0% | 1,000,000 | 1 | 5 | 1,000,005 | $0.0015',
      'free? | 1 | 0.0% | 10 | 1 | 5 | 15 | unpriced',
      '',
    ],
  )
  assert.match(await usage(), /\n2026-10-05 .*\$0\.0015\n2026-10-06 .* \$4\.92 \(1 unpriced\)\n$/)
  assert.match(await usage('--tz', 'Europe/Berlin'), /\n2026-10-05 .*\n2026-10-06 +1 .* unpriced\n$/)
  assert.match(await usage('--by', 'user'), /\nalice +2 .*\nNone +1 .*unpriced\n$/)
  for (const by of ['hour', 'month', 'persona', 'version', 'key', 'session', 'organization']) {
    assert.match(await usage('--by', by), /\$4\.92/, by)
  }
  const all = (await run(['usage', '--by', 'model', ...period])).stdout
  assert.match(all, /^\nOrganization +Model /)
  assert.ok(all.includes('elsewhere') && all.includes('dear'))
  const json = JSON.parse(await usage('--by', 'model', '--json'))
  assert.deepEqual(
    json.usage.map((row: Record<string, unknown>) => [row.model, row.total_cost_nano_usd, row.organization_id]),
    [
      ['dear', '4920000000', organization.id],
      ['cheap', '1500000', organization.id],
      ['free?', null, organization.id],
    ],
  )
  const csv = await usage('--by', 'model', '--csv')
  assert.match(csv, /^organization_name,date,starts_at,organization_id,model,request_count,/)
  assert.equal(csv.split('\r\n').length, 5)
  const empty = ['usage', '--org-id', organization.id, '--from', '2026-01-01', '--to', '2026-01-31']
  assert.equal((await run(empty)).stdout, 'No usage found.\n')
  assert.equal((await run([...empty, '--csv'])).stdout.split('\r\n').length, 2)
})

test('ratings show share, interval and what a satisfying answer cost, by version, model and user', async () => {
  const organization = await system.organization()
  const persona = await addPersona(system, organization.id, { name: 'Support' })
  const user = await organization.createUser('alice')
  const requests = Array.from({ length: 10 }, () => `req_${randomUUID()}`)
  await record(
    system,
    organization.id,
    requests.map((request, index) => ({ request, user, persona, version: 1 + (index % 2), cost: 1000 + index })),
  )
  for (const [index, request] of requests.entries()) await rate(organization, request, index < 8 ? 1 : -1)

  const { stdout } = await run(['ratings', '--org-id', organization.id])
  const json = JSON.parse((await run(['ratings', '--by', 'user', '--json', '--org-id', organization.id])).stdout)
  const csv = (await run(['ratings', '--by', 'model', '--csv'])).stdout

  assert.deepEqual(
    stdout.split('\n').map((line) => line.replaceAll(/ {2,}/g, ' | ')),
    [
      '',
      'Persona | Ratings | Satisfied | Share | 95% interval | Cost per satisfied answer',
      'Support (version 1) | 5 | 4 | 80.0% | 37.6% to 96.4% | $0.0000013',
      'Support (version 2) | 5 | 4 | 80.0% | 37.6% to 96.4% | $0.0000013',
      '',
    ],
  )
  const [all] = json.ratings
  assert.deepEqual([all.user, all.rating_count, all.satisfied_count, all.satisfied_share], ['alice', 10, 8, 0.8])
  assert.deepEqual([all.satisfied_share_low, all.satisfied_share_high], [0.4902, 0.9433])
  // 10,045 / 8, half up.
  assert.equal(all.cost_per_satisfied_answer_nano_usd, '1256')
  assert.match(csv, /^organization_id,organization_name,model,rating_count,/)
})

test('what makes no sense is refused in a sentence, with nothing on standard output', async () => {
  const organization = await system.organization()
  for (const [args, sentence, code] of [
    [['get-analytics', 'x'], 'Invalid UUID format: x', 1],
    [['get-analytics', randomUUID()], /^Error: Persona not found: /, 1],
    [['get-analytics'], /missing required argument/i, 2],
    [['usage', '--by', 'moon'], /choices are|Allowed choices/i, 2],
    [['usage', '--from', 'yesterday'], /--from is a day such as/, 1],
    [['usage', '--from', '2026-10-02', '--to', '2026-10-01'], /ends before it begins: --from must lie before --to/, 1],
    [['usage', '--tz', 'US/Pacific-New'], /--tz is the name of a time zone/, 1],
    [['usage', '--tz', 'Mars/Olympus'], /--tz is the name of a time zone/, 1],
    [['usage', '--org-id', 'x'], /Invalid UUID format/, 1],
    [['usage', '--org-id', randomUUID()], /Organization not found/, 1],
    [['usage', '--json', '--csv', '--org-id', organization.id], /--json or --csv/, 1],
    [['ratings', '--by', 'none'], /choices/i, 2],
  ] as const) {
    const { stdout, stderr, code: exitCode } = await start([...args])
    assert.equal(stdout, '', args.join(' '))
    assert.match(stderr, typeof sentence === 'string' ? new RegExp(sentence) : sentence, args.join(' '))
    assert.equal(exitCode, code, args.join(' '))
  }
})

async function rate(organization: TestOrganization, request: string, rating: number): Promise<void> {
  const body = JSON.stringify({ rating })
  const answer = await organization.fetch(`/v1/responses/${request}/rate`, { method: 'POST', body })
  assert.equal(answer.status, 200, await answer.text())
}

async function run(args: string[]) {
  const result = await start(args)
  assert.equal(result.code, 0, `${args.join(' ')}: ${result.stderr}`)
  return result
}

async function start(args: string[]) {
  const child = spawn(process.execPath, [BINARY, ...args], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: join(String(system.env.DATA_DIR), 'compiled'), ...system.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited])
  return { stdout, stderr, code }
}
