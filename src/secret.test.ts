import assert from 'node:assert/strict'
import { test } from 'node:test'
import { format, inspect, isDeepStrictEqual } from 'node:util'
import { pino } from 'pino'
import { Secret } from './secret.ts'

const SENTINEL = 'Zq7-sentinel-9Xk'

test('a secret shows itself to nobody who does not ask for it', () => {
  const secret = new Secret(SENTINEL)
  assert.equal(secret.reveal(), SENTINEL)
  const shown = [
    `${secret}`,
    String(secret),
    JSON.stringify({ secret, list: [secret] }),
    inspect(secret),
    inspect({ deep: { secret } }, { depth: 10, showHidden: true, getters: true }),
    format('%s %o %O %j %d', secret, secret, secret, secret, secret),
    JSON.stringify(Object.entries(secret)),
    JSON.stringify({ ...secret }),
    Object.getOwnPropertyNames(secret).join(),
    Object.keys(secret).join(),
    new Error(`failed with ${secret}`, { cause: secret }).stack ?? '',
    inspect(new Error('x', { cause: { secret } })),
    [secret].join(),
    secret.toLocaleString(),
  ]
  for (const text of shown) assert.ok(!text.includes(SENTINEL), text)
  assert.equal(isDeepStrictEqual(structuredClone(secret), {}), true)
})

test('a log line shows none', () => {
  const lines: string[] = []
  const log = pino({}, { write: (line: string) => lines.push(line) })
  const secret = new Secret(SENTINEL)
  log.info({ secret, nested: { secret } }, `with ${secret}`)
  log.error({ err: Object.assign(new Error('x'), { secret }) })
  assert.equal(lines.length, 2)
  for (const line of lines) assert.ok(!line.includes(SENTINEL), line)
})
