import { spawn } from 'node:child_process'
import { open, readFile, rename, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { withoutPrivileges } from './account.ts'
import { findBinaries } from './binaries.ts'
import type { Cluster } from './cluster.ts'
import { EmbeddedDatabaseError, hasCode, noSpaceLeft, tellsOfNoSpace } from './error.ts'
import { disownLockFiles, findPostmaster, isPostmaster } from './postmaster.ts'

/** What `pg` needs to connect. Without `ssl: false` a PGSSLMODE in the environment would be asked of the socket, in vain. */
export type Connection = { host: string; port: number; user: string; database: string; ssl: false }

type Server = { cluster: Cluster; connection: Connection; logFile: string }

/**
 * Makes sure that a server on the cluster answers queries and has the database. `attached` when it was running already,
 * whoever started it, be it a process killed since. Call it under the lock.
 */
export async function startServer(server: Server): Promise<'started' | 'attached'> {
  const deadline = performance.now() + START_TIMEOUT_MS
  let run: Run | undefined
  for (;;) {
    const postmaster = await findPostmaster(server.cluster.directory)
    if (postmaster?.state !== 'busy' && (await answers(server))) return run ? 'started' : 'attached'
    // A server that was coming up when its starter was killed can win the race for the data directory; then wait for that one.
    if (run?.hasEnded() && !postmaster && !(await isHeldBySessions(run))) throw await explainFailure(server, run)
    if (run?.hasEnded()) run = undefined
    if (!run && !postmaster) run = await spawnServer(server)
    if (performance.now() > deadline) throw await explainFailure(server, run)
    await sleep(POLL_MS)
  }
}

/** Fast shutdown: sessions are ended, everything is written out, the next start has nothing to recover. */
export async function stopServer({ directory }: Cluster): Promise<void> {
  const pid = (await findPostmaster(directory))?.pid
  if (pid === undefined) return
  // SIGQUIT leaves recovery to the next start, and loses nothing either.
  if (await endsAfter('SIGINT', pid, directory, 30_000)) return
  if (await endsAfter('SIGQUIT', pid, directory, 10_000)) return
  throw new EmbeddedDatabaseError(`The database server, process ${pid}, does not end: look after that process.`)
}

async function endsAfter(signal: NodeJS.Signals, pid: number, directory: string, patienceMs: number): Promise<boolean> {
  const deadline = performance.now() + patienceMs
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error
  }
  // It may not be our child, so there is no exit event to wait for.
  while (await isPostmaster(pid, directory)) {
    if (performance.now() > deadline) return false
    await sleep(POLL_MS)
  }
  return true
}

const START_TIMEOUT_MS = 60_000
const POLL_MS = 20

/** One run of the server as our child, and what it has logged since. */
type Run = { hasEnded: () => boolean; readLog: () => Promise<string> }

async function spawnServer({ cluster, connection, logFile }: Server): Promise<Run> {
  const { postgres } = await findBinaries(cluster.home, cluster.account)
  await disownLockFiles(cluster.directory, connection.host)
  await using log = await openLog(logFile)
  // Ours to give away, so that a later run by the owner of the files can write it.
  if (cluster.account) await log.chown(cluster.account.uid, cluster.account.gid)
  const { size: logOffset } = await log.stat()
  const child = spawn(postgres, ['-D', cluster.directory, ...toOptions(connection)], {
    ...withoutPrivileges(cluster.account),
    // In a session of its own: Ctrl-C in the terminal is for the proxy, which drains before it stops the database.
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
  })
  let failure = ''
  let hasEnded = false
  child.once('error', (error) => {
    failure = String(error)
    hasEnded = true
  })
  child.once('exit', () => {
    hasEnded = true
  })
  child.unref()
  return {
    hasEnded: () => hasEnded,
    readLog: async () => failure || (await readFile(logFile)).subarray(logOffset).toString().trim(),
  }
}

/** What is not the operator's to change in postgresql.conf, because durability or secrecy hangs on it. */
function toOptions({ host, port }: Connection): string[] {
  const settings = {
    listen_addresses: '',
    port,
    // A list of directories, in which a quoted one may hold commas and blanks.
    unix_socket_directories: `"${host.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
    logging_collector: 'off',
    log_destination: 'stderr',
    // Errors of a statement reach its caller. To log them as well would keep tenants' data, and grow without bound.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    log_error_verbosity: 'terse',
    log_statement: 'none',
    log_checkpoints: 'off',
  }
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

async function openLog(path: string) {
  const size = (await stat(path).catch(() => undefined))?.size ?? 0
  if (size > LOG_BYTES_MAX) await rename(path, `${path}.1`)
  return open(path, 'a', 0o600)
}

const LOG_BYTES_MAX = 1024 * 1024

/** Sessions outlive a killed server for a moment, in which Postgres refuses to start beside them. */
async function isHeldBySessions(run: Run): Promise<boolean> {
  return (await run.readLog()).includes('pre-existing shared memory block')
}

async function explainFailure({ cluster, logFile }: Server, run: Run | undefined): Promise<EmbeddedDatabaseError> {
  const log = run ? await run.readLog() : (await readFile(logFile, 'utf8').catch(() => '')).trim()
  if (tellsOfNoSpace(log)) return noSpaceLeft(cluster.home)
  const failure = run?.hasEnded() ? 'did not start' : `did not answer within ${START_TIMEOUT_MS / 1000} seconds`
  return new EmbeddedDatabaseError(
    `The database server in ${cluster.directory} ${failure}. Its log ${logFile} ends with:\n${log.split('\n').slice(-5).join('\n')}`,
  )
}

/** Whether queries are answered now. Not running, starting and stopping are all no; a missing database is made on the way. */
async function answers({ cluster, connection }: Server): Promise<boolean> {
  try {
    await query(connection, 'select 1').catch(async (error) => {
      if (!hasCode(error, INVALID_CATALOG_NAME)) throw error
      await query({ ...connection, database: 'postgres' }, `create database ${connection.database}`)
    })
    return true
  } catch (error) {
    if (hasCode(error, DISK_FULL)) throw noSpaceLeft(cluster.home, error)
    if (error instanceof pg.DatabaseError && !error.code?.startsWith(OPERATOR_INTERVENTION)) throw error
    return false
  }
}

/** @see https://www.postgresql.org/docs/18/errcodes-appendix.html */
const INVALID_CATALOG_NAME = '3D000'
const DISK_FULL = '53100'
const OPERATOR_INTERVENTION = '57P'

async function query(connection: Connection, text: string): Promise<void> {
  const client = new pg.Client({ ...connection, connectionTimeoutMillis: 2_000, query_timeout: 30_000 })
  // A connection that is cut while idle reports it as an event, which would end the process if nobody listened.
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query(text)
  } finally {
    await client.end().catch(() => undefined)
  }
}
