import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { CAPTURED_BYTES_MAX, Capture, captureBody } from './capture.ts'

test('pieces are captured in order, whatever their sizes, up to the limit and no further', () => {
  for (const pieceBytes of [1000, 4096, 100_000, CAPTURED_BYTES_MAX - 1, CAPTURED_BYTES_MAX, CAPTURED_BYTES_MAX + 1]) {
    const whole = randomBytes(CAPTURED_BYTES_MAX + 5000)
    const capture = new Capture()

    for (let at = 0; at < whole.length; at += pieceBytes) capture.push(whole.subarray(at, at + pieceBytes))

    const captured = capture.take()
    assert.equal(captured?.originalBytes, whole.length)
    assert.ok(captured?.bytes.equals(whole.subarray(0, CAPTURED_BYTES_MAX)), `in pieces of ${pieceBytes}`)
  }
})

test('what is captured does not change with the buffer it came in', () => {
  const piece = Buffer.from('hello')
  const capture = new Capture()

  capture.push(piece)
  piece.fill('x')

  assert.equal(capture.take()?.bytes.toString(), 'hello')
})

test('nothing captured is nothing, not an empty body', () => {
  assert.equal(new Capture().take(), undefined)
})

test('a large body is not held for the sake of its beginning', () => {
  const body = randomBytes(8 * CAPTURED_BYTES_MAX)

  const { bytes, originalBytes } = captureBody(body)

  assert.equal(originalBytes, body.length)
  assert.ok(bytes.equals(body.subarray(0, CAPTURED_BYTES_MAX)))
  assert.ok(bytes.buffer.byteLength <= CAPTURED_BYTES_MAX)
})
