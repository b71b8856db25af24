import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readdir, realpath, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Account, findBarrier } from './account.ts'
import { hasCode, undefinedIfMissing } from './error.ts'

/**
 * A place for the database of a data directory that Postgres's account cannot enter. The names are never used twice: a data
 * directory that was removed and made anew must not come up with its old rows, so only the link in it says which one is its.
 */
export async function createHome(
  dataDirectory: string,
  account: Account | undefined,
  log: (message: string) => void,
): Promise<string> {
  const base = await createBase(account, log)
  const prefix = `${createHash('sha256').update(dataDirectory).digest('hex').slice(0, 12)}-`
  for (const name of await readdir(base)) {
    if (name.startsWith(prefix)) await removeUnfinished(join(base, name), log)
  }
  const home = await mkdtemp(join(base, prefix))
  await chmod(home, 0o711)
  log(`The database is kept in ${home}, because the user Postgres runs as cannot enter ${dataDirectory}.`)
  return home
}

async function removeUnfinished(home: string, log: (message: string) => void): Promise<void> {
  const database = join(home, 'postgres')
  if (await stat(database).catch(undefinedIfMissing))
    log(`An earlier database of this data directory is left in ${database}.`)
  else await rm(home, { recursive: true, force: true, maxRetries: 10 })
}

async function createBase(account: Account | undefined, log: (message: string) => void): Promise<string> {
  try {
    await mkdir(LASTING_BASE, { recursive: true, mode: 0o711 })
    if (!(await findBarrier(LASTING_BASE, account))) return await realpath(LASTING_BASE)
  } catch (error) {
    if (!hasCode(error, 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR')) throw error
  }
  const base = await mkdtemp(join(await realpath(tmpdir()), 'openai-inference-proxy-'))
  await chmod(base, 0o711)
  log(`WARNING: ${LASTING_BASE} cannot be used, so the database goes to ${base}, which the next boot may empty.`)
  return base
}

const LASTING_BASE = '/var/lib/openai-inference-proxy'
