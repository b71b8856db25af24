import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { isUuid, newAttemptId, newRequestId, newSessionId } from './ids.ts'

test('ids have their prefix and 32 hexadecimal digits, and no two are alike', () => {
  assert.match(newRequestId(), /^req_[0-9a-f]{32}$/)
  assert.match(newSessionId(), /^sess_[0-9a-f]{32}$/)
  assert.equal(new Set(Array.from({ length: 10_000 }, newRequestId)).size, 10_000)
})

test('an attempt id is a UUID of version 7 that sorts by its time', () => {
  const times = [0, 1, 1_700_000_000_000, Date.now(), Date.now() + 1, 2 ** 48 - 1]
  const ids = times.map(newAttemptId)
  for (const [at, id] of ids.entries()) {
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    assert.ok(isUuid(id))
    assert.equal(Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16), times[at])
  }
  assert.deepEqual([...ids].sort(), ids)
  assert.equal(new Set(Array.from({ length: 10_000 }, () => newAttemptId(5))).size, 10_000)
})

test('a UUID is one in any case, and nothing that only contains one', () => {
  const id = randomUUID()
  assert.ok(isUuid(id) && isUuid(id.toUpperCase()))
  for (const text of [
    '',
    'x',
    id.slice(1),
    `${id}0`,
    ` ${id}`,
    `${id}\n`,
    `{${id}}`,
    id.replaceAll('-', ''),
    id.replace('-', '_'),
  ]) {
    assert.ok(!isUuid(text), JSON.stringify(text))
  }
})
