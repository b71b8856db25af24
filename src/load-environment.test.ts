import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { ConfigError } from './config.ts'
import { loadEnvironment } from './load-environment.ts'

const SENTINEL = 'Zq7-sentinel-9Xk'
const directory = await mkdtemp(join(tmpdir(), 'openai-proxy-'))
after(() => rm(directory, { recursive: true, force: true }))
const nowhere = join(directory, 'there-is-no-such.env')

test('the process environment wins over .env, and .env fills what it leaves out', async () => {
  const file = await write('dotenv', 'PORT=1111\nHOST="127.0.0.1" # a comment\n\nLOG_LEVEL=debug\n')
  const env = loadEnvironment({ PORT: '2222' }, file)
  assert.deepEqual([env.PORT, env.HOST, env.LOG_LEVEL], ['2222', '127.0.0.1', 'debug'])
})

test('there need not be a .env', () => {
  assert.deepEqual(loadEnvironment({ PORT: '1' }, nowhere), { PORT: '1' })
})

test('a secret may come from a file, without the line ending that editors add', async () => {
  for (const name of ['DATABASE_URL', 'JWT_SECRET_KEY', 'ENCRYPTION_KEY']) {
    const file = await write(name, `${SENTINEL}\r\n`)
    assert.equal(loadEnvironment({ [`${name}_FILE`]: ` ${file} ` }, nowhere)[name], SENTINEL)
    assert.equal(loadEnvironment({ [`${name}_FILE`]: file, [name]: ' ' }, nowhere)[name], SENTINEL, 'empty is not set')
  }
})

test('a file named in .env counts like one named in the environment', async () => {
  const secret = await write('secret', SENTINEL)
  const dotenv = await write('dotenv-with-file', `JWT_SECRET_KEY_FILE=${secret}\n`)
  assert.equal(loadEnvironment({}, dotenv).JWT_SECRET_KEY, SENTINEL)
})

test('a value and a file for it, a file that is empty and one that is not there are all told at once, without values', async () => {
  const both = await write('both', `${SENTINEL}-from-file`)
  const empty = await write('empty', '\n')
  const env = {
    DATABASE_URL: `postgresql://u:${SENTINEL}@h/d`,
    DATABASE_URL_FILE: both,
    JWT_SECRET_KEY_FILE: empty,
    ENCRYPTION_KEY_FILE: join(directory, SENTINEL),
  }
  assert.throws(
    () => loadEnvironment(env, nowhere),
    (error) => {
      assert.ok(error instanceof ConfigError)
      assert.deepEqual(
        error.problems.map((sentence) => sentence.split(/[ _](?:and|FILE)/)[0]),
        ['DATABASE_URL', 'JWT_SECRET_KEY', 'ENCRYPTION_KEY'],
      )
      assert.ok(!error.message.includes(SENTINEL))
      return true
    },
  )
})

test('a directory in the place of a file is told like a file that cannot be read', () => {
  assert.throws(() => loadEnvironment({ JWT_SECRET_KEY_FILE: directory }, nowhere), /JWT_SECRET_KEY_FILE/)
})

test('the environment that was passed in is not changed', async () => {
  const file = await write('kept', SENTINEL)
  const processEnv = Object.freeze({ JWT_SECRET_KEY_FILE: file })
  assert.equal(loadEnvironment(processEnv, nowhere).JWT_SECRET_KEY, SENTINEL)
  assert.deepEqual(Object.keys(processEnv), ['JWT_SECRET_KEY_FILE'])
})

async function write(name: string, text: string): Promise<string> {
  const file = join(directory, name)
  await writeFile(file, text)
  await chmod(file, 0o600)
  return file
}
