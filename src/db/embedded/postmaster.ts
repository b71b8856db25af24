import { execFile } from 'node:child_process'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { hasCode, undefinedIfMissing } from './error.ts'

/** A running server: its first process, and what that one says about itself. */
type Postmaster = { pid: number; state: 'ready' | 'busy' }

/** The server that runs on a cluster, by the lock file it keeps there. */
export async function findPostmaster(clusterDirectory: string): Promise<Postmaster | undefined> {
  const lines = (await readFile(lockFileOf(clusterDirectory), 'utf8').catch(undefinedIfMissing))?.split('\n') ?? []
  const pid = Number(lines[0])
  if (!(await isPostmaster(pid, clusterDirectory))) return undefined
  // Line 8 is the state; "starting" and "stopping" refuse connections.
  return { pid, state: lines[7]?.trim() === 'ready' ? 'ready' : 'busy' }
}

/**
 * A live pid is not enough: after a crash it may be anyone's by now, or a zombie's. The arguments say whose it is, and unlike
 * the working directory they may be read in a container without ptrace rights.
 */
export async function isPostmaster(pid: number, clusterDirectory: string): Promise<boolean> {
  if (!(pid > 0)) return false
  if (process.platform === 'linux') {
    const [program = '', ...options] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
    return program.endsWith('/postgres') && options.includes(clusterDirectory)
  }
  const ps = await promisify(execFile)('ps', ['-ww', '-o', 'command=', '-p', String(pid)]).catch(() => undefined)
  return ps?.stdout.includes(`/postgres -D ${clusterDirectory} `) ?? false
}

/**
 * Takes a killed server's pid out of the lock files when another process has that pid now, which is the rule in a container
 * started anew: Postgres would refuse to start. All other remains it clears away itself.
 */
export async function disownLockFiles(clusterDirectory: string, socketDirectory: string): Promise<void> {
  for (const file of [lockFileOf(clusterDirectory), join(socketDirectory, '.s.PGSQL.5432.lock')]) {
    const content = await readFile(file, 'utf8').catch(undefinedIfMissing)
    if (content === undefined) continue
    const [pid, ...rest] = content.split('\n')
    if (content.trim() === '') await rm(file)
    // The other lines stay: by them Postgres makes sure that no session of the killed server is still writing.
    else if (isAlive(Number(pid))) await writeFile(file, [NOBODYS_PID, ...rest].join('\n'))
  }
}

/** Beyond the highest pid of any system. */
const NOBODYS_PID = 99_999_999

function lockFileOf(clusterDirectory: string): string {
  return join(clusterDirectory, 'postmaster.pid')
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return hasCode(error, 'EPERM')
  }
}
