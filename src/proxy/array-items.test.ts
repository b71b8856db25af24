import assert from 'node:assert/strict'
import { test } from 'node:test'
import { walkItems } from './array-items.ts'

const itemsOf = (text: string, start: number, end: number) =>
  [...walkItems(Buffer.from(text), start, end)].flatMap((step) =>
    typeof step === 'number' ? [] : [Buffer.from(text).toString('utf8', step.start, step.end)],
  )

test('each element is found from its first byte to its last, whatever it holds', () => {
  for (const [array, items] of [
    ['[]', []],
    ['[ \n\t]', []],
    ['[1]', ['1']],
    ['[ 1 ,\r\n true , null ]', ['1', 'true', 'null']],
    ['["a,b","]","\\"]","\\\\",","]', ['"a,b"', '"]"', '"\\"]"', '"\\\\"', '","']],
    ['[{"a":[1,{"b":"]}"}]} , [[],[2]] ]', ['{"a":[1,{"b":"]}"}]}', '[[],[2]]']],
    ['["é😀",{"k":"\\u005d"}]', ['"é😀"', '{"k":"\\u005d"}']],
  ] as [string, string[]][]) {
    const text = `{"x":${array},"y":[9]}`

    assert.deepEqual(itemsOf(text, 5, 5 + Buffer.byteLength(array)), items, array)
  }
})

test('a large array is walked in steps that are none of them long', () => {
  const items = Array.from({ length: 20_000 }, (_, index) => `{"n":${index}}`)
  const bytes = Buffer.from(`[${items.join(',')}]`)
  let pauses = 0
  let found = 0
  let last = 0

  for (const step of walkItems(bytes, 0, bytes.length)) {
    const at = typeof step === 'number' ? step : step.end
    assert.ok(at - last <= 64 * 1024)
    last = at
    if (typeof step === 'number') pauses += 1
    else found += 1
  }

  assert.equal(found, items.length)
  assert.ok(pauses >= Math.floor(bytes.length / (64 * 1024)))
})
