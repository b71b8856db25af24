import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parsePeriod } from '../src/analytics/period.ts'
import { reportRated, reportSatisfaction } from '../src/analytics/ratings.ts'
import { reportSeries, type SeriesAsked } from '../src/analytics/series.ts'
import { reportModels, reportPersona, reportPersonas, reportSessions, reportUsers } from '../src/analytics/service.ts'
import { openVault } from '../src/api-keys/vault.ts'
import { asAdministrator, OPERATOR } from '../src/auth/caller.ts'
import { decodeKey, readConfig } from '../src/config.ts'
import { openDatabase } from '../src/db/database.ts'
import { openEmbeddedDatabase } from '../src/db/embedded/embedded.ts'
import { migrate } from '../src/db/migrate.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { fill } from './fill.ts'
import { percentile } from './open-loop.ts'

/** How long a report may take: what comes from sums, and pages that come from rows or from sums that are nearly as many. */
const SUMS_MS = 300
const PAGE_MS = 1000
const ROUNDS = 20

/** Fills a database of its own with request rows, and measures each report on the last thirty days of them. */
export async function benchAnalytics(rows: number): Promise<void> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'openai-proxy-bench-'))
  stack.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }))
  const embedded = stack.use(await openEmbeddedDatabase({ dataDirectory: directory }))
  const db = stack.use(openDatabase(embedded.connection, 4, () => {}))
  await migrate(db)
  const { ENCRYPTION_KEY } = readSecrets()
  const vault = await openVault({ db }, async () => ({ current: ENCRYPTION_KEY, previous: undefined }))

  const startedAt = performance.now()
  const filled = await fill(embedded.connection, rows, (done) => {
    const perSecond = Math.round((done * 1000) / (performance.now() - startedAt))
    process.stderr.write(
      `\rfilled ${done.toLocaleString('en-US')} of ${rows.toLocaleString('en-US')} rows, ${perSecond}/s `,
    )
  })
  process.stderr.write('\n')

  const caller = asAdministrator(OPERATOR, filled.organizationId)
  const deps = { db, vault }
  const period = () => parsePeriod({})
  const page = { limit: 50, offset: 0 }
  const after = undefined
  const user = (round: number) => `user-${1 + ((round * 97) % filled.users.length)}`
  const persona = (round: number) => filled.personas[round % filled.personas.length] ?? ''
  const series = (asked: Partial<SeriesAsked>, timeZone?: string) => () =>
    reportSeries(deps, caller, {
      period: parsePeriod({ timeZone }),
      interval: 'day',
      groupBy: [],
      filter: {},
      limit: 100,
      cursor: undefined,
      ...asked,
    })
  const reports: [name: string, barMs: number, run: (round: number) => Promise<unknown>][] = [
    ['models', SUMS_MS, () => reportModels(deps, caller, { period: period() })],
    ['user-usage', SUMS_MS, () => reportUsers(deps, caller, { period: period(), ...page })],
    [
      'user-usage, one user',
      SUMS_MS,
      (round) => reportUsers(deps, caller, { period: period(), userId: user(round), ...page }),
    ],
    ['personas', SUMS_MS, () => reportPersonas(deps, caller, { period: period(), includeInactive: true, ...page })],
    ['personas/{id}', SUMS_MS, (round) => reportPersona(deps, caller, persona(round), { period: period() })],
    ['ratings by version', SUMS_MS, () => reportSatisfaction(deps, caller, { period: period(), groupBy: 'version' })],
    ['ratings by user', SUMS_MS, () => reportSatisfaction(deps, caller, { period: period(), groupBy: 'user' })],
    ['usage by day', SUMS_MS, series({})],
    ['usage by day, Asia/Kolkata', SUMS_MS, series({}, 'Asia/Kolkata')],
    ['usage by hour', SUMS_MS, series({ interval: 'hour', limit: 1000 })],
    ['usage by day and model', SUMS_MS, series({ groupBy: ['model'], limit: 1000 })],
    [
      'usage by day and version, America/New_York',
      SUMS_MS,
      series({ groupBy: ['version'], limit: 1000 }, 'America/New_York'),
    ],
    ['usage by day and user', SUMS_MS, series({ groupBy: ['user'] })],
    ['usage by user', SUMS_MS, series({ interval: 'total', groupBy: ['user'], limit: 1000 })],
    ['usage by user and model', PAGE_MS, series({ interval: 'total', groupBy: ['user', 'model'], limit: 1000 })],
    ['usage by hour of one user', PAGE_MS, (round) => series({ interval: 'hour', userId: user(round) })()],
    ['usage by day and user, Europe/Berlin', PAGE_MS, series({ groupBy: ['user'] }, 'Europe/Berlin')],
    ['usage by hour, user and model', PAGE_MS, series({ interval: 'hour', groupBy: ['user', 'model'] })],
    ['usage by day and session', PAGE_MS, series({ groupBy: ['session'] })],
    ['sessions', PAGE_MS, () => reportSessions(deps, caller, { period: period(), ...ALL_SESSIONS, ...page, after })],
    [
      'sessions, page 2,000',
      PAGE_MS,
      () => reportSessions(deps, caller, { period: period(), ...ALL_SESSIONS, ...page, offset: 100_000, after }),
    ],
    [
      'sessions of one user',
      PAGE_MS,
      (round) =>
        reportSessions(deps, caller, { period: period(), userId: user(round), ...ALL_SESSIONS, ...page, after }),
    ],
    ['rated-responses', PAGE_MS, () => reportRated(deps, caller, { period: period(), ...page, after })],
    [
      'rated-responses of one user',
      PAGE_MS,
      (round) => reportRated(deps, caller, { period: period(), userId: user(round), ...page, after }),
    ],
  ]
  const table: Record<string, { p50: string; p95: string; bar: number; within: boolean }> = {}
  for (const [name, barMs, run] of reports) {
    const latencies: number[] = []
    await run(0)
    for (let round = 1; round <= ROUNDS; round += 1) {
      const askedAt = performance.now()
      await run(round)
      latencies.push(performance.now() - askedAt)
    }
    const [p50, p95] = [percentile(latencies, 0.5), percentile(latencies, 0.95)]
    table[name] = { p50: p50.toFixed(0), p95: p95.toFixed(0), bar: barMs, within: p95 < barMs }
    process.stderr.write(`${name}: ${p95.toFixed(0)} ms\n`)
  }
  console.log(`Reports on thirty days of ${rows.toLocaleString('en-US')} request rows, in ms, ${ROUNDS} times each:`)
  console.table(table)
  if (Object.values(table).some(({ within }) => !within)) process.exitCode = 1
}

const ALL_SESSIONS = { includeActive: true, includeCompleted: true }

function readSecrets() {
  const { encryptionKey } = readConfig(generateSecrets())
  return { ENCRYPTION_KEY: decodeKey(encryptionKey?.reveal() ?? '') ?? Buffer.alloc(0) }
}
