import { chmod, chown, readFile, realpath, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { EmbeddedDatabaseError } from './error.ts'

/** The user Postgres runs as. It refuses to be root, so a root process lends it an unprivileged account. */
export type Account = { uid: number; gid: number; name: string }

export const isRoot = process.geteuid?.() === 0

/** The account that a new database will belong to; undefined when this process, being unprivileged, can run Postgres itself. */
export async function findUnprivilegedAccount(): Promise<Account | undefined> {
  if (!isRoot) return undefined
  const accounts = await readAccounts()
  // initdb looks its own user up, so the account must be one that exists.
  const account = accounts.find(({ name }) => name === 'postgres') ?? accounts.find(({ name }) => name === 'nobody')
  if (account) return account
  throw new EmbeddedDatabaseError(
    'Postgres refuses to run as root, and there is no user "postgres" or "nobody" to run it: add one, or start as another user.',
  )
}

/** How a program of Postgres is spawned: as the account, from a directory it may enter, and without our secrets. */
export function withoutPrivileges(account: Account | undefined) {
  return {
    ...(account && { uid: account.uid, gid: account.gid }),
    cwd: '/',
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' },
  }
}

export async function findAccountName(uid: number): Promise<string | undefined> {
  return (await readAccounts()).find((account) => account.uid === uid)?.name
}

/** The first directory on the way to `path` (itself included) that the account may not enter. */
export async function findBarrier(path: string, account: Account | undefined): Promise<string | undefined> {
  if (!account) return undefined
  for (let directory = await realpath(path); ; directory = dirname(directory)) {
    if (!mayExecute(await stat(directory), account)) return directory
    if (directory === dirname(directory)) return undefined
  }
}

/**
 * Lets the account pass through a data directory that only root may enter. Only the directory itself, which is the product's
 * own, and only passing through, not listing: the alternative is a database outside of the volume the operator chose.
 */
export async function letPass(directory: string, account: Account | undefined): Promise<void> {
  if (!account || (await findBarrier(dirname(directory), account))) return
  const { uid, mode } = await stat(directory)
  if (uid !== 0 || (mode & 0o077) !== 0) return
  await chown(directory, 0, account.gid)
  await chmod(directory, 0o710)
}

// Supplementary groups do not count: Node drops them when it starts a child under another uid.
function mayExecute(entry: { uid: number; gid: number; mode: number }, account: Account): boolean {
  if (entry.uid === account.uid) return (entry.mode & 0o100) !== 0
  if (entry.gid === account.gid) return (entry.mode & 0o010) !== 0
  return (entry.mode & 0o001) !== 0
}

async function readAccounts(): Promise<Account[]> {
  const lines = (await readFile('/etc/passwd', 'utf8').catch(() => '')).split('\n')
  return lines.flatMap((line) => {
    const [name = '', , uid, gid] = line.split(':')
    // macOS writes nobody's ids as -2.
    return uid && gid && uid !== '0' ? [{ name, uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 }] : []
  })
}
