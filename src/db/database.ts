import { Kysely, PostgresDialect, sql, type Transaction } from 'kysely'
import pg from 'pg'
import { AppError } from '../errors.ts'
import type { Schema } from './schema.ts'

export type Tx = Transaction<Schema>

/**
 * The one door to Postgres. Every statement runs in a transaction that says for whom: row level security then shows that
 * organization's rows and no others. A fault of the database itself becomes `database_unavailable`, never an empty answer.
 */
export interface Db {
  forOrganization<T>(organizationId: string, work: (tx: Tx) => Promise<T>, timeoutMs?: number): Promise<T>
  /** For what spans organizations: finding a credential's owner, shipping the ledger, the operator's lists. */
  forOperator<T>(work: (tx: Tx) => Promise<T>, timeoutMs?: number): Promise<T>
  /** As the role that owns the tables, for migrations and partitions. Faults come as the driver's own errors, for operators. */
  forOwner<T>(work: (tx: Tx) => Promise<T>): Promise<T>
  /** Connection settings for a client of its own (LISTEN needs one). */
  readonly connection: pg.ClientConfig
  readonly pool: PoolUse
  [Symbol.asyncDispose](): Promise<void>
}

/** Connections, and those who wait for one. */
export interface PoolUse {
  busy: number
  idle: number
  waiting: number
}

export const APPLICATION_ROLE = 'openai_proxy_app'

/** Opens the pool; connects on first use, so that a database that is away does not keep the process from starting. */
export function openDatabase(connection: pg.ClientConfig, poolSize: number, onFault: (error: Error) => void): Db {
  const pool = new pg.Pool({
    ...connection,
    max: poolSize,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    types: TYPES,
  })
  // Idle clients emit 'error' when the server goes away; unhandled it would end the process.
  pool.on('error', onFault)
  // So do clients in use, between two statements; the statement that follows says so to whoever waits for it.
  pool.on('connect', (client) => client.on('error', () => {}))
  const kysely = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) })
  let role: Promise<string | undefined> | undefined

  async function inTransaction<T>(settings: TransactionSettings, work: (tx: Tx) => Promise<T>): Promise<T> {
    const transaction = kysely.transaction().execute(async (tx) => {
      await applySettings(tx, settings)
      return await work(tx)
    })
    try {
      return await withDeadline(transaction, settings.timeoutMs + DEADLINE_SLACK_MS)
    } catch (error) {
      throw isDatabaseFault(error) ? databaseUnavailable() : error
    }
  }

  /** The role to work as: none of its own when the connection's role is itself bound by row level security. */
  function applicationRole(): Promise<string | undefined> {
    role ??= inTransaction({ timeoutMs: TIMEOUT_MS }, findApplicationRole).catch((error: unknown) => {
      role = undefined
      throw error
    })
    return role
  }

  return {
    connection,
    get pool() {
      return { busy: pool.totalCount - pool.idleCount, idle: pool.idleCount, waiting: pool.waitingCount }
    },
    async forOrganization(organizationId, work, timeoutMs = TIMEOUT_MS) {
      return inTransaction({ role: await applicationRole(), organizationId, timeoutMs }, work)
    },
    async forOperator(work, timeoutMs = TIMEOUT_MS) {
      return inTransaction({ role: await applicationRole(), operator: true, timeoutMs }, work)
    },
    forOwner: (work) => asOwner(connection, work),
    [Symbol.asyncDispose]: () => kysely.destroy(),
  }
}

/** Says whether an error means "the database is away or cannot write now", as opposed to "the statement is wrong". */
export function isDatabaseFault(error: unknown): boolean {
  if (error instanceof AppError || !(error instanceof Error)) return false
  const code = 'code' in error ? String(error.code) : ''
  if (/^(ECONN|EPIPE|ENOENT|ENOTFOUND|EAI_|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH)/.test(code)) return true
  // https://www.postgresql.org/docs/current/errcodes-appendix.html: connection, rolled back for the sake of another transaction,
  // resources, operator intervention, I/O, read-only (a primary that became a standby), a password changed under us, a database
  // that takes no connections or is missing while it is being moved.
  if (/^(08|40|53|57|58|25006|28|55000|3D000)/.test(code)) return true
  return code === '' && DRIVER_FAULTS.has(error.message)
}

/** What `pg` throws without a code; its texts are the only sign it gives. */
const DRIVER_FAULTS = new Set([
  'Connection terminated',
  'Connection terminated unexpectedly',
  'Connection terminated due to connection timeout',
  'Query read timeout',
  'timeout exceeded when trying to connect',
  'timeout expired',
  'Client was closed and is not queryable',
  'Client has encountered a connection error and is not queryable',
  'The server does not support SSL connections',
])

function databaseUnavailable(): AppError {
  return new AppError('database_unavailable', 'The database is not available at the moment; try again shortly.', {
    retryAfterSeconds: 1,
  })
}

const CONNECT_TIMEOUT_MS = 2000
/** Whoever waits for an answer is told within three seconds that there will be none. */
const TIMEOUT_MS = 2500
const DEADLINE_SLACK_MS = 300
/** Of one statement, when the server does not answer at all; ends what a deadline has left behind. */
const QUERY_TIMEOUT_MS = 6000

interface TransactionSettings {
  role?: string | undefined
  organizationId?: string
  operator?: boolean
  timeoutMs: number
}

/** On a connection of its own, without limits of time: migrations take what they take. */
async function asOwner<T>(connection: pg.ClientConfig, work: (tx: Tx) => Promise<T>): Promise<T> {
  const pool = new pg.Pool({ ...connection, max: 1, connectionTimeoutMillis: CONNECT_TIMEOUT_MS, types: TYPES })
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  const kysely = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) })
  try {
    return await kysely.transaction().execute(async (tx) => {
      await applySettings(tx, { operator: true, timeoutMs: 0 })
      return await work(tx)
    })
  } finally {
    await kysely.destroy()
  }
}

/** What goes on after its deadline cleans up after itself; its outcome is unknown to whoever waited. */
async function withDeadline<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const deadline = Promise.withResolvers<never>()
  const timer = setTimeout(() => deadline.reject(databaseUnavailable()), Math.min(timeoutMs, 2 ** 31 - 1))
  try {
    return await Promise.race([work, deadline.promise])
  } finally {
    clearTimeout(timer)
    work.catch(() => {})
  }
}

/** Settings of this transaction only, so that they hold through a pooler and end with it. */
async function applySettings(tx: Tx, settings: TransactionSettings): Promise<void> {
  const { organizationId = '', operator = false, timeoutMs } = settings
  await sql`select
    set_config('app.organization_id', ${organizationId}, true),
    set_config('app.operator', ${operator ? 'on' : ''}, true),
    set_config('statement_timeout', ${String(timeoutMs)}, true),
    set_config('role', coalesce(${settings.role ?? null}, current_user), true)`.execute(tx)
}

async function findApplicationRole(tx: Tx): Promise<string | undefined> {
  const { rows } = await sql<{ bypasses: boolean }>`
    select rolsuper or rolbypassrls as bypasses from pg_roles where rolname = current_user`.execute(tx)
  return rows[0]?.bypasses ? APPLICATION_ROLE : undefined
}

const INT8 = 20

/** `bigint` as bigint: money and token sums outgrow a double. */
const TYPES: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === INT8 ? BigInt : pg.types.getTypeParser(oid, format as 'text')) as typeof pg.types.getTypeParser,
}
