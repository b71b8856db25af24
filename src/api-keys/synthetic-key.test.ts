import assert from 'node:assert/strict'
import { test } from 'node:test'
import { displayParts, isSyntheticKey, newSyntheticKey, PREFIX } from './synthetic-key.ts'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

test('a new key is one, and no two are alike', () => {
  const keys = Array.from({ length: 2000 }, newSyntheticKey)
  for (const key of keys) {
    assert.match(key, /^sk-proxy-[0-9A-Za-z]{38}$/)
    assert.ok(isSyntheticKey(key))
  }
  assert.equal(new Set(keys).size, keys.length)
  const used = new Set(keys.flatMap((key) => [...key.slice(PREFIX.length, PREFIX.length + 32)]))
  assert.equal(used.size, ALPHABET.length, 'every character is used')
})

test('every single mistyped character is noticed, at every place', () => {
  const key = newSyntheticKey()
  for (let at = 0; at < key.length; at += 1) {
    for (const character of `${ALPHABET}-_ .é`) {
      if (character === key[at]) continue
      const mistyped = key.slice(0, at) + character + key.slice(at + 1)
      assert.ok(!isSyntheticKey(mistyped), mistyped)
    }
  }
})

test('a character that is missing, doubled or swapped with its neighbour is noticed', () => {
  for (const key of Array.from({ length: 50 }, newSyntheticKey)) {
    for (let at = 0; at < key.length; at += 1) {
      assert.ok(!isSyntheticKey(key.slice(0, at) + key.slice(at + 1)))
      assert.ok(!isSyntheticKey(key.slice(0, at) + key[at] + key.slice(at)))
      const swapped = key.slice(0, at) + (key[at + 1] ?? '') + key[at] + key.slice(at + 2)
      assert.equal(isSyntheticKey(swapped), swapped === key, swapped)
    }
  }
})

test('what surrounds a key does not pass with it', () => {
  const key = newSyntheticKey()
  for (const text of [
    ` ${key}`,
    `${key} `,
    `${key}\n`,
    `${key}\0`,
    key.toUpperCase(),
    `sk-${key}`,
    `${key}${key}`,
    '',
  ]) {
    assert.ok(!isSyntheticKey(text), JSON.stringify(text))
  }
})

test('what people see of a key is far from the key', () => {
  const key = newSyntheticKey()
  const { prefix, last4 } = displayParts(key)
  assert.deepEqual([prefix, last4], [key.slice(0, PREFIX.length + 8), key.slice(-4)])
  assert.ok(prefix.length + last4.length < key.length - 24)
})
