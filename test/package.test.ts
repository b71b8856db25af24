/** The npm package, as somebody gets it who has no checkout. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base'
import { startSimulator } from '../simulator/server.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { estimateTokens } from '../src/ledger/estimate.ts'
import { createDatabase, temporaryDirectory } from './harness.ts'
import { askUntil } from './poll.ts'

const ROOT = join(import.meta.dirname, '..')
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const directory = await temporaryDirectory(stack)
const installed = join(directory, 'installed')
const BINARY = join(installed, 'node_modules/.bin/openai-proxy')

// What npm gave to this very test run is not for the npm it starts.
const cleanEnv = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)))

await mkdir(installed)
const packed = await run('npm', ['pack', '--pack-destination', directory, '--loglevel=error'], ROOT)
const tarball = packed.stdout.trim().split('\n').at(-1) ?? ''
await run('npm', ['install', join(directory, tarball), '--prefix', installed, '--loglevel=error'], installed)

test('the package carries what runs, its migrations and its manual, and neither sources nor tests', async () => {
  const folder = join(installed, 'node_modules/openai-inference-proxy')
  const files = await readdir(folder, { recursive: true })
  const migrations = (await readdir(join(ROOT, 'src/db/migrations'))).filter((file) => file.endsWith('.sql'))

  const missing = migrations.filter((file) => !files.includes(join('dist/src/db/migrations', file)))
  const unwanted = files.filter((file) => /\.ts$|\.test\.|^(?:src|test|node_modules)\b/.test(file))

  assert.ok(migrations.length >= 6, `only ${migrations}`)
  assert.deepEqual([missing, unwanted], [[], []])
  for (const file of ['README.md', 'LICENSE', 'CHANGELOG.md', 'docs/administration.md']) {
    assert.ok(files.includes(file), file)
  }
})

test('`npx openai-inference-proxy demo` runs in an empty folder', async () => {
  const { stdout, stderr } = await run(
    'npx',
    ['--no-install', 'openai-inference-proxy', 'demo', '--once', '--port', '0'],
    installed,
  )

  assert.match(stdout, /The capital of France is Paris\./)
  assert.match(stdout, /cost +\$0\.0000048\n/)
  assert.equal(stderr, '')
})

test('a server from the package serves and counts as one from a checkout does, cut answers included', async () => {
  await using local = new AsyncDisposableStack()
  const simulator = local.use(await startSimulator())
  const { databaseUrl, client } = await createDatabase(local)
  const env = {
    DATABASE_URL: databaseUrl,
    DATA_DIR: join(directory, 'data'),
    OPENAI_API_BASE_URL: simulator.url,
    HOST: '127.0.0.1',
    PORT: '0',
    ...generateSecrets(),
  }
  const cli = (...args: string[]) => run(BINARY, args, installed, env)
  const { id } = JSON.parse((await cli('create-org', 'Packed', '--json')).stdout)
  const key = JSON.parse((await cli('create-key', id, 'sk-upstream-0123456789abcdef', '--json')).stdout)

  const child = spawn(BINARY, ['start'], {
    cwd: installed,
    env: { ...cleanEnv, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  local.defer(async () => {
    child.kill('SIGTERM')
    await ended
  })
  let port = 0
  for await (const chunk of child.stdout.setEncoding('utf8')) {
    port = Number(/"port":(\d+)[^\n]*"listening"/.exec(chunk)?.[1] ?? 0)
    if (port > 0) break
  }
  child.stdout.resume()
  const body = JSON.stringify({ model: 'sim:tokens=500,tps=20,model=gpt-4o-mini', input: 'hello there', stream: true })
  const controller = new AbortController()
  const answer = await fetch(`http://127.0.0.1:${port}/v1/responses`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key.synthetic_key}`, 'content-type': 'application/json' },
    body,
    signal: controller.signal,
  })
  await answer.body?.getReader().read()
  controller.abort()

  const rows = await askUntil(
    async () => (await client.query('select status, usage_source, input_tokens::int from attempts')).rows,
    ({ length }) => length > 0,
  )

  // The tokenizer has a thread, and so a file, of its own; without it the length alone would be the estimate.
  const expected = { status: 'client_closed', usage_source: 'estimated', input_tokens: countTokens(body) }
  assert.notEqual(expected.input_tokens, estimateTokens(body.length))
  assert.deepEqual(rows, [expected])
})

async function run(program: string, args: string[], cwd: string, env: Record<string, string> = {}) {
  const child = spawn(program, args, { cwd, env: { ...cleanEnv, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited])
  assert.equal(code, 0, `${program} ${args.join(' ')}\n${stdout}${stderr}`)
  return { stdout, stderr }
}
