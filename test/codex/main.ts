/**
 * Runs `codex.ts` with the real Codex CLI, which is too large to be a dependency: it is installed once into a folder for temporary files.
 * Where this process may make one, in a network namespace that has nothing but a loopback device.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const VERSION = '0.169.0'
const directory = join(tmpdir(), `openai-proxy-codex-${VERSION}`)
const binary = join(directory, 'node_modules/.bin/codex')

const IN_NAMESPACE = ['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']
const IS_WINDOWS = process.platform === 'win32'

if (!existsSync(binary)) await install()
process.exitCode = runTests()

async function install(): Promise<void> {
  console.log(`Installing @openai/codex@${VERSION} into ${directory} (once; about 400 MB)...`)
  // Beside it and then renamed: another run may be doing the same, and half an installation must not be taken for a whole one.
  const fresh = `${directory}-${process.pid}`
  await mkdir(fresh, { recursive: true })
  const options = ['install', '--prefix', fresh, '--no-audit', '--no-fund', '--loglevel=error']
  const { status } = spawnSync('npm', [...options, `@openai/codex@${VERSION}`], { stdio: 'inherit', shell: IS_WINDOWS })
  if (status !== 0)
    fail(`@openai/codex@${VERSION} could not be installed: is the npm registry reachable, and are 400 MB free?`)
  await rename(fresh, directory).catch(async (error) => {
    if (!existsSync(binary)) throw error
    await rm(fresh, { recursive: true, force: true })
  })
}

function runTests(): number {
  const command = [process.execPath, '--test', '--test-timeout=90000', join(import.meta.dirname, 'codex.ts')]
  const [program, ...args] = hasNamespaces() ? [...IN_NAMESPACE, ...command] : command
  const { status } = spawnSync(program as string, args, {
    stdio: 'inherit',
    env: { ...process.env, CODEX: binary },
  })
  return status ?? 1
}

/** Without one, Codex is kept from the network by an address of a proxy at which nobody listens. */
function hasNamespaces(): boolean {
  const [program, ...args] = [...IN_NAMESPACE, 'true']
  return spawnSync(program as string, args).status === 0
}

function fail(message: string): never {
  console.error(message)
  process.exit(1)
}
