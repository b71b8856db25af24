/** `scripts/quickstart.sh` with a `docker` that only records what it is told; what runs in the container is real. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { cp, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { parseEnv } from 'node:util'
import { readConfig } from '../src/config.ts'
import { startSystem, temporaryDirectory } from './harness.ts'

const ROOT = join(import.meta.dirname, '..')
const OPENAI_KEY = 'sk-upstream-0123456789abcdef'
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const system = await startSystem()

/** A checkout as far as the script needs one, and a machine with the programs it needs. */
interface Machine {
  directory: string
  env: Record<string, string>
  /** Files whose being there, or content, is the state of the stub: `running`, `health`, `volume`. */
  state(name: string): string
  run(env?: Record<string, string>): Promise<{ stdout: string; stderr: string; code: number | null }>
  /** What `docker` and `docker-compose` were called with, a line each. */
  calls(): Promise<string[]>
}

test('it makes the secrets, starts the containers, and its curl is answered', async () => {
  const machine = await newMachine()

  const { stdout, stderr, code } = await machine.run({ OPENAI_API_KEY: OPENAI_KEY })
  const answer = await ask(stdout)

  assert.equal(code, 0, stderr)
  assert.deepEqual([answer.status, answer.text], [200, 'The capital of France is Paris.'])
  const env = parseEnv(await readFile(join(machine.directory, '.env'), 'utf8'))
  assert.equal((await stat(join(machine.directory, '.env'))).mode & 0o777, 0o600)
  assert.match(env.POSTGRES_PASSWORD ?? '', /^[0-9a-f]{48}$/)
  assert.ok(readConfig({ ...env }).jwtSecretKey && readConfig({ ...env }).encryptionKey)
  assert.equal(await readFile(join(machine.directory, 'docker/.env'), 'utf8'), await envOf(machine))
  const calls = await machine.calls()
  assert.ok(calls.includes('docker compose --env-file .env -f docker/docker-compose.yml up -d --build'))
  assert.doesNotMatch(calls.join('\n'), /sk-upstream/)
  assert.doesNotMatch(stderr, /sk-upstream|eyJ/)
})

test('a second run changes no secret, makes no second organization and no second key, and its curl is answered too', async () => {
  const machine = await newMachine({ ORGANIZATION: 'Twice' })
  await machine.run({ OPENAI_API_KEY: OPENAI_KEY })
  const secrets = await envOf(machine)

  const { stdout, stderr, code } = await machine.run()
  const answer = await ask(stdout)

  assert.equal(code, 0, stderr)
  assert.equal(answer.status, 200)
  assert.equal(await envOf(machine), secrets)
  const rows = await system.query(
    "select organizations.id from organizations join api_keys on organization_id = organizations.id where organizations.name = 'Twice'",
  )
  assert.equal(rows.length, 1)
})

test('without an OpenAI key it ends with the command that adds one', async () => {
  const machine = await newMachine({ ORGANIZATION: 'Keyless' })

  const { stdout, stderr, code } = await machine.run()
  const answer = await ask(stdout)

  assert.equal(code, 0)
  assert.match(stderr, /docker exec -it openai-proxy-api openai-proxy create-key [0-9a-f-]{36} --name "Default Key"/)
  assert.equal(answer.status, 403)
})

test('an .env that is there is added to and never changed', async () => {
  const machine = await newMachine()
  const mine = `# mine\nJWT_SECRET_KEY=${'0123456789abcdef'.repeat(3)}\nPORT=${machine.env.PORT}\nLOG_LEVEL=warn`
  await writeFile(join(machine.directory, '.env'), mine, { mode: 0o640 })

  const { stderr, code } = await machine.run()

  assert.equal(code, 0, stderr)
  const added = await envOf(machine)
  assert.ok(added.startsWith(`${mine}\n`))
  assert.match(added.slice(mine.length), /^\nPOSTGRES_PASSWORD=[0-9a-f]{48}\nENCRYPTION_KEY=\S{44}\n$/)
  assert.match(stderr, /Added to \.env, which had none: POSTGRES_PASSWORD ENCRYPTION_KEY\./)
})

test('a database whose secrets are gone is not given new ones', async () => {
  const machine = await newMachine()
  await writeFile(machine.state('volume'), '')

  const { stderr, code } = await machine.run()

  assert.equal(code, 1)
  assert.match(stderr, /^Error: There is a database from before .* restore \.env from your backup/m)
  await assert.rejects(stat(join(machine.directory, '.env')))
  assert.doesNotMatch((await machine.calls()).join('\n'), / up /)
})

test('docker-compose serves where Docker has no plugin of that name', async () => {
  const machine = await newMachine()
  await writeFile(machine.state('no-plugin'), '')
  await symlink('docker', join(machine.directory, 'stub/docker-compose'))

  const { code } = await machine.run()

  assert.equal(code, 0)
  const calls = await machine.calls()
  assert.ok(calls.includes('docker-compose --env-file .env -f docker/docker-compose.yml up -d --build'))
})

const FAILURES: { what: string; arrange: (machine: Machine) => Promise<unknown>; says: RegExp }[] = [
  {
    what: 'there is no Docker',
    arrange: ({ directory }) => rm(join(directory, 'stub/docker')),
    says: /There is no "docker" command: install Docker first/,
  },
  {
    what: 'the daemon does not answer',
    arrange: ({ state }) => writeFile(state('no-daemon'), ''),
    says: /The Docker daemon does not answer: start it/,
  },
  {
    what: 'there is no Compose',
    arrange: ({ state }) => writeFile(state('no-plugin'), ''),
    says: /There is neither "docker compose" nor "docker-compose": install/,
  },
  {
    what: 'the containers do not start',
    arrange: ({ state }) => writeFile(state('up-fails'), ''),
    says: /The containers did not start: see the lines above/,
  },
  {
    what: 'the server exits again and again',
    arrange: ({ state }) => writeFile(state('restarting'), ''),
    says: /the log of the container\n[\s\S]*The server is not healthy \(starting\).*docker logs openai-proxy-api/,
  },
  {
    what: 'the server does not become healthy',
    arrange: ({ state }) => writeFile(state('health'), 'unhealthy'),
    says: /the log of the container\n[\s\S]*The server is not healthy \(unhealthy\)/,
  },
]

for (const { what, arrange, says } of FAILURES) {
  test(`it fails with what to do when ${what}`, async () => {
    const machine = await newMachine({ HEALTH_TIMEOUT_SECONDS: '1' })
    await arrange(machine)

    const { stdout, stderr, code } = await machine.run()

    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, says)
  })
}

test('it fails with what to do when the port is taken by somebody else', async () => {
  const machine = await newMachine()
  const occupant = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => occupant.once('listening', resolve))
  const address = occupant.address()
  const port = typeof address === 'object' && address ? address.port : assert.fail()

  const { stderr, code } = await machine.run({ PORT: String(port) })
  occupant.close()

  assert.equal(code, 1)
  assert.match(
    stderr,
    new RegExp(`Port ${port} is taken by another process: stop that, or add a line such as PORT=8001`),
  )
  assert.doesNotMatch((await machine.calls()).join('\n'), / up /)
})

/** Runs what the script prints, as far as `fetch` can: where to, with which headers, and the body. */
async function ask(curl: string): Promise<{ status: number; text: string | undefined }> {
  const headers = Object.fromEntries(
    [...curl.matchAll(/-H "([^:"]+): ([^"]+)"/g)].map(([, name, value]) => [name, value]),
  )
  const url = /^curl (\S+)/.exec(curl)?.[1] ?? assert.fail(`no curl: ${curl}`)
  const response = await fetch(url, { method: 'POST', headers, body: /-d '([^']+)'/.exec(curl)?.[1] ?? null })
  const body = (await response.json()) as { output?: { content: { text: string }[] }[] }
  return { status: response.status, text: body.output?.[0]?.content[0]?.text }
}

const envOf = ({ directory }: Machine) => readFile(join(directory, '.env'), 'utf8')

async function newMachine(env: Record<string, string> = {}): Promise<Machine> {
  const directory = await temporaryDirectory(stack)
  const state = (name: string) => join(directory, 'state', name)
  for (const folder of ['docker', 'scripts', 'stub', 'state', 'tools']) await mkdir(join(directory, folder))
  await cp(join(ROOT, 'scripts/quickstart.sh'), join(directory, 'scripts/quickstart.sh'))
  await writeFile(state('health'), 'healthy')
  await writeFile(join(directory, 'stub/docker'), STUB, { mode: 0o755 })
  for (const tool of TOOLS) await symlink(findProgram(tool), join(directory, 'tools', tool))
  const fullEnv = {
    PATH: [join(directory, 'stub'), join(directory, 'tools')].join(delimiter),
    PORT: String(system.server.port),
    STATE: join(directory, 'state'),
    CLI: `${process.execPath} ${join(ROOT, 'bin/openai-proxy.cjs')}`,
    ...env,
  }
  // The port is in use by the very server that stands for the container's.
  if (!('HEALTH_TIMEOUT_SECONDS' in env)) await writeFile(state('running'), '')
  else fullEnv.PORT = '1'
  const containerEnv = Object.entries(system.env).map(([name, value]) => `export ${name}='${value}'\n`)
  await writeFile(state('container-env'), containerEnv.join(''))
  return {
    directory,
    env: fullEnv,
    state,
    async run(more = {}) {
      if (more.PORT !== undefined) await rm(state('running'))
      const child = spawn(findProgram('bash'), [join(directory, 'scripts/quickstart.sh')], {
        cwd: '/',
        env: { ...fullEnv, ...more },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
      const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited])
      return { stdout, stderr, code }
    },
    calls: async () => (await readFile(state('calls'), 'utf8').catch(() => '')).split('\n'),
  }
}

const TOOLS = [
  'sh',
  'bash',
  'dirname',
  'basename',
  'grep',
  'sed',
  'head',
  'tail',
  'tr',
  'od',
  'base64',
  'ln',
  'rm',
  'cat',
  'sleep',
]

const STUB = `#!/bin/sh
echo "$(basename "$0") $*" >> "$STATE/calls"
case "$*" in
  info) [ ! -e "$STATE/no-daemon" ] ;;
  'compose version') [ ! -e "$STATE/no-plugin" ] ;;
  *' up -d --build') [ ! -e "$STATE/up-fails" ] ;;
  'volume inspect '*) [ -e "$STATE/volume" ] ;;
  'inspect -f {{.State.Running}} openai-proxy-api') [ -e "$STATE/running" ] && echo true ;;
  'inspect -f {{.State.Restarting}} openai-proxy-api') [ -e "$STATE/restarting" ] && echo true ;;
  'inspect -f {{.State.Health.Status}} openai-proxy-api') if [ -e "$STATE/restarting" ]; then echo starting; else cat "$STATE/health"; fi ;;
  'logs --tail 20 openai-proxy-api') echo 'the log of the container' ;;
  'exec '*)
    shift
    [ "$1" = -i ] && shift
    [ "$1 $2" = 'openai-proxy-api openai-proxy' ] || exit 125
    shift 2
    . "$STATE/container-env"
    exec $CLI "$@"
    ;;
  *) echo "no such call: $*" >&2; exit 125 ;;
esac
`

function findProgram(name: string): string {
  for (const directory of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(directory, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {}
  }
  return assert.fail(`no ${name} on this machine`)
}
