import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { ConfigError, readConfig } from './config.ts'
import { generateSecrets, loadSecrets } from './instance-secrets.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

test('the first start makes two secrets that only this user can read, and every later one finds them', async () => {
  const DATA_DIR = join(await newDirectory(), 'not', 'there', 'yet')
  const first = await secretsOf(DATA_DIR)
  assert.deepEqual(await secretsOf(DATA_DIR), first)
  assert.notEqual(first.jwtSecretKey, first.encryptionKey)
  assert.doesNotThrow(() => readConfig({ JWT_SECRET_KEY: first.jwtSecretKey, ENCRYPTION_KEY: first.encryptionKey }))

  assert.equal((await stat(DATA_DIR)).mode & 0o777, 0o700)
  assert.deepEqual((await readdir(DATA_DIR)).sort(), ['encryption-key', 'jwt-secret-key'])
  for (const name of await readdir(DATA_DIR)) assert.equal((await stat(join(DATA_DIR, name))).mode & 0o777, 0o600, name)
})

test('twenty first starts at once agree on one pair, and leave nothing else behind', async () => {
  const DATA_DIR = await newDirectory()
  const pairs = await Promise.all(Array.from({ length: 20 }, () => secretsOf(DATA_DIR)))
  assert.equal(new Set(pairs.map((pair) => JSON.stringify(pair))).size, 1)
  assert.deepEqual((await readdir(DATA_DIR)).sort(), ['encryption-key', 'jwt-secret-key'])
})

test('first starts of several processes agree too', async () => {
  const DATA_DIR = await newDirectory()
  const program = `
    const { readConfig } = await import(${JSON.stringify(new URL('./config.ts', import.meta.url).href)})
    const { loadSecrets } = await import(${JSON.stringify(new URL('./instance-secrets.ts', import.meta.url).href)})
    const secrets = await loadSecrets(readConfig({ DATA_DIR: ${JSON.stringify(DATA_DIR)} }))
    console.log(secrets.jwtSecretKey.reveal(), secrets.encryptionKey.reveal())`
  const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  const outputs = await Promise.all(Array.from({ length: 4 }, run))
  assert.equal(new Set(outputs.map(({ stdout }) => stdout)).size, 1)
})

test('a file that others could read is closed to them at the next start', async () => {
  const DATA_DIR = await newDirectory()
  const first = await secretsOf(DATA_DIR)
  await chmod(join(DATA_DIR, 'encryption-key'), 0o644)
  assert.deepEqual(await secretsOf(DATA_DIR), first)
  assert.equal((await stat(join(DATA_DIR, 'encryption-key'))).mode & 0o777, 0o600)
})

test('configured secrets are used, and then none is made', async () => {
  const DATA_DIR = await newDirectory()
  const { JWT_SECRET_KEY, ENCRYPTION_KEY } = generateSecrets()
  const secrets = await loadSecrets(readConfig({ DATA_DIR, JWT_SECRET_KEY, ENCRYPTION_KEY }))
  assert.equal(secrets.jwtSecretKey.reveal(), JWT_SECRET_KEY)
  assert.equal(secrets.encryptionKey.reveal(), ENCRYPTION_KEY)
  assert.deepEqual(await readdir(DATA_DIR), [])
})

test('a secret file that was emptied or damaged stops the start, and is never replaced by a new secret', async () => {
  for (const damage of ['', '\n', 'half-a-sec']) {
    const DATA_DIR = await newDirectory()
    await secretsOf(DATA_DIR)
    const file = join(DATA_DIR, 'encryption-key')
    await writeFile(file, damage)
    await assert.rejects(secretsOf(DATA_DIR), ConfigError, JSON.stringify(damage))
    assert.equal(await readFile(file, 'utf8'), damage)
  }
})

test('generated secrets are accepted, and no two are alike', () => {
  const generated = Array.from({ length: 500 }, generateSecrets)
  for (const pair of generated) assert.doesNotThrow(() => readConfig(pair))
  assert.equal(new Set(generated.flatMap(Object.values)).size, 1000)
})

async function secretsOf(DATA_DIR: string) {
  const { jwtSecretKey, encryptionKey } = await loadSecrets(readConfig({ DATA_DIR }))
  return { jwtSecretKey: jwtSecretKey.reveal(), encryptionKey: encryptionKey.reveal() }
}

async function newDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'openai-proxy-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  return directory
}
