import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { EmbeddedDatabaseError, hasCode } from './embedded/error.ts'

/**
 * Does `work` while nobody else, in this process or another, does anything under the same lock directory.
 *
 * Lamport's bakery with one file per register. Each contender writes only files that carry its own pid and start time, so
 * what a killed process left can be told from a live one's and removed by anyone at any time. A single lock file cannot be
 * taken over safely: of two processes that find it stale, the slower removes the lock that the faster has just taken.
 * @see https://lamport.azurewebsites.net/pubs/bakery.pdf
 */
export async function withLock<T>(directory: string, timeoutMs: number, work: () => Promise<T>): Promise<T> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const name = await nameThisUse()
  const choosing = join(directory, `choosing.${name}`)
  let ticket: string | undefined
  try {
    await writeFile(choosing, '')
    const number = 1 + Math.max(0, ...(await readLive(directory)).map(ticketNumber))
    ticket = join(directory, `${number}.${name}`)
    await writeFile(ticket, '')
    await rm(choosing)
    const deadline = performance.now() + timeoutMs
    // Two waits, not one: a listing of the directory is no snapshot, and could miss one who swaps the first file for the second.
    await waitWhileAny(directory, deadline, ({ kind }) => kind === 'choosing')
    await waitWhileAny(directory, deadline, (other) => isAhead(other, number, name))
    return await work()
  } finally {
    await rm(choosing, { force: true })
    if (ticket) await rm(ticket, { force: true })
  }
}

/** Leaves word that this process uses something, for as long as it lives. The answer takes it back. */
export async function takeLease(directory: string): Promise<() => Promise<void>> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const file = join(directory, `client.${await nameThisUse()}`)
  await writeFile(file, '')
  return () => rm(file, { force: true })
}

export async function hasLiveLease(directory: string): Promise<boolean> {
  return (await readLive(directory)).length > 0
}

/** A file `kind.pid-start-use` of a process that still lives. */
type Entry = { kind: string; name: string }

function ticketNumber({ kind }: Entry): number {
  return Number(kind) || 0
}

function isAhead(other: Entry, number: number, name: string): boolean {
  const theirs = ticketNumber(other)
  return theirs > 0 && (theirs < number || (theirs === number && other.name < name))
}

async function waitWhileAny(directory: string, deadline: number, matches: (entry: Entry) => boolean): Promise<void> {
  for (;;) {
    const found = (await readLive(directory)).find(matches)
    if (!found) return
    if (performance.now() > deadline) {
      throw new EmbeddedDatabaseError(
        `Process ${found.name.split('-')[0]} has kept ${directory} locked for too long: end that process and start again.`,
      )
    }
    await sleep(POLL_MS)
  }
}

const POLL_MS = 20

/** Removes what dead processes left on the way: nobody will ever write those names again. */
async function readLive(directory: string): Promise<Entry[]> {
  const live: Entry[] = []
  for (const file of await readdir(directory).catch(emptyIfMissing)) {
    const [kind = '', name = ''] = file.split('.')
    const [pid, startedAt] = name.split('-')
    if (startedAt && (await findStartTime(Number(pid))) === startedAt) live.push({ kind, name })
    else await rm(join(directory, file), { force: true })
  }
  return live
}

function emptyIfMissing(error: unknown): string[] {
  if (hasCode(error, 'ENOENT')) return []
  throw error
}

let uses = 0

async function nameThisUse(): Promise<string> {
  const startedAt = await findStartTime(process.pid)
  if (!startedAt)
    throw new EmbeddedDatabaseError('The embedded database needs /proc to be mounted: mount it, or set DATABASE_URL.')
  uses += 1
  return `${process.pid}-${startedAt}-${uses}`
}

/** When a process started, in the system's own unit: with it, a reused pid is not taken for the process that had it before. */
async function findStartTime(pid: number): Promise<string | undefined> {
  if (process.platform !== 'linux') return findStartTimeWithPs(pid)
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // proc(5): the state is field 3, the start time field 22. The name in field 2 may hold anything, so count from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return isDead(fields[0]) ? undefined : fields[19]
}

async function findStartTimeWithPs(pid: number): Promise<string | undefined> {
  const env = { PATH: '/bin:/usr/bin', LC_ALL: 'C', TZ: 'UTC' }
  const ps = await promisify(execFile)('ps', ['-o', 'stat=', '-o', 'lstart=', '-p', String(pid)], { env }).catch(
    () => null,
  )
  const [state, ...startedAt] = ps?.stdout.trim().split(/\s+/) ?? []
  return isDead(state) ? undefined : startedAt.join('').replaceAll(':', '')
}

function isDead(state: string | undefined): boolean {
  return !state || state.startsWith('Z') || state.startsWith('X')
}
