import assert from 'node:assert/strict'
import { test } from 'node:test'
import { diffLines } from './diff.ts'

test('what changed is told line by line, and no line that stayed', () => {
  for (const [from, to, lines] of [
    ['a\nb\nc', 'a\nb\nc', ' a| b| c'],
    ['a\nb\nc', 'a\nx\nc', ' a|-b|+x| c'],
    ['a\nb\nc\nd', 'a\nc\nd\ne', ' a|-b| c| d|+e'],
    ['a', 'b', '-a|+b'],
    ['a', 'a\n', ' a|+'],
    ['a\na\na', 'a\na', ' a| a|-a'],
    ['x\na\ny\nb\nz', 'a\nq\nb', '-x| a|-y|+q| b|-z'],
  ] as const) {
    const diff = diffLines(from, to)
    const text = diff.map(({ kind, text }) => `${{ same: ' ', removed: '-', added: '+' }[kind]}${text}`).join('|')
    assert.equal(text, lines, `${from} to ${to}`)
  }
})

test('both texts can be read from the difference, however large they are', () => {
  const from = Array.from({ length: 3000 }, (_, index) => String(index % 7)).join('\n')
  const to = Array.from({ length: 3000 }, (_, index) => String((index * 3) % 11)).join('\n')
  for (const [a, b] of [
    [from, to],
    [from.slice(0, 900), to.slice(0, 1100)],
  ] as const) {
    const diff = diffLines(a, b)
    const join = (leaveOut: string) => diff.flatMap(({ kind, text }) => (kind === leaveOut ? [] : text)).join('\n')

    assert.deepEqual([join('added'), join('removed')], [a, b])
  }
})
