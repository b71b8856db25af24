import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EXTERNAL_ID_MAX, parseExternalId } from './external-id.ts'

test('an id is what its sender wrote, without the space around it', () => {
  for (const [text, id] of [
    ['alice', 'alice'],
    [' alice\t', 'alice'],
    ['Ålice 🎈 <a@b.example>', 'Ålice 🎈 <a@b.example>'],
    ["'; drop table users --", "'; drop table users --"],
    ['0', '0'],
    ['nullable', 'nullable'],
    ['undefined', 'undefined'],
    ['x'.repeat(EXTERNAL_ID_MAX), 'x'.repeat(EXTERNAL_ID_MAX)],
  ] as const) {
    assert.equal(parseExternalId(text, 'user_id'), id)
  }
})

test('ids that differ in case are different users', () => {
  assert.notEqual(parseExternalId('Alice', 'user_id'), parseExternalId('alice', 'user_id'))
})

test('an id that a client sends who has lost its user is refused as missing', () => {
  for (const text of ['', ' ', '\t\n', '\u00a0', 'null', 'NULL', ' Null ']) {
    assert.throws(() => parseExternalId(text, 'X-User-ID'), {
      code: 'missing_user_id',
      param: 'X-User-ID',
      status: 400,
    })
  }
})

test('an id that is too long, or that no text of the database can hold, is refused', () => {
  for (const text of ['x'.repeat(EXTERNAL_ID_MAX + 1), 'a\0b', 'a\nb', 'a\u007fb', 'a\ud800b', '\udc00']) {
    assert.throws(() => parseExternalId(text, 'user_id'), { code: 'invalid_request', param: 'user_id' })
  }
})
