import assert from 'node:assert/strict'
import { test } from 'node:test'
import { editBody } from './body-edits.ts'
import {
  hasOwnInstructions,
  type Injection,
  type InstructionsForm,
  injectPersona,
  type ReadBody,
} from './instructions.ts'
import { JsonFields } from './json-fields.ts'

const TEXT = 'Be "kind".\nAlways — é.'
const WRITTEN = JSON.stringify(TEXT)
const SYSTEM = `{"role":"system","content":${WRITTEN}}`

test('a persona stands where its endpoint takes instructions, and every other byte stays as it came', () => {
  for (const [form, own, body, becomes] of [
    ['responses', 'leave_out', '{"model":"m"}', `{"model":"m","instructions":${WRITTEN}}`],
    ['responses', 'leave_out', '{}', `{"instructions":${WRITTEN}}`],
    ['responses', 'leave_out', '{"instructions":"mine","n":1.0}', `{"instructions":${WRITTEN},"n":1.0}`],
    ['responses', 'leave_out', '{"instructions":[1],"n":1}', `{"instructions":${WRITTEN},"n":1}`],
    ['responses', 'leave_out', '{"in\\u0073tructions":"mine"}', `{"in\\u0073tructions":${WRITTEN}}`],
    ['responses', 'append', '{"a":1}', `{"a":1,"instructions":${WRITTEN}}`],
    ['responses', 'append', '{"instructions":null}', `{"instructions":${WRITTEN}}`],
    ['responses', 'append', '{"instructions":""}', `{"instructions":${WRITTEN}}`],
    [
      'responses',
      'append',
      '{"instructions":"m\\u00efne \\ud83d\\ude00"}',
      `{"instructions":${JSON.stringify(`${TEXT}\n\nmïne 😀`)}}`,
    ],
    [
      'responses',
      'leave_out',
      '{ "persona_id" : "x" , "input" : [ {"a":9223372036854775807} ] , "persona_variables" : {} }',
      `{ "input" : [ {"a":9223372036854775807} ],"instructions":${WRITTEN} }`,
    ],
    ['chat', 'leave_out', '{"messages":[]}', `{"messages":[${SYSTEM}]}`],
    ['chat', 'append', '{"messages":[ \n ],"n":-0}', `{"messages":[${SYSTEM} \n ],"n":-0}`],
    ['chat', 'leave_out', '{"messages":[ {"role":"user"} ]}', `{"messages":[${SYSTEM}, {"role":"user"} ]}`],
    [
      'chat',
      'leave_out',
      '{"persona_id":"x","messages":[{"role":"system"},{"role":"user"}],"instructions":"kept"}',
      `{"messages":[${SYSTEM},{"role":"system"},{"role":"user"}],"instructions":"kept"}`,
    ],
  ] as [InstructionsForm, 'leave_out' | 'append', string, string][]) {
    const bytes = edited(form, read(body), { text: TEXT, own })

    assert.equal(bytes.toString(), becomes, `${form}, ${own}: ${body}`)
  }
})

test('without a persona the bytes are the very same, or lose the fields that are the proxy’s own', () => {
  const body = read('{"instructions" : "mine", "input":"x"}')

  assert.equal(edited('responses', body, undefined), body.bytes)
  for (const field of [
    '"persona_id":null',
    '"persona_id":""',
    '"persona_variables":{"a":"b"}',
    '"persona\\u005fid":null',
  ]) {
    const without = edited('responses', read(`{"instructions" : "mine",${field}, "input":"x"}`), undefined)
    assert.equal(without.toString(), '{"instructions" : "mine", "input":"x"}', field)
  }
})

test('of a conversation all items are sent or those that were asked for', () => {
  const input = '[ {"n":1} , "two" ,[3]]'
  const at = (text: string) => ({ start: 9 + input.indexOf(text), end: 9 + input.indexOf(text) + text.length })
  const inject = (name: string, form: InstructionsForm, texts: string[]) =>
    edited(form, read(`{"${name}":${input}}`), {
      text: 'P',
      own: 'leave_out',
      keep: texts.map((text) => {
        const { start, end } = at(text)
        return { start: start + name.length - 5, end: end + name.length - 5 }
      }),
    }).toString()

  assert.equal(inject('input', 'responses', ['{"n":1}', '[3]']), '{"input":[{"n":1},[3]],"instructions":"P"}')
  assert.equal(inject('input', 'responses', []), '{"input":[],"instructions":"P"}')
  assert.equal(inject('messages', 'chat', ['"two"']), '{"messages":[{"role":"system","content":"P"},"two"]}')
  assert.equal(inject('messages', 'chat', []), '{"messages":[{"role":"system","content":"P"}]}')
})

test('what has no place for a persona is refused by name', () => {
  const inject = (form: InstructionsForm, body: string) => () =>
    injectPersona(form, read(body), { text: 'P', own: 'append' })

  for (const body of ['{}', '{"messages":null}', '{"messages":"hi"}', '{"messages":{}}']) {
    assert.throws(inject('chat', body), { code: 'invalid_request', param: 'messages' }, body)
  }
  for (const body of ['{"instructions":5}', '{"instructions":["a"]}', '{"instructions":"\\x"}']) {
    assert.throws(inject('responses', body), { code: 'invalid_request', param: 'instructions' }, body)
  }
})

test('null and an empty text are no instructions', () => {
  for (const [body, has] of [
    ['{}', false],
    ['{"instructions":null}', false],
    ['{"instructions": "" }', false],
    ['{"instructions":"\\u0020"}', true],
    ['{"instructions":"nullx"}', true],
    ['{"instructions":[]}', true],
  ] as const) {
    assert.equal(hasOwnInstructions(read(body)), has, body)
  }
})

function edited(form: InstructionsForm, body: ReadBody, injection: Injection | undefined): Buffer {
  return editBody(body.bytes, body.fields, injectPersona(form, body, injection))
}

function read(text: string) {
  const bytes = Buffer.from(text)
  const json = new JsonFields({ wanted: [] })
  json.push(bytes)
  return { bytes, fields: json.fields }
}
