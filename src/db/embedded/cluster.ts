import {
  chown,
  lstat,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Account, findAccountName, findBarrier, findUnprivilegedAccount, isRoot, letPass } from './account.ts'
import { findBinaries } from './binaries.ts'
import { EmbeddedDatabaseError, undefinedIfMissing } from './error.ts'
import { createHome } from './home.ts'
import { runInitdb } from './initdb.ts'

export type Cluster = {
  /** The data directory of Postgres, by its real path. */
  directory: string
  /** Holds it and what goes with it: the proxy's data directory, or another place where Postgres cannot get there. */
  home: string
  /** Whose the files are and as whom Postgres runs; undefined when that is this process's own user. */
  account: Account | undefined
}

/** Finds the cluster of a data directory (a real path) at `<dataDirectory>/postgres`, or makes it. Call it under the lock. */
export async function openCluster(dataDirectory: string, log: (message: string) => void): Promise<Cluster> {
  return (await findCluster(dataDirectory)) ?? (await createCluster(dataDirectory, log))
}

async function findCluster(dataDirectory: string): Promise<Cluster | undefined> {
  const directory = await resolveLink(join(dataDirectory, 'postgres'))
  if (!directory) return undefined
  const account = await requireOwner(directory)
  if ((await readdir(directory)).length === 0) return undefined
  await requireVersion(directory)
  await requireWay(dataDirectory, directory, account)
  return { directory, home: dirname(directory), account }
}

async function resolveLink(path: string): Promise<string | undefined> {
  if (!(await lstat(path).catch(undefinedIfMissing))) return undefined
  const directory = await realpath(path).catch(undefinedIfMissing)
  if (directory) return directory
  throw new EmbeddedDatabaseError(
    `The database is kept in ${await readlink(path)}, which is gone: put it back, or remove the link ${path} to begin with an empty one.`,
  )
}

/** The files decide who runs Postgres: root can serve anyone's, others only their own. */
async function requireOwner(directory: string): Promise<Account | undefined> {
  const { uid, gid } = await stat(directory)
  if (!isRoot && uid === process.geteuid?.()) return undefined
  const name = (await findAccountName(uid)) ?? `user ${uid}`
  if (uid === 0) {
    throw new EmbeddedDatabaseError(
      `The database in ${directory} belongs to root, as whom Postgres refuses to run: give it to another user with chown -R.`,
    )
  }
  if (isRoot) return { uid, gid, name }
  throw new EmbeddedDatabaseError(`The database in ${directory} belongs to ${name}: run this as ${name} or as root.`)
}

async function requireVersion(directory: string): Promise<void> {
  const version = (await readFile(join(directory, 'PG_VERSION'), 'utf8').catch(undefinedIfMissing))?.trim()
  if (version === MAJOR_VERSION) return
  if (!version) {
    throw new EmbeddedDatabaseError(`The directory ${directory} holds something else than a database: move it away.`)
  }
  throw new EmbeddedDatabaseError(
    `The database in ${directory} was made by Postgres ${version} and was left as it is, because this release embeds Postgres ${MAJOR_VERSION}: dump it with the release that made it, move it away, start again and restore the dump.`,
  )
}

const MAJOR_VERSION = '18'

async function requireWay(dataDirectory: string, directory: string, account: Account | undefined): Promise<void> {
  await letPass(dataDirectory, account)
  const barrier = await findBarrier(directory, account)
  if (!barrier) return
  throw new EmbeddedDatabaseError(
    `Postgres runs as ${account?.name}, who cannot enter ${barrier} on the way to ${directory}: allow it, or move the data directory.`,
  )
}

async function createCluster(dataDirectory: string, log: (message: string) => void): Promise<Cluster> {
  const account = await findUnprivilegedAccount()
  await letPass(dataDirectory, account)
  const isReachable = !(await findBarrier(dataDirectory, account))
  const home = isReachable ? dataDirectory : await createHome(dataDirectory, account, log)
  const directory = join(home, 'postgres')
  log(`Creating the database in ${directory}: this takes a few seconds, once.`)
  await initialise(home, directory, account)
  if (!isReachable) {
    // The link comes last: until it is there, this start has not happened.
    await symlink(directory, join(dataDirectory, 'postgres'))
    await syncDirectory(dataDirectory)
  }
  return { directory, home, account }
}

/** All or nothing: the directory gets its name when it is complete and on disk. */
async function initialise(home: string, directory: string, account: Account | undefined): Promise<void> {
  const { initdb } = await findBinaries(home, account)
  for (const name of await readdir(home)) {
    // Left by a start that was killed. Its initdb may still be writing, hence the retries.
    if (name.startsWith(UNFINISHED)) await rm(join(home, name), { recursive: true, force: true, maxRetries: 10 })
  }
  const unfinished = await mkdtemp(join(home, UNFINISHED))
  try {
    if (account) await chown(unfinished, account.uid, account.gid)
    await runInitdb(initdb, unfinished, account)
    await rename(unfinished, directory)
    await syncDirectory(home)
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    throw error
  }
}

const UNFINISHED = 'postgres.new-'

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path)
  await directory.sync()
}
