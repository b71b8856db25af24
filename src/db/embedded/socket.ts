import { createHash } from 'node:crypto'
import { chmod, chown, lstat, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Cluster } from './cluster.ts'
import { EmbeddedDatabaseError, hasCode } from './error.ts'

/** The directory of the server's socket, which only the server's user and root can enter. The same one for every process. */
export async function openSocketDirectory({ directory, home, account }: Cluster): Promise<string> {
  const path = shorten(join(home, 'socket'), directory)
  await mkdir(path, { mode: 0o700 }).catch((error) => {
    if (!hasCode(error, 'EEXIST')) throw error
  })
  const found = await lstat(path)
  const owner = account?.uid ?? process.geteuid?.()
  // In /tmp anyone could have been there first, and would be handed every query.
  if (!found.isDirectory() || (found.uid !== owner && found.uid !== process.geteuid?.())) {
    throw new EmbeddedDatabaseError(
      `${path}, needed for the socket of the database, belongs to another user: remove it.`,
    )
  }
  await chmod(path, 0o700)
  if (account) await chown(path, account.uid, account.gid)
  return path
}

function shorten(path: string, clusterDirectory: string): string {
  if (Buffer.byteLength(join(path, '.s.PGSQL.5432')) <= SOCKET_PATH_BYTES_MAX) return path
  // Not os.tmpdir(): TMPDIR may differ between the server and a command beside it, and on macOS it is long itself.
  return `/tmp/openai-proxy-${createHash('sha256').update(clusterDirectory).digest('hex').slice(0, 16)}`
}

/** What fits in sockaddr_un on macOS; Linux has four more. */
const SOCKET_PATH_BYTES_MAX = 103
