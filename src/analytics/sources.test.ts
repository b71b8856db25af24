import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Column, type Interval, type Source, sourcesOf } from './sources.ts'

const [start, end] = [new Date('2026-10-05T10:07:00Z'), new Date('2026-11-05T16:31:00.5Z')]

function of(columns: Column[], interval: Interval = 'total', timeZone = 'UTC'): string[] {
  return sourcesOf({ start, end, timeZone }, new Set(columns), interval).map(describe)
}

function describe(source: Source): string {
  const name = source.table === 'usage_slices' ? source.slice : source.table
  return `${name} ${source.from.toISOString().slice(5, 19)} ${source.to.toISOString().slice(5, 19)}`
}

test('what a slice has is summed from it, in every zone, with its ragged ends from the rows', () => {
  for (const timeZone of ['UTC', 'Asia/Kolkata']) {
    assert.deepEqual(of(['model'], 'hour', timeZone), [
      'attempts 10-05T10:07:00 10-05T10:15:00',
      'model 10-05T10:15:00 11-05T16:30:00',
      'attempts 11-05T16:30:00 11-05T16:31:00',
    ])
  }
})

test('days are whole in UTC only, and in sums without days everywhere', () => {
  const daily = (name: string) => [
    'attempts 10-05T10:07:00 10-06T00:00:00',
    `${name} 10-06T00:00:00 11-05T00:00:00`,
    'attempts 11-05T00:00:00 11-05T16:31:00',
  ]
  const rows = ['attempts 10-05T10:07:00 11-05T16:31:00']

  assert.deepEqual(of(['user_id', 'model'], 'day'), daily('user_model'))
  assert.deepEqual(of(['user_id', 'model'], 'total', 'Asia/Tokyo'), daily('user_model'))
  assert.deepEqual(of(['user_id', 'api_key_id'], 'month'), daily('usage_daily'))
  assert.deepEqual(of(['user_id', 'model'], 'day', 'Asia/Tokyo'), rows)
  assert.deepEqual(of(['user_id', 'model'], 'hour'), rows)
  assert.deepEqual(of(['session_id', 'owner_id']), rows)
})

test('a period is divided without a gap or an overlap, however short it is', () => {
  for (const seconds of [1, 59, 899, 900, 901, 86_399, 86_400, 90_000, 172_800, 5_000_000]) {
    for (const columns of [[], ['user_id'], ['user_id', 'api_key_id'], ['session_id']] as Column[][]) {
      for (const offset of [0, 1, 450_000, 86_399_999]) {
        const from = new Date(Date.UTC(2026, 9, 5) + offset)
        const to = new Date(from.getTime() + seconds * 1000)
        const sources = sourcesOf({ start: from, end: to, timeZone: 'UTC' }, new Set(columns), 'total')
        assert.deepEqual(
          [from, ...sources.map((source) => source.to)],
          [...sources.map((source) => source.from), to],
          `${columns} ${from.toISOString()} ${seconds} s`,
        )
      }
    }
  }
})
