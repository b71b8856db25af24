import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { sealFernet } from '../../test/legacy/database.ts'
import { readFernetKey } from './fernet.ts'

const KEY = 'cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4='
const TOKEN = 'gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=='

test("the specification's own token opens with the specification's key", () => {
  assert.equal(readFernetKey(KEY)?.(TOKEN), 'hello')
})

test('text of any length comes back, and another key opens nothing', () => {
  const key = randomBytes(32).toString('base64url')
  const [open, other] = [readFernetKey(key), readFernetKey(randomBytes(32).toString('base64url'))]
  for (const length of [0, 1, 15, 16, 17, 200]) {
    const plain = 'é'.repeat(length)
    const token = sealFernet(key, plain)
    assert.match(token, /^gAAAA/)
    assert.equal(open?.(token), plain)
    assert.equal(other?.(token), undefined)
  }
})

test('every changed byte is noticed, and so is every cut', () => {
  const open = readFernetKey(KEY)
  const bytes = Buffer.from(TOKEN, 'base64url')
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 1
    assert.equal(open?.(changed.toString('base64url')), undefined, `byte ${at}`)
    assert.equal(open?.(bytes.subarray(0, at).toString('base64url')), undefined, `${at} bytes`)
  }
})

test('what is no key is none', () => {
  for (const text of ['', 'x', KEY.slice(1), `${KEY}=`, KEY.replace('c', '+'), ` ${KEY}`, 'é'.repeat(44)]) {
    assert.equal(readFernetKey(text), undefined, text)
  }
})
