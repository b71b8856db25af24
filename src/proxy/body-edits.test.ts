import assert from 'node:assert/strict'
import { test } from 'node:test'
import { editBody } from './body-edits.ts'
import { JsonFields } from './json-fields.ts'

const CASES: { body: string; edits: Record<string, string | null>; becomes: string }[] = [
  { body: '{"a":1,"b":2}', edits: {}, becomes: '{"a":1,"b":2}' },
  { body: '{"a":1,"b":2}', edits: { a: '"x"' }, becomes: '{"a":"x","b":2}' },
  { body: '{ "a" : 1 , "b" : 2 }', edits: { b: '[3]' }, becomes: '{ "a" : 1 , "b" : [3] }' },
  { body: '{"a":1,"b":2,"c":3}', edits: { a: null }, becomes: '{"b":2,"c":3}' },
  { body: '{"a":1,"b":2,"c":3}', edits: { b: null }, becomes: '{"a":1,"c":3}' },
  { body: '{"a":1,"b":2,"c":3}', edits: { c: null }, becomes: '{"a":1,"b":2}' },
  { body: '{"a":1,"b":2,"c":3}', edits: { a: null, b: null }, becomes: '{"c":3}' },
  { body: '{"a":1,"b":2,"c":3}', edits: { b: null, c: null }, becomes: '{"a":1}' },
  { body: '{"a":1,"b":2,"c":3}', edits: { a: null, c: null }, becomes: '{"b":2}' },
  { body: ' { "a" : 1 } ', edits: { a: null }, becomes: ' {  } ' },
  { body: '{"a":1}', edits: { a: null, z: 'true' }, becomes: '{"z":true}' },
  { body: '{}', edits: { z: 'true', y: '"é"' }, becomes: '{"z":true,"y":"é"}' },
  { body: '\n{ }', edits: { z: '1' }, becomes: '\n{"z":1 }' },
  { body: '{"a":1}', edits: { q: null }, becomes: '{"a":1}' },
  { body: '{"a":"é\\"},{","b":{"b":0,"a":0}}', edits: { a: '2', z: '3' }, becomes: '{"a":2,"b":{"b":0,"a":0},"z":3}' },
  {
    body: '{"n":9223372036854775807,"a":1.0,"1":-0}',
    edits: { a: '2' },
    becomes: '{"n":9223372036854775807,"a":2,"1":-0}',
  },
  { body: '{"\\u0061":1,"b":2}', edits: { a: null }, becomes: '{"b":2}' },
  { body: '{"in":{"a":1,"b":2},"a":3}', edits: { a: '4', in: null }, becomes: '{"a":4}' },
]

test('a field is replaced, added or taken out, and every other byte stays as it came', () => {
  for (const { body, edits, becomes } of CASES) {
    const bytes = Buffer.from(body)
    const json = new JsonFields({ wanted: [], descend: ['in'] })
    json.push(bytes)

    const edited = editBody(bytes, json.fields, new Map(Object.entries(edits)))

    assert.equal(edited.toString(), becomes, `${body} with ${JSON.stringify(edits)}`)
  }
})
