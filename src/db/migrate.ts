import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { APPLICATION_ROLE, type Db, type Tx } from './database.ts'

export interface Migration {
  version: number
  name: string
  /** A server that does not know a breaking migration cannot work on its schema. */
  isBreaking: boolean
}

export interface MigrationStatus extends Migration {
  appliedAt: Date | undefined
}

/** The schema was changed, in a breaking way, by a newer version than this one. */
export class SchemaTooNewError extends Error {
  constructor(versions: number[]) {
    super(
      `The database was upgraded by a newer version (migration ${versions.join(', ')}) in a way this version cannot work with. ` +
        'Start the newer version, or restore the backup made before the upgrade.',
    )
    this.name = 'SchemaTooNewError'
  }
}

/** The schema is of an older version than this one, whose servers may still be running on it. */
export class SchemaTooOldError extends Error {
  constructor(names: string[]) {
    super(
      `The database does not have ${names.join(', ')} yet: start the server of this version, or run "openai-proxy migrate".`,
    )
    this.name = 'SchemaTooOldError'
  }
}

/** A migration changes tables, and something else has had them locked for a minute. */
export class LocksNotAvailableError extends Error {
  constructor() {
    super(
      'The database could not be changed, because a transaction has kept its tables locked for a minute: end it ' +
        '(pg_stat_activity shows the oldest) and start again. Nothing was left half done.',
    )
    this.name = 'LocksNotAvailableError'
  }
}

/**
 * For those that only come by: makes the schema of an empty database, and leaves the upgrade of any other to the server.
 * @returns the migrations applied by this call.
 * @throws {SchemaTooOldError}
 * @throws {SchemaTooNewError}
 */
export async function requireSchema(db: Db, directory: URL = MIGRATIONS): Promise<Migration[]> {
  const status = await migrationStatus(db, directory)
  if (status.every(({ appliedAt }) => appliedAt === undefined)) return migrate(db, directory)
  const newest = (await readMigrations(directory)).at(-1)?.version ?? 0
  refuseNewer(status, newest)
  const pending = status.filter(({ appliedAt }) => appliedAt === undefined)
  if (pending.length > 0) throw new SchemaTooOldError(pending.map(({ name }) => name))
  return []
}

/**
 * Brings the schema up to date: forward only, one transaction each. Two servers starting at once take turns at an advisory
 * lock, and the second finds nothing left to do. Statements of others are never made to wait for long: a migration that does not
 * get its locks at once lets everybody pass and tries again.
 * @returns the migrations applied by this call.
 * @throws {SchemaTooNewError} when a newer version left a breaking migration.
 */
export async function migrate(db: Db, directory: URL = MIGRATIONS): Promise<Migration[]> {
  const known = await readMigrations(directory)
  const applied: Migration[] = []
  for (;;) {
    const next = await withoutBlocking(() => db.forOwner((tx) => applyNext(tx, known, directory)))
    if (!next) break
    applied.push(next)
  }
  await ensurePartitions(db)
  return applied
}

/** The monthly partitions of the coming months, and of months whose rows the default partition had to take. */
export async function ensurePartitions(db: Db): Promise<void> {
  await withoutBlocking(() =>
    db.forOwner(async (tx) => {
      await limitLockWaits(tx)
      await sql`select ensure_attempt_partitions(${PARTITION_MONTHS_AHEAD}::int)`.execute(tx)
    }),
  )
}

/**
 * A lock that is waited for keeps everybody waiting who comes after: `work` waits for each only this long, and `withoutBlocking`
 * tries again.
 */
export async function limitLockWaits(tx: Tx): Promise<void> {
  await sql`select set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true)`.execute(tx)
}

/** @throws {LocksNotAvailableError} when something has held its locks all the while. */
export async function withoutBlocking<T>(work: () => Promise<T>, giveUpMs = GIVE_UP_MS): Promise<T> {
  const giveUpAt = performance.now() + giveUpMs
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!isLockConflict(error)) throw error
      if (performance.now() > giveUpAt) throw new LocksNotAvailableError()
    }
    await sleep(LOCK_TIMEOUT_MS + Math.random() * LOCK_TIMEOUT_MS)
  }
}

/** Lock not available, deadlock: https://www.postgresql.org/docs/current/errcodes-appendix.html */
function isLockConflict(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === '55P03' || error.code === '40P01')
}

/**
 * Every migration of this version and every one the database has, oldest first. Changes nothing.
 * @param db undefined for a database that has not been made yet.
 */
export async function migrationStatus(db: Db | undefined, directory: URL = MIGRATIONS): Promise<MigrationStatus[]> {
  const known = await readMigrations(directory)
  const applied = (await db?.forOwner(async (tx) => ((await hasHistory(tx)) ? readHistory(tx) : []))) ?? []
  const byVersion = new Map<number, MigrationStatus>()
  for (const migration of known) byVersion.set(migration.version, { ...migration, appliedAt: undefined })
  for (const migration of applied) byVersion.set(migration.version, migration)
  return [...byVersion.values()].sort((a, b) => a.version - b.version)
}

const MIGRATIONS = new URL('./migrations/', import.meta.url)
const PARTITION_MONTHS_AHEAD = 3
/** Inserts of attempts wait for no longer than this behind a migration that itself has to wait. */
const LOCK_TIMEOUT_MS = 200
const GIVE_UP_MS = 60_000

/** File names are `0001_what.sql`, or `0001_what.breaking.sql`. */
async function readMigrations(directory: URL): Promise<Migration[]> {
  const files = (await readdir(directory)).filter((file) => file.endsWith('.sql')).sort()
  return files.map((file) => ({
    version: Number(file.slice(0, 4)),
    name: file.replace(/\.sql$/, ''),
    isBreaking: file.endsWith('.breaking.sql'),
  }))
}

async function applyNext(tx: Tx, known: Migration[], directory: URL): Promise<Migration | undefined> {
  await sql`select pg_advisory_xact_lock(hashtext('openai_proxy.migrate'))`.execute(tx)
  // After the lock above, which may take as long as another server's migration; from here on nobody may be kept waiting.
  await limitLockWaits(tx)
  await sql`
    create table if not exists schema_migrations (
      version integer primary key,
      name text not null,
      is_breaking boolean not null,
      applied_at timestamptz not null default now()
    )`.execute(tx)
  const applied = await readHistory(tx)
  const newest = known.at(-1)?.version ?? 0
  refuseNewer(applied, newest)

  const done = new Set(applied.map(({ version }) => version))
  const next = known.find(({ version }) => !done.has(version))
  if (!next) {
    await ensureApplicationRole(tx)
    return undefined
  }
  await sql.raw(await readFile(new URL(`${next.name}.sql`, directory), 'utf8')).execute(tx)
  await sql`insert into schema_migrations (version, name, is_breaking)
    values (${next.version}, ${next.name}, ${next.isBreaking})`.execute(tx)
  return next
}

function refuseNewer(applied: readonly Migration[], newest: number): void {
  const tooNew = applied.filter(({ version, isBreaking }) => version > newest && isBreaking)
  if (tooNew.length > 0) throw new SchemaTooNewError(tooNew.map(({ version }) => version))
}

/**
 * A role that row level security binds, for connections that could otherwise bypass it. Roles belong to the whole database
 * cluster, so another database's server may be making it at the same moment.
 */
async function ensureApplicationRole(tx: Tx): Promise<void> {
  await sql`
    do $$
    begin
      if (select rolsuper or rolbypassrls from pg_roles where rolname = current_user) then
        begin
          create role ${sql.raw(APPLICATION_ROLE)} nologin nosuperuser nobypassrls noinherit;
        exception when duplicate_object or unique_violation then null;
        end;
        if not pg_has_role(current_user, '${sql.raw(APPLICATION_ROLE)}', 'member') then
          grant ${sql.raw(APPLICATION_ROLE)} to current_user;
        end if;
        grant select, insert, update, delete on all tables in schema public to ${sql.raw(APPLICATION_ROLE)};
        revoke all on schema_migrations from ${sql.raw(APPLICATION_ROLE)};
      end if;
    end
    $$`.execute(tx)
}

async function hasHistory(tx: Tx): Promise<boolean> {
  const { rows } = await sql<{ found: boolean }>`
    select to_regclass('schema_migrations') is not null as found`.execute(tx)
  return rows[0]?.found ?? false
}

async function readHistory(tx: Tx): Promise<(Migration & { appliedAt: Date })[]> {
  const { rows } = await sql<{ version: number; name: string; is_breaking: boolean; applied_at: Date }>`
    select version, name, is_breaking, applied_at from schema_migrations order by version`.execute(tx)
  return rows.map((row) => ({
    version: row.version,
    name: row.name,
    isBreaking: row.is_breaking,
    appliedAt: row.applied_at,
  }))
}
