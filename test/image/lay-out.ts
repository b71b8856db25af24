import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmod, cp, mkdir, readdir, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { text } from 'node:stream/consumers'
import { temporaryDirectory } from '../harness.ts'
import { type Instruction, isIgnored, ROOT, readDockerfile } from './dockerfile.ts'

/** What the last stage of the Dockerfile has in it, in a directory that only its own user's folders can be written to. */
export interface LaidOutImage {
  directory: string
  /** As its `PATH`, `ENV` and `WORKDIR` have it. */
  run(
    command: readonly string[],
    env?: Record<string, string>,
  ): Promise<{ stdout: string; stderr: string; code: number | null }>
  /** The same for a program that goes on. */
  start(command: readonly string[], env: Record<string, string>): ReturnType<typeof spawn>
  /** The command of `CMD` or `HEALTHCHECK`. */
  command(name: 'CMD' | 'HEALTHCHECK'): string[]
}

const isRoot = process.geteuid?.() === 0
/** Paths of the image, wherever they stand in an instruction. */
const PLACES = /(?<=^|[\s=])\/(?=app|usr|data)/g

/** Follows the Dockerfile step by step, `npm ci` included; only `apt-get` is left out. */
export async function layOutImage(stack: AsyncDisposableStack): Promise<LaidOutImage> {
  const directory = await temporaryDirectory(stack)
  await chmod(directory, 0o755)
  // Else nobody but root could remove it.
  stack.defer(() => setWritable(directory, true))
  const stages = readDockerfile()
  for (const { name, instructions } of stages) {
    const root = join(directory, name ?? 'image')
    await mkdir(join(root, 'usr/local/bin'), { recursive: true })
    for (const instruction of instructions) await follow(instruction, root, directory)
  }
  const image = join(directory, 'image')
  // The base image's own program; a link to it might lead through a folder that only root may enter.
  await cp(process.execPath, join(image, 'usr/local/bin/node'))
  await setWritable(join(image, 'app'), false)
  await setWritable(join(image, 'usr'), false)

  const last = stages.at(-1)?.instructions ?? []
  const [uid = 0, gid = 0] = only(last, 'USER').text.split(':').map(Number)
  const variables = Object.fromEntries(
    last.filter(({ name }) => name === 'ENV').flatMap(({ text }) => text.split(/\s+/).map((pair) => pair.split('='))),
  )
  const settings = {
    cwd: join(image, 'app'),
    ...(isRoot ? { uid, gid } : {}),
  }
  const environment = (env: Record<string, string>) => ({
    PATH: `${join(image, 'usr/local/bin')}:/usr/bin:/bin`,
    ...variables,
    DATA_DIR: `${image}${variables.DATA_DIR}`,
    ...env,
  })
  const start: LaidOutImage['start'] = ([program = '', ...args], env) =>
    spawn(program, args, { ...settings, env: environment(env), stdio: ['ignore', 'pipe', 'pipe'] })
  return {
    directory: image,
    start,
    async run(command, env = {}) {
      const child = start(command, env)
      const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
      assert.ok(child.stdout && child.stderr)
      const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited])
      return { stdout, stderr, code }
    },
    command(name) {
      const words: string[] = JSON.parse(only(last, name).text.replace(/^CMD\s+/, ''))
      return words.map((word) => word.replaceAll(PLACES, `${image}/`))
    },
  }
}

async function follow({ name, flags, text }: Instruction, root: string, directory: string): Promise<void> {
  if (name === 'COPY') {
    const words = text.split(/\s+/)
    const target = words.at(-1) ?? ''
    for (const source of words.slice(0, -1)) {
      const from = flags.from === undefined ? join(ROOT, source) : join(directory, flags.from, source)
      const isFolder = target.endsWith('/') && !(await stat(from)).isDirectory()
      const to = target.startsWith('/') ? join(root, target) : join(root, 'app', target)
      await mkdir(isFolder ? to : dirname(to), { recursive: true })
      await cp(from, isFolder ? join(to, source) : to, {
        recursive: true,
        filter: (file) => flags.from !== undefined || !isIgnored(relative(ROOT, file)),
      })
      if (flags.chmod !== undefined) await chmod(to, Number.parseInt(flags.chmod, 8))
    }
  }
  if (name === 'RUN' && !text.startsWith('apt-get')) {
    await mkdir(join(root, 'app'), { recursive: true })
    const script = text.replaceAll(PLACES, `${root}/`).replaceAll(/ -[og] \d+/g, isRoot ? '$&' : '')
    const child = spawn('sh', ['-ec', script], { cwd: join(root, 'app'), env: cleanEnv(), stdio: 'inherit' })
    const code = await new Promise((resolve) => child.once('exit', resolve))
    assert.equal(code, 0, script)
  }
}

/** What npm gave to this very test run is not for the npm it starts. */
function cleanEnv() {
  const env = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name))
  return { ...Object.fromEntries(env), npm_config_loglevel: 'error' }
}

function only(instructions: Instruction[], name: string): Instruction {
  const [found, second] = instructions.filter((instruction) => instruction.name === name)
  assert.ok(found && !second, `one ${name}`)
  return found
}

async function setWritable(directory: string, isWritable: boolean): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => !entry.isSymbolicLink()).map(({ parentPath, name }) => join(parentPath, name))
  for (const path of [directory, ...paths]) {
    const { mode } = await stat(path)
    await chmod(path, isWritable ? mode | 0o200 : (mode | 0o444) & ~0o222)
  }
}
