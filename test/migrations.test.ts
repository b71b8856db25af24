import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, globSync } from 'node:fs'
import { chown, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { sql } from 'kysely'
import pg from 'pg'
import { parseIntoClientConfig } from 'pg-connection-string'
import { type Db, openDatabase, type Tx } from '../src/db/database.ts'
import { findUnprivilegedAccount, withoutPrivileges } from '../src/db/embedded/account.ts'
import { migrate, migrationStatus, SchemaTooNewError } from '../src/db/migrate.ts'
import { createDatabase, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'

const MIGRATIONS = new URL('../src/db/migrations/', import.meta.url)

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const embedded = parseIntoClientConfig((await createDatabase(stack)).databaseUrl)
const initdb = [
  ...(process.env.PATH ?? '').split(':').map((directory) => join(directory, 'initdb')),
  ...globSync('/usr/lib/postgresql/*/bin/initdb'),
].find((file) => existsSync(file))
const system = initdb === undefined ? undefined : await startSystemPostgres(initdb)

for (const { name, server, isSuperuser } of [
  { name: 'as superuser of the embedded Postgres', server: embedded, isSuperuser: true },
  { name: 'as ordinary owner in the embedded Postgres', server: embedded, isSuperuser: false },
  { name: "as superuser of the system's Postgres", server: system, isSuperuser: true },
  { name: "as ordinary owner in the system's Postgres", server: system, isSuperuser: false },
]) {
  const skip = server === undefined && 'there is no initdb of the system'
  const newDatabase = () => createEmptyDatabase(server ?? embedded, isSuperuser)

  test(`eight servers starting at once make one schema, ${name}`, { skip }, async () => {
    const connection = await newDatabase()
    const servers = Array.from({ length: 8 }, () => open(connection))

    const applied = await Promise.all(servers.map((db) => migrate(db)))

    const versions = applied.flat().map(({ version }) => version)
    assert.deepEqual(versions.sort(compare), [...new Set(versions)], 'each migration once')
    const status = await migrationStatus(first(servers))
    assert.deepEqual(
      status.map(({ version }) => version),
      versions,
    )
    assert.ok(status.every(({ appliedAt }) => appliedAt instanceof Date))
    assert.ok(versions.length > 0)
  })

  test(`migrating again changes nothing, ${name}`, { skip }, async () => {
    const connection = await newDatabase()
    const db = open(connection)
    await migrate(db)
    const before = await describeSchema(connection)

    assert.deepEqual(await migrate(db), [])
    assert.deepEqual(await migrate(open(connection)), [])

    assert.deepEqual(await describeSchema(connection), before)
    assert.ok(before.length > 50)
  })

  test(`every table of tenants has row security, enabled and forced, with a policy, ${name}`, { skip }, async () => {
    const connection = await newDatabase()
    await migrate(open(connection))

    const tables = await query<{
      relname: string
      is_on: boolean
      is_forced: boolean
      policies: number
      leads: boolean
    }>(
      connection,
      `select c.relname, c.relrowsecurity as is_on, c.relforcerowsecurity as is_forced,
         (select count(*)::int from pg_policy where polrelid = c.oid) as policies,
         exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indkey[0] = a.attnum) as leads
       from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id' and not a.attisdropped
       where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace order by 1`,
    )

    for (const { relname, is_on, is_forced, policies, leads } of tables) {
      assert.ok(is_on && is_forced, `${relname}: row security`)
      assert.ok(leads, `${relname}: organization_id leads its primary key`)
      assert.equal(policies, 1, `${relname}: policies`)
    }
    const names = tables.map(({ relname }) => relname)
    for (const known of ['users', 'api_keys', 'tokens', 'attempts', 'audit_log'])
      assert.ok(names.includes(known), known)
    const open_ = await query<{ relname: string }>(
      connection,
      `select relname from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace
         and not (relrowsecurity and relforcerowsecurity)`,
    )
    assert.deepEqual(
      open_.map(({ relname }) => relname),
      ['schema_migrations'],
    )
  })

  test(`the coming months have their partitions, ${name}`, { skip }, async () => {
    const connection = await newDatabase()
    await migrate(open(connection))
    const partitions = await query<{ relname: string }>(
      connection,
      `select relname from pg_inherits join pg_class on oid = inhrelid where inhparent = 'attempts'::regclass`,
    )
    const now = new Date()
    const expected = [0, 1, 2, 3].map((step) => {
      const month = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + step))
      return `attempts_${month.toISOString().slice(0, 7).replace('-', '')}`
    })
    assert.deepEqual(partitions.map(({ relname }) => relname).sort(), [...expected, 'attempts_default'].sort())
  })

  test(`a transaction works as a role that row security binds, ${name}`, { skip }, async () => {
    const db = open(await newDatabase())
    await migrate(db)
    const roleOf = async (tx: Tx) => {
      const { rows } = await sql<{ rolsuper: boolean; rolbypassrls: boolean; rolcanlogin: boolean }>`
        select rolsuper, rolbypassrls from pg_roles where rolname = current_user`.execute(tx)
      return rows
    }
    const bound = [{ rolsuper: false, rolbypassrls: false }]
    assert.deepEqual(await db.forOrganization(randomUUID(), roleOf), bound)
    assert.deepEqual(await db.forOperator(roleOf), bound)
  })

  test(`one sees one's own rows; without a tenant one sees none, ${name}`, { skip }, async () => {
    const connection = await newDatabase()
    const db = open(connection)
    await migrate(db)
    const [own, other] = [await insertTenant(db), await insertTenant(db)]
    const tables = (
      await query<{ relname: string }>(
        connection,
        `select relname from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace
         and relname <> 'schema_migrations' and not relispartition`,
      )
    ).map(({ relname }) => relname)
    const count = (organizationId: string, table: string) =>
      db.forOrganization(organizationId, async (tx) => {
        const { rows } = await sql<{ count: bigint }>`select count(*) from ${sql.table(table)}`.execute(tx)
        return Number(rows[0]?.count)
      })

    for (const table of tables) assert.equal(await count('', table), 0, `${table} without a tenant`)
    for (const table of ['organizations', 'users', 'tokens', 'upstream_objects', 'ratings']) {
      assert.equal(await count(own, table), 1, table)
      assert.equal(await count(other, table), 1, table)
      assert.equal(await count(randomUUID(), table), 0, table)
    }
    assert.equal(await count(own, 'instance_secrets'), 0, 'no tenant sees the secrets of the installation')
    if (isSuperuser) return
    // The owner of the tables, on a connection on which nobody set anything.
    for (const table of tables) assert.deepEqual(await query(connection, `select * from ${table}`), [], table)
  })

  test(`a partition read by its own name shows what its table shows, and takes nothing for another tenant, ${name}`, {
    skip,
  }, async () => {
    const connection = await newDatabase()
    const db = open(connection)
    await migrate(db)
    const [own, other] = [await insertTenant(db), await insertTenant(db)]
    const longAgo = '2020-05-15T00:00:00Z'
    const nextYear = new Date(Date.now() + 400 * 86_400_000).toISOString()
    for (const organizationId of [own, other]) {
      for (const at of [longAgo, new Date().toISOString(), nextYear]) await insertAttempt(db, organizationId, at)
    }
    // Two new partitions for what the default one took, as each start of a server makes them.
    await migrate(db)
    // The next start lets the application's role reach them by their names.
    await migrate(db)
    const partitions = (
      await query<{ relname: string }>(
        connection,
        "select relname from pg_inherits join pg_class on oid = inhrelid where inhparent = 'attempts'::regclass order by 1",
      )
    ).map(({ relname }) => relname)
    const countIn = async (tx: Tx, table: string) =>
      Number((await sql<{ count: bigint }>`select count(*) from ${sql.table(table)}`.execute(tx)).rows[0]?.count)
    const countAll = async (tx: Tx) => {
      let sum = 0
      for (const partition of partitions) sum += await countIn(tx, partition)
      return { table: await countIn(tx, 'attempts'), partitions: sum }
    }

    assert.ok(partitions.includes('attempts_202005') && partitions.length === 7, partitions.join())
    assert.deepEqual(await db.forOrganization(own, countAll), { table: 3, partitions: 3 })
    assert.deepEqual(await db.forOrganization(other, countAll), { table: 3, partitions: 3 })
    assert.deepEqual(await db.forOperator(countAll), { table: 6, partitions: 6 })
    assert.deepEqual(await db.forOrganization(randomUUID(), countAll), { table: 0, partitions: 0 })
    assert.deepEqual(await db.forOrganization('', countAll), { table: 0, partitions: 0 })
    for (const partition of partitions) {
      const stolen = await db.forOrganization(own, (tx) =>
        sql`delete from ${sql.table(partition)} where organization_id = ${other}`.execute(tx),
      )
      assert.equal(stolen.numAffectedRows, 0n, partition)
    }
    await assert.rejects(
      db.forOrganization(own, (tx) => sql`update attempts_202005 set organization_id = ${other}`.execute(tx)),
      { code: '42501' },
    )
  })

  test(`nothing can be written for another tenant, ${name}`, { skip }, async () => {
    const db = open(await newDatabase())
    await migrate(db)
    const [own, other] = [await insertTenant(db), await insertTenant(db)]
    const refused = { code: '42501' }
    const asOwn = (statement: ReturnType<typeof sql>) => db.forOrganization(own, (tx) => statement.execute(tx))

    await assert.rejects(asOwn(sql`insert into users (organization_id, external_id) values (${other}, 'x')`), refused)
    await assert.rejects(asOwn(sql`update users set organization_id = ${other}`), refused)
    await assert.rejects(asOwn(sql`insert into organizations (name) values ('x')`), refused)
    await assert.rejects(asOwn(sql`insert into instance_secrets (name, sealed) values ('x', 'y')`), refused)
    await assert.rejects(
      asOwn(sql`insert into upstream_objects (organization_id, object_id, kind, api_key_id)
        values (${other}, 'resp_x', 'response', gen_random_uuid())`),
      refused,
    )
    const ofOther = sql`organization_id = ${other}`
    for (const statement of [
      sql`update users set external_id = 'stolen' where ${ofOther}`,
      sql`delete from users where ${ofOther}`,
      sql`delete from ratings where ${ofOther}`,
    ]) {
      assert.equal((await asOwn(statement)).numAffectedRows, 0n)
    }
    await assert.rejects(
      db.forOrganization('', (tx) =>
        sql`insert into users (organization_id, external_id) values (${own}, 'x')`.execute(tx),
      ),
      refused,
    )
  })
}

test('an older version refuses a schema that a newer one changed in a breaking way, and leaves it as it is', async () => {
  const connection = await createEmptyDatabase(embedded, true)
  const db = open(connection)
  await migrate(db)
  await query(connection, "insert into schema_migrations (version, name, is_breaking) values (9998, '9998_x', false)")
  assert.deepEqual(await migrate(db), [], 'a change that breaks nothing is accepted')

  await query(connection, "insert into schema_migrations (version, name, is_breaking) values (9999, '9999_y', true)")
  const before = await describeSchema(connection)

  await assert.rejects(migrate(db), (error) => error instanceof SchemaTooNewError && /9999/.test(error.message))
  assert.deepEqual(await describeSchema(connection), before)
  assert.deepEqual(
    (await migrationStatus(db)).slice(-2).map(({ name }) => name),
    ['9998_x', '9999_y'],
  )
})

test('a newer version brings an older schema up to date, and what it breaks is on record', async () => {
  const directory = await copyOfMigrations()
  const connection = await createEmptyDatabase(embedded, true)
  const [older, newer] = [open(connection), open(connection)]
  await migrate(older)
  await writeFile(new URL('9001_more.sql', directory), 'alter table users add column nickname text;')
  await writeFile(new URL('9002_less.breaking.sql', directory), 'alter table users drop column nickname;')

  assert.deepEqual(await migrate(newer, directory), [
    { version: 9001, name: '9001_more', isBreaking: false },
    { version: 9002, name: '9002_less.breaking', isBreaking: true },
  ])
  await assert.rejects(migrate(older), SchemaTooNewError)
})

test('an upgrade gives the partitions that there are the policy of their table', async () => {
  const directory = await copyOfMigrations()
  await rm(new URL('0018_partition_policies.sql', directory))
  const connection = await createEmptyDatabase(embedded, true)
  const db = open(connection)
  const countByPolicies = () =>
    query<{ policies: number; partitions: number }>(
      connection,
      `select policies, count(*)::int as partitions from (
         select count(polname)::int as policies from pg_inherits left join pg_policy on polrelid = inhrelid
         where inhparent = 'attempts'::regclass group by inhrelid
       ) as counted group by 1 order by 1`,
    )
  await migrate(db, directory)
  const before = await countByPolicies()

  await migrate(db)

  assert.deepEqual(before, [
    { policies: 0, partitions: 4 },
    { policies: 1, partitions: 1 },
  ])
  assert.deepEqual(await countByPolicies(), [{ policies: 1, partitions: 5 }])
})

test('a migration that fails leaves nothing of itself, and those before it stay', async () => {
  const directory = await copyOfMigrations()
  const connection = await createEmptyDatabase(embedded, false)
  const db = open(connection)
  await writeFile(new URL('9001_good.sql', directory), 'create table good (n integer);')
  await writeFile(new URL('9002_bad.sql', directory), 'create table bad (n integer); select 1 / 0;')

  await assert.rejects(migrate(db, directory), { code: '22012' })

  const [found] = await query(connection, "select to_regclass('good') as good, to_regclass('bad') as bad")
  assert.deepEqual(found, { good: 'good', bad: null })
  const pending = (await migrationStatus(db, directory)).filter(({ appliedAt }) => appliedAt === undefined)
  assert.deepEqual(
    pending.map(({ name }) => name),
    ['9002_bad'],
  )
  await writeFile(new URL('9002_bad.sql', directory), 'create table bad (n integer);')
  assert.deepEqual(
    (await migrate(db, directory)).map(({ name }) => name),
    ['9002_bad'],
  )
})

test('a migration that has to wait for a lock keeps nobody waiting, and goes through when it is free', async () => {
  const directory = await copyOfMigrations()
  const connection = await createEmptyDatabase(embedded, true)
  const db = open(connection)
  await migrate(db)
  await writeFile(new URL('9001_wait.sql', directory), 'alter table users add column nickname text;')
  const reader = new pg.Client(connection)
  await reader.connect()
  await reader.query('begin')
  await reader.query('select count(*) from users')

  const migrating = migrate(db, directory)
  // For as long as the reader reads, others insert: none of them waits behind the migration for long.
  const waits: number[] = []
  for (let at = 0; at < 30; at += 1) {
    const startedAt = performance.now()
    await insertTenant(db)
    waits.push(performance.now() - startedAt)
  }
  await reader.query('commit')
  await reader.end()

  assert.deepEqual(
    (await migrating).map(({ name }) => name),
    ['9001_wait'],
  )
  assert.ok(Math.max(...waits) < 5000, `${Math.max(...waits)} ms`)
})

test('a server that is killed in the middle of a migration leaves nothing of it, and the next one finishes it', async () => {
  const directory = await copyOfMigrations()
  const connection = await createEmptyDatabase(embedded, true)
  const db = open(connection)
  await migrate(db)
  await writeFile(new URL('9001_slow.sql', directory), 'create table slow (n integer); select pg_sleep(60);')
  const program = `
    const { openDatabase } = await import(${JSON.stringify(new URL('../src/db/database.ts', import.meta.url).href)})
    const { migrate } = await import(${JSON.stringify(new URL('../src/db/migrate.ts', import.meta.url).href)})
    await migrate(openDatabase(${JSON.stringify(connection)}, 2, () => {}), new URL(${JSON.stringify(directory.href)}))`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'ignore' })
  const sleeping = () =>
    query<{ pid: number }>(
      connection,
      "select pid from pg_stat_activity where query like '%pg_sleep(60)%' and datname = current_database() and pid <> pg_backend_pid()",
    )
  const [backend] = await askUntil(sleeping, (rows) => rows.length > 0)
  child.kill('SIGKILL')
  await once(child, 'exit')
  // What the database notices of a client that is gone, once its statement ends.
  await query(connection, `select pg_terminate_backend(${backend?.pid})`)

  assert.deepEqual(await query(connection, "select to_regclass('slow') as slow"), [{ slow: null }])
  await writeFile(new URL('9001_slow.sql', directory), 'create table slow (n integer);')
  assert.deepEqual(
    (await migrate(db, directory)).map(({ name }) => name),
    ['9001_slow'],
  )
})

test('asking for the status changes nothing, not even on an empty database', async () => {
  const connection = await createEmptyDatabase(embedded, false)

  const status = await migrationStatus(open(connection))

  assert.ok(status.length > 0 && status.every(({ appliedAt }) => appliedAt === undefined))
  assert.deepEqual(
    await query(connection, "select relname from pg_class where relnamespace = 'public'::regnamespace"),
    [],
  )
})

function open(connection: pg.ClientConfig): Db {
  return stack.use(openDatabase(connection, 2, () => {}))
}

/** A new database; its owner is a superuser, or a role that may do nothing else. */
async function createEmptyDatabase(server: pg.ClientConfig, isSuperuser: boolean): Promise<pg.ClientConfig> {
  const name = `test_${randomBytes(6).toString('hex')}`
  if (isSuperuser) {
    await query(server, `create database ${name}`)
    return { ...server, database: name }
  }
  await query(server, `create role ${name} login nosuperuser nocreatedb nocreaterole nobypassrls`)
  await query(server, `create database ${name} owner ${name}`)
  return { ...server, user: name, database: name }
}

/** An organization with a row in the tables that are easily filled. */
async function insertTenant(db: Db): Promise<string> {
  return db.forOperator(async (tx) => {
    const { id } = await tx.insertInto('organizations').values({ name: 'x' }).returning('id').executeTakeFirstOrThrow()
    await sql`insert into users (organization_id, external_id) values (${id}, 'alice')`.execute(tx)
    await sql`insert into tokens (organization_id, scopes, generation, expires_at)
      values (${id}, array['inference'], 1, now())`.execute(tx)
    await sql`insert into upstream_objects (organization_id, object_id, kind, api_key_id)
      values (${id}, 'resp_1', 'response', gen_random_uuid())`.execute(tx)
    await sql`insert into ratings (organization_id, request_id, rating) values (${id}, 'req_1', 1)`.execute(tx)
    return id
  })
}

async function insertAttempt(db: Db, organizationId: string, openedAt: string): Promise<void> {
  await db.forOperator((tx) =>
    sql`insert into attempts (organization_id, attempt_id, opened_at, settled_at, request_id, endpoint, api_key_id, session_id,
        is_stream, status, usage_source, duration_ms)
      values (${organizationId}, gen_random_uuid(), ${openedAt}, ${openedAt}, ${`req_${randomUUID()}`}, 'responses.create',
        gen_random_uuid(), 'session', false, 'completed', 'unknown', 1)`.execute(tx),
  )
}

/** Everything a migration could change; what is granted on partitions says nothing, as they are reached through their table. */
async function describeSchema(connection: pg.ClientConfig): Promise<unknown[]> {
  return query(
    connection,
    `select relname, relkind, relrowsecurity, relforcerowsecurity, case when not relispartition then relacl::text end, attname, format_type(atttypid, atttypmod)
     from pg_class left join pg_attribute on attrelid = pg_class.oid and attnum > 0
     where relnamespace = 'public'::regnamespace order by relname, attnum`,
  )
}

async function query<T extends pg.QueryResultRow>(connection: pg.ClientConfig, text: string): Promise<T[]> {
  const client = new pg.Client(connection)
  await client.connect()
  try {
    return (await client.query<T>(text)).rows
  } finally {
    await client.end()
  }
}

async function copyOfMigrations(): Promise<URL> {
  const directory = await temporaryDirectory(stack)
  await cp(MIGRATIONS, directory, { recursive: true })
  return pathToFileURL(`${directory}/`)
}

/** The Postgres of the machine, on a unix socket, as an unprivileged user. */
async function startSystemPostgres(program: string): Promise<pg.ClientConfig> {
  const account = await findUnprivilegedAccount()
  const home = await mkdtemp('/tmp/openai-proxy-pg-')
  stack.defer(() => rm(home, { recursive: true, force: true, maxRetries: 10 }))
  const data = join(home, 'data')
  await mkdir(data, { mode: 0o700 })
  if (account) for (const path of [home, data]) await chown(path, account.uid, account.gid)
  const options = { ...withoutPrivileges(account), stdio: 'ignore' as const }
  const making = spawn(program, ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8'], options)
  assert.deepEqual(await once(making, 'close'), [0, null], `${program} fails`)
  const postgres = join(program, '..', 'postgres')
  const real = existsSync(postgres) ? postgres : first(globSync('/usr/lib/postgresql/*/bin/postgres'))
  const settings = ['-c', 'listen_addresses=', '-c', 'fsync=off', '-c', `unix_socket_directories=${home}`]
  const server = spawn(real, ['-D', data, ...settings], options)
  stack.defer(() => stop(server))
  const connection = { host: home, port: 5432, user: 'postgres', database: 'postgres' }
  await untilReady(connection, server)
  return connection
}

async function untilReady(connection: pg.ClientConfig, server: ChildProcess): Promise<void> {
  for (const deadline = performance.now() + 20_000; ; ) {
    try {
      await query(connection, 'select 1')
      return
    } catch (error) {
      if (performance.now() > deadline || server.exitCode !== null) throw error
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null) return
  const closed = once(server, 'close')
  server.kill('SIGINT')
  await closed
}

function first<T>(list: readonly T[]): T {
  assert.ok(list[0] !== undefined)
  return list[0]
}

function compare(a: number, b: number): number {
  return a - b
}
