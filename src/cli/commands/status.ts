import { resolve } from 'node:path'
import type { Command } from 'commander'
import type pg from 'pg'
import type { Config } from '../../config.ts'
import { type Db, isDatabaseFault } from '../../db/database.ts'
import { type MigrationStatus, migrationStatus } from '../../db/migrate.ts'
import { AppError } from '../../errors.ts'
import { explainStartFailure } from '../../explain-failure.ts'
import { formatDecimal, formatUsd } from '../../ledger/money.ts'
import { listReplicas, type Replica } from '../../replicas/service.ts'
import { VERSION } from '../../version.ts'
import { addCommand } from '../command.ts'
import { connectToExisting, readCommandConfig } from '../connect.ts'
import { type Column, field, formatTable, formatTime, type OutputOptions, printResult } from '../output.ts'
import { type Overview, readOverview, readServerVersion } from '../overview-store.ts'

/** Looks and changes nothing; exits with 1 when the database does not answer. */
export function addStatusCommand(program: Command): void {
  addCommand(program, 'status', 'show the state of this installation; changes nothing', 'status --json').action(
    async (options: OutputOptions) => {
      const config = readCommandConfig()
      await using storage = await connectToExisting(config)
      const location = config.databaseUrl ? locationOf(storage?.db.connection) : resolve(config.dataDirectory)
      const [database, server] = await Promise.all([readDatabase(storage?.db), askServer(config)])
      const kind = config.databaseUrl ? 'external' : 'embedded'
      printResult(options, toDocument({ kind, location }, database, server), [
        '',
        field('Version', VERSION),
        field('Database', `${kind}, ${location}`),
        ...formatDatabase(database),
        field('Server', `${server.url} ${SERVER_STATES[server.state]}`),
        ...formatReplicas(database),
      ])
      if (database.state === 'unreachable') process.exitCode = 1
    },
  )
}

function locationOf(connection: pg.ClientConfig | undefined): string {
  const { host = 'localhost', port = 5432, database = '' } = connection ?? {}
  return `${host}:${port}/${database}`
}

type DatabaseReport =
  | { state: 'not_created' }
  | { state: 'unreachable'; reason: string }
  | {
      state: 'reachable'
      version: string
      migrations: MigrationStatus[]
      overview: Overview | undefined
      replicas: Replica[]
    }

async function readDatabase(db: Db | undefined): Promise<DatabaseReport> {
  if (!db) return { state: 'not_created' }
  try {
    const version = await db.forOwner(readServerVersion)
    const migrations = await migrationStatus(db)
    const isEmpty = migrations.every(({ appliedAt }) => !appliedAt)
    return {
      state: 'reachable',
      version,
      migrations,
      overview: isEmpty ? undefined : await db.forOperator(readOverview),
      replicas: isEmpty ? [] : await listReplicas({ db }),
    }
  } catch (error) {
    const isUnreachable = isDatabaseFault(error) || (error instanceof AppError && error.code === 'database_unavailable')
    if (!isUnreachable) throw error
    return { state: 'unreachable', reason: explainStartFailure(error) }
  }
}

function formatDatabase(database: DatabaseReport): string[] {
  if (database.state === 'not_created') return ['Postgres: not created yet; "openai-proxy start" does so']
  if (database.state === 'unreachable') return [field('Postgres', `not reachable. ${database.reason}`)]
  const { version, overview } = database
  const lines = [
    field('Postgres', `${version}, reachable`),
    field('Migrations', describeMigrations(database.migrations)),
  ]
  if (!overview) return lines
  const unpriced = overview.unpriced_requests > 0n ? ` (${overview.unpriced_requests} unpriced)` : ''
  return [
    ...lines,
    `Organizations: ${overview.organizations}`,
    `Users: ${overview.users}`,
    `Active API keys: ${overview.active_keys}`,
    `Valid tokens: ${overview.valid_tokens}`,
    `Requests in 24 hours: ${overview.requests}, ${formatUsd(overview.cost_nano_usd)}${unpriced}`,
  ]
}

function formatReplicas(database: DatabaseReport): string[] {
  if (database.state !== 'reachable') return []
  return [
    `Replicas: ${database.replicas.length}`,
    ...(database.replicas.length === 0 ? [] : formatTable(REPLICA_COLUMNS, database.replicas)),
  ]
}

const REPLICA_COLUMNS: Column<Replica>[] = [
  { title: 'Replica', value: ({ id }) => id },
  { title: 'Name', value: ({ name }) => name ?? '' },
  { title: 'Version', value: ({ version }) => version },
  { title: 'Started', value: ({ startedAt }) => formatTime(startedAt) },
  { title: 'Last seen', value: ({ lastSeenAt }) => formatTime(lastSeenAt) },
  { title: 'Unshipped', align: 'right', value: ({ unshippedRecords }) => String(unshippedRecords) },
  { title: 'Journal bytes', align: 'right', value: ({ journalBytes }) => String(journalBytes) },
]

function describeMigrations(migrations: MigrationStatus[]): string {
  const pending = pendingOf(migrations)
  if (pending.length === 0) return `up to date (${migrations.length} applied)`
  return `${pending.length} pending: ${pending.join(', ')}; "openai-proxy migrate" applies them`
}

function pendingOf(migrations: MigrationStatus[]): string[] {
  return migrations.filter(({ appliedAt }) => !appliedAt).map(({ name }) => name)
}

type ServerState = 'ready' | 'not_ready' | 'no_answer'

const SERVER_STATES: Record<ServerState, string> = {
  ready: 'is ready',
  not_ready: 'answers but is not ready',
  no_answer: 'does not answer',
}

async function askServer({ host, port }: Config): Promise<{ url: string; state: ServerState }> {
  const address = ANY_ADDRESS[host] ?? host
  const url = `http://${address.includes(':') ? `[${address}]` : address}:${port}`
  try {
    const { ok } = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(SERVER_TIMEOUT_MS) })
    return { url, state: ok ? 'ready' : 'not_ready' }
  } catch {
    return { url, state: 'no_answer' }
  }
}

const ANY_ADDRESS: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '::1' }
const SERVER_TIMEOUT_MS = 2000

function toDocument(
  place: { kind: 'external' | 'embedded'; location: string },
  database: DatabaseReport,
  server: { url: string; state: ServerState },
) {
  const reached = database.state === 'reachable' ? database : undefined
  const overview = reached?.overview
  return {
    version: VERSION,
    database: {
      ...place,
      state: database.state,
      postgres_version: reached?.version ?? null,
      pending_migrations: reached ? pendingOf(reached.migrations) : null,
    },
    counts: overview
      ? {
          organizations: Number(overview.organizations),
          users: Number(overview.users),
          active_api_keys: Number(overview.active_keys),
          valid_tokens: Number(overview.valid_tokens),
        }
      : null,
    last_24_hours: overview
      ? {
          requests: Number(overview.requests),
          unpriced_requests: Number(overview.unpriced_requests),
          cost_usd: formatDecimal(overview.cost_nano_usd, 9, 2),
        }
      : null,
    server,
    replicas: reached
      ? reached.replicas.map((replica) => ({
          id: replica.id,
          name: replica.name,
          version: replica.version,
          started_at: replica.startedAt.toISOString(),
          last_seen_at: replica.lastSeenAt.toISOString(),
          unshipped_records: replica.unshippedRecords,
          journal_bytes: replica.journalBytes,
        }))
      : null,
  }
}
