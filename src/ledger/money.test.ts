import assert from 'node:assert/strict'
import { test } from 'node:test'
import { divideHalfUp, formatDecimal, formatUsd, formatUsdRounded } from './money.ts'

test('dollars are exact, with two decimals at least and no more zeros than that', () => {
  const expected: [bigint, string][] = [
    [0n, '$0.00'],
    [1n, '$0.000000001'],
    [300_000n, '$0.0003'],
    [10_000_000n, '$0.01'],
    [4_920_000_000n, '$4.92'],
    [4_900_000_000n, '$4.90'],
    [5_000_000_000n, '$5.00'],
    [1_234_567_890_123_456_789n, '$1234567890.123456789'],
    [-1n, '-$0.000000001'],
    [-2_500_000_000n, '-$2.50'],
  ]

  for (const [nanoUsd, text] of expected) assert.equal(formatUsd(nanoUsd), text)
})

test('a decimal without decimals has no point', () => {
  assert.equal(formatDecimal(3_000n, 3, 0), '3')
})

test('halves round up', () => {
  assert.deepEqual(
    [0n, 1n, 4n, 5n, 6n, 14n, 15n].map((tenths) => divideHalfUp(tenths, 10n)),
    [0n, 0n, 0n, 1n, 1n, 1n, 2n],
  )
})

test('in a report money has two decimals, and below a dollar the digits that keep it from reading as zero', () => {
  for (const [nanoUsd, shown] of [
    [0n, '$0.00'],
    [4_923_456_789n, '$4.92'],
    [4_925_000_000n, '$4.93'],
    [1_234_567_890_123n, '$1234.57'],
    [690_000_000n, '$0.69'],
    [694_900_000n, '$0.69'],
    [999_900_000n, '$1.00'],
    [15_000_000n, '$0.015'],
    [14_900_000n, '$0.015'],
    [99_960_000n, '$0.10'],
    [300_000n, '$0.0003'],
    [4800n, '$0.0000048'],
    [1n, '$0.000000001'],
  ] as const) {
    assert.equal(formatUsdRounded(nanoUsd), shown, String(nanoUsd))
  }
})
