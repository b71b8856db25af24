import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CsvValue, toCsv } from './csv.ts'

const cell = (value: CsvValue) => toCsv([['x', (row: CsvValue) => row]], [value]).slice('x\r\n'.length, -2)

test('what a spreadsheet would run is text to it, also behind a quote, a tab or a line break', () => {
  for (const formula of ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', '\n=1', '＝1', '=cmd|"/c calc"!A0']) {
    const shown = cell(formula)

    assert.match(shown, /^"?'/, formula)
  }
  assert.equal(cell('=HYPERLINK("x","y")'), `"'=HYPERLINK(""x"",""y"")"`)
  assert.equal(cell(['=1', 'b']), "'=1 b")
})

test('numbers stay numbers, nothing is an empty cell, and other text is as it was', () => {
  assert.deepEqual([-1, 0, 12.5, 9_007_199_254_740_993n, true, null, 'alice@example.com', 'a\0b'].map(cell), [
    '-1',
    '0',
    '12.5',
    '9007199254740993',
    'true',
    '',
    'alice@example.com',
    'ab',
  ])
})

test('separators, quotes and line breaks are inside of quotes', () => {
  assert.equal(cell('a,b'), '"a,b"')
  assert.equal(cell('say "hi"'), '"say ""hi"""')
  assert.equal(cell('a\nb'), '"a\nb"')
  assert.equal(toCsv([['a,b', () => 1]], []), '"a,b"\r\n')
})
