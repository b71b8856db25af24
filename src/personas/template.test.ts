import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkTemplate, fillTemplate, type Variables } from './template.ts'

const fill = (content: string, variables: Variables, values: Record<string, string> = {}) =>
  fillTemplate({ content, variables }, new Map(Object.entries(values)))

test('placeholders are filled from the call, else from their defaults, wherever and however often they stand', () => {
  for (const [content, variables, values, filled] of [
    ['Hello {{who}}!', { who: null }, { who: 'Ada' }, 'Hello Ada!'],
    ['Hello {{who}}!', { who: 'you' }, {}, 'Hello you!'],
    ['Hello {{ who }}!', { who: 'you' }, { who: 'Ada' }, 'Hello Ada!'],
    ['{{a}}{{b}}{{a}}', { a: '1', b: '2' }, { a: '' }, '2'],
    ['{{{a}}}', { a: 'x' }, {}, '{x}'],
    ['no placeholder', { a: 'x' }, { a: 'y' }, 'no placeholder'],
    ['{{}} {{1a}} {{a-b}} { {a} } {{a}', { a: 'x' }, {}, '{{}} {{1a}} {{a-b}} { {a} } {{a}'],
    ['{{toString}} {{__proto__}}', JSON.parse('{"toString":"s","__proto__":"p"}'), {}, 's p'],
  ] as [string, Variables, Record<string, string>, string][]) {
    assert.equal(fill(content, variables, values), filled, content)
  }
})

test('a value is literal: what looks like a placeholder or a pattern in it is text', () => {
  const values = { a: '{{b}} $& $1 $$ \\n', b: '{{a}}' }

  assert.equal(fill('{{a}}|{{b}}', { a: null, b: null }, values), '{{b}} $& $1 $$ \\n|{{a}}')
  assert.equal(fill('{{a}}', { a: '{{a}}' }), '{{a}}', 'a default too: this is how to write a placeholder itself')
})

test('a variable that is missing or unknown is refused by its name', () => {
  const refusal = (param: string, message: RegExp) => ({ code: 'invalid_request', status: 400, param, message })

  assert.throws(() => fill('{{who}}', { who: null }), refusal('persona_variables.who', /"who"/))
  assert.throws(() => fill('{{who}}', { who: 'x' }, { whom: 'y' }), refusal('persona_variables.whom', /"whom"/))
  assert.throws(() => fill('x', {}, { toString: 'y' }), refusal('persona_variables.toString', /"toString"/))
  const long = 'n'.repeat(5000)
  assert.throws(
    () => fill('x', {}, { [long]: 'y' }),
    ({ message }: Error) => message.length < 200,
  )
})

test('a name that only another served version declares is no error', () => {
  const template = { content: 'x', variables: {} }

  assert.equal(fillTemplate(template, new Map([['tone', 'y']]), new Set(['tone'])), 'x')
})

test('neither a value nor the filled text grows beyond its bound, however often a value is used', () => {
  assert.throws(() => fill('{{a}}', { a: null }, { a: 'x'.repeat(8001) }), { param: 'persona_variables.a' })
  assert.throws(() => fill('{{a}}'.repeat(10_000), { a: null }, { a: 'x'.repeat(8000) }), { status: 400 })
  assert.equal(fill('{{a}}'.repeat(25), { a: null }, { a: 'x'.repeat(8000) }).length, 200_000)
})

test('a template is refused when it is empty, too long, no text, or has a placeholder that is not declared', () => {
  const check =
    (content: string, variables: Variables = {}) =>
    () =>
      checkTemplate({ content, variables })

  assert.doesNotThrow(check('You help {{who}}.', { who: null }))
  assert.doesNotThrow(check('x'.repeat(100_000)))
  for (const content of ['', ' \n', 'x'.repeat(100_001), 'a\0b', 'a\ud800']) {
    assert.throws(check(content), { code: 'invalid_request', param: 'content' }, JSON.stringify(content.slice(0, 9)))
  }
  assert.throws(check('{{who}} {{whom}}', { who: 'x' }), { param: 'variables', message: /whom/ })
  assert.throws(check('{{toString}}'), { param: 'variables' })
  for (const name of ['', '1a', 'a-b', 'a b', 'é', 'x'.repeat(65)]) {
    assert.throws(check('x', { [name]: null }), { param: 'variables' }, name)
  }
  assert.throws(check('x', { a: 'x'.repeat(8001) }), { param: 'variables.a' })
  assert.throws(check('x', { a: '\0' }), { param: 'variables.a' })
  assert.throws(check('x', Object.fromEntries(Array.from({ length: 51 }, (_, n) => [`v${n}`, '']))), { status: 400 })
})
