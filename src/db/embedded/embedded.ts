/** The default database: a real Postgres of our own, run as a child process on a unix socket inside the data directory. */
import { mkdir, realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { hasLiveLease, takeLease, withLock } from '../process-lock.ts'
import { type Cluster, openCluster } from './cluster.ts'
import { explainFileError } from './error.ts'
import { OWNER } from './initdb.ts'
import { findPostmaster } from './postmaster.ts'
import { type Connection, startServer, stopServer } from './server.ts'
import { openSocketDirectory } from './socket.ts'

export type EmbeddedDatabase = {
  /** For `pg`: the host is the directory of the socket. The user is the superuser of this server. */
  connection: Connection
  /** What an operator types into a shell to look inside. */
  psqlCommand: string
  /** This process started the server, rather than finding it running. Who stops it is another matter: the last to leave. */
  isOwner: boolean
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Opens the database of a data directory, starting the server unless it runs already. Any number of processes may have it open;
 * the last one to dispose of it stops the server. Throws `EmbeddedDatabaseError` for all that an operator can put right.
 */
export async function openEmbeddedDatabase(options: {
  dataDirectory: string
  log?: (message: string) => void
}): Promise<EmbeddedDatabase> {
  const { log = () => undefined } = options
  try {
    const dataDirectory = await openDataDirectory(options.dataDirectory)
    return await underLock(dataDirectory, () => open(dataDirectory, log))
  } catch (error) {
    throw explainFileError(error, options.dataDirectory)
  }
}

async function open(dataDirectory: string, log: (message: string) => void): Promise<EmbeddedDatabase> {
  const cluster = await openCluster(dataDirectory, log)
  const connection = await toConnection(cluster)
  const clients = join(cluster.home, 'clients')
  const giveLeaseBack = await takeLease(clients)
  const leave = async () => {
    await giveLeaseBack()
    if (!(await hasLiveLease(clients))) await stopServer(cluster)
  }
  const logFile = join(dataDirectory, 'postgres.log')
  const outcome = await startServer({ cluster, connection, logFile }).catch(async (error) => {
    // One that is still recovering is left to it: stopped now, it would begin all over again at every start.
    if ((await findPostmaster(cluster.directory))?.state === 'busy') await giveLeaseBack()
    else await leave()
    throw error
  })
  return {
    connection,
    psqlCommand: `psql -h ${quote(connection.host)} -U ${connection.user} ${connection.database}`,
    isOwner: outcome === 'started',
    [Symbol.asyncDispose]: () => underLock(dataDirectory, leave),
  }
}

function underLock<T>(dataDirectory: string, work: () => Promise<T>): Promise<T> {
  return withLock(join(dataDirectory, 'postgres.lock'), LOCK_TIMEOUT_MS, work)
}

/** Longer than the slowest thing done under the lock: a first start on a slow disk. */
const LOCK_TIMEOUT_MS = 200_000

/** The real path, because names and hashes are derived from it and must agree between processes. */
async function openDataDirectory(path: string): Promise<string> {
  await mkdir(resolve(path), { recursive: true, mode: 0o700 })
  return realpath(path)
}

async function toConnection(cluster: Cluster): Promise<Connection> {
  const host = await openSocketDirectory(cluster)
  return { host, port: 5432, user: OWNER, database: 'openai_proxy', ssl: false }
}

function quote(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}
