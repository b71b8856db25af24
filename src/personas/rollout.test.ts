import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { checkShares, chooseVersion } from './rollout.ts'

const SESSIONS = Array.from({ length: 10_000 }, (_, index) => `sess_${index}`)
const PERSONA = '7f9a815f-576b-4770-b77e-cff14a1099e7'
const split = (...percents: number[]) => percents.map((percent, index) => ({ version: index + 1, percent }))

test('of 10,000 sessions each version gets its share, within what chance allows, for sessions and personas of any form', () => {
  for (const percents of [
    [90, 10],
    [50, 50],
    [99, 1],
    [34, 33, 33],
  ]) {
    for (const persona of [PERSONA, randomUUID()]) {
      const versions = SESSIONS.map((session) => chooseVersion(split(...percents), persona, session))
      for (const [index, percent] of percents.entries()) {
        const count = versions.filter((version) => version === index + 1).length
        const expected = SESSIONS.length * (percent / 100)
        // Five standard deviations of the binomial distribution: one run in a million would be outside by chance.
        const allowed = 5 * Math.sqrt(expected * (1 - percent / 100))
        assert.ok(Math.abs(count - expected) <= allowed, `${percents} of ${persona}: ${count} got ${index + 1}`)
      }
    }
  }
})

test('a session gets the same version each time, and keeps the newer one when its share grows', () => {
  const of = (...percents: number[]) => SESSIONS.map((session) => chooseVersion(split(...percents), PERSONA, session))

  assert.deepEqual(of(90, 10), of(90, 10))
  const [before, after] = [of(90, 10), of(60, 40)]
  assert.ok(before.every((version, index) => version === 1 || after[index] === 2))
  assert.ok(of(100).every((version) => version === 1))
})

test('two personas do not put the same sessions into their small shares', () => {
  const small = (persona: string) =>
    new Set(SESSIONS.filter((session) => chooseVersion(split(90, 10), persona, session) === 2))

  const both = small(randomUUID()).intersection(small(randomUUID())).size

  assert.ok(both < 250, `${both} of about 1,000 where 100 are expected`)
})

test('shares that are not whole percents of 1 to 100, name a version twice, or do not make 100, are refused', () => {
  assert.doesNotThrow(() => checkShares(split(90, 10)))
  assert.doesNotThrow(() => checkShares(split(100)))
  for (const percents of [
    [],
    [99],
    [50, 51],
    [100, 0],
    [-10, 110],
    [99.5, 0.5],
    [Number.NaN, 100],
    Array(11).fill(9),
  ]) {
    assert.throws(
      () => checkShares(split(...percents)),
      { code: 'invalid_request', param: 'versions' },
      String(percents),
    )
  }
  const twice = [
    { version: 1, percent: 50 },
    { version: 1, percent: 50 },
  ]
  assert.throws(() => checkShares(twice), { code: 'invalid_request' })
})
