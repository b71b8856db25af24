import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname } from 'node:path'
import { type Account, withoutPrivileges } from './account.ts'
import { EmbeddedDatabaseError, noSpaceLeft, tellsOfNoSpace } from './error.ts'

/** The superuser of the cluster. */
export const OWNER = 'openai_proxy_owner'

/** Makes an empty directory of the account's into a Postgres data directory, synced to disk. */
export async function runInitdb(initdb: string, directory: string, account: Account | undefined): Promise<void> {
  const child = spawn(initdb, [`--pgdata=${directory}`, ...OPTIONS], {
    ...withoutPrivileges(account),
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  const [code, signal] = await once(child, 'close').catch((cause: unknown) => {
    throw new EmbeddedDatabaseError(`The program ${initdb} cannot be run (${cause}): let this user run it.`, { cause })
  })
  if (code === 0) return
  const home = dirname(directory)
  if (tellsOfNoSpace(output)) throw noSpaceLeft(home)
  const reason = signal ? `initdb was ended by ${signal}` : findReason(output)
  throw new EmbeddedDatabaseError(`The database could not be created in ${home}: ${reason}`)
}

function findReason(output: string): string {
  const lines = output.trim().split('\n')
  const errors = lines.filter((line) => /error:|FATAL:|PANIC:/.test(line))
  return (errors.length > 0 ? errors : lines.slice(-3)).join(' ')
}

const TIMEOUT_MS = 120_000

/** Defaults for a small server beside the proxy. They go to postgresql.conf, so they are the operator's to change. */
const SETTINGS = [
  'max_connections=100',
  'shared_buffers=64MB',
  // Nothing replicates from an embedded server, and pg_dump needs neither.
  'wal_level=minimal',
  'max_wal_senders=0',
  // Bounds how long recovery takes after a crash.
  'max_wal_size=256MB',
  // Parallel plans would take the processors from the proxy.
  'max_parallel_workers_per_gather=0',
  // Shared memory in files of our own: containers bound /dev/shm to 64 MB, and systemd empties it when a user logs out.
  'dynamic_shared_memory_type=mmap',
]

const OPTIONS = [
  `--username=${OWNER}`,
  // Only this user and root get into the socket directory (mode 0700), and a password would have to lie right beside it.
  '--auth-local=trust',
  '--auth-host=reject',
  // Collation by Postgres's own tables: no update of the system's C library can change the order within an index.
  '--encoding=UTF8',
  '--locale=C',
  '--locale-provider=builtin',
  '--builtin-locale=C.UTF-8',
  '--data-checksums',
  '--no-instructions',
  ...SETTINGS.map((setting) => `--set=${setting}`),
]
