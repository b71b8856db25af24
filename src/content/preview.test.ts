import assert from 'node:assert/strict'
import { test } from 'node:test'
import { previewInput, previewOutput } from './preview.ts'

const body = (value: unknown) => {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return { text, isCut: false, originalBytes: text.length }
}
const message = (text: string) => ({ type: 'message', role: 'user', content: [{ type: 'input_text', text }] })

test('the preview of what was asked is its text, as text or as items, without NUL', () => {
  assert.equal(previewInput(body({ input: 'What is\0 this?' }), 100), 'What is this?')
  assert.equal(previewInput(body({ input: [message('one'), { type: 'image' }, message('two')] }), 100), 'one\ntwo')
  assert.equal(previewInput(body({ messages: [{ role: 'user', content: 'hi' }] }), 100), 'hi')
  assert.equal(previewInput(body({ input: '🎈'.repeat(200) }), 100), '🎈'.repeat(100))
})

test('the preview of an answer is its text and not its JSON, whole or streamed', () => {
  const output = [
    { type: 'reasoning', summary: [] },
    { type: 'message', content: [{ type: 'output_text', text: 'Paris.' }] },
  ]
  const events = ['The ', 'capital'].map((delta) => ({ type: 'response.output_text.delta', delta }))
  const stream = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('')

  assert.equal(previewOutput(body({ output }), 100), 'Paris.')
  assert.equal(previewOutput(body(`${stream}data: [DONE]\n\n`), 100), 'The capital')
  assert.equal(previewOutput(body({ choices: [{ message: { content: 'Paris.' } }] }), 100), 'Paris.')
})

test('what cannot be read has no preview', () => {
  for (const value of ['', '{"input": "cut off', '[]', 'null', '5', { input: 5 }, { input: [] }, { output: null }]) {
    assert.equal(previewInput(body(value), 100), undefined)
    assert.equal(previewOutput(body(value), 100), undefined)
  }
  assert.equal(previewInput(undefined, 100), undefined)
  assert.equal(previewOutput(undefined, 100), undefined)
})
