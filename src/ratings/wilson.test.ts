import assert from 'node:assert/strict'
import { test } from 'node:test'
import { wilsonInterval } from './wilson.ts'

test('the interval is that of the literature', () => {
  // Newcombe 1998, table I, method 3.
  for (const [hits, total, low, high] of [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
    [5, 10, 0.2366, 0.7634],
    [20, 20, 0.8389, 1],
  ] as const) {
    const interval = wilsonInterval(hits, total)

    assert.equal(interval?.share, hits / total)
    assert.equal(interval?.low.toFixed(4), low.toFixed(4), `${hits} of ${total}`)
    assert.equal(interval?.high.toFixed(4), high.toFixed(4), `${hits} of ${total}`)
  }
})

test('nothing has no share, and every share lies within its interval, within 0 and 1', () => {
  assert.equal(wilsonInterval(0, 0), undefined)
  for (let total = 1; total <= 200; total += 1) {
    for (let hits = 0; hits <= total; hits += 1) {
      const { share, low, high } = wilsonInterval(hits, total) ?? assert.fail()
      assert.ok(0 <= low && low <= share && share <= high && high <= 1, `${hits} of ${total}: ${low} ${high}`)
    }
  }
})
