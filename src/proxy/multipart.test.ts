import assert from 'node:assert/strict'
import { test } from 'node:test'
import { boundaryOf, type FormField, FormReader } from './multipart.ts'

const BOUNDARY = 'xYz-1'

function part(name: string, value: string, more = ''): string {
  return `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${value}\r\n`
}

const END = `--${BOUNDARY}--\r\n`

/** The bytes passed on and the fields told, when the form comes in pieces of this size. */
function read(form: string, size: number, edit: (field: FormField) => string | undefined = () => undefined) {
  const reader = new FormReader(BOUNDARY, { reads: (name) => name !== 'prompt', edit })
  const bytes = Buffer.from(form)
  const out: Buffer[] = []
  const fields: FormField[] = []
  for (let at = 0; at < bytes.length; at += size) {
    for (const piece of reader.push(bytes.subarray(at, at + size))) {
      if (piece.field) fields.push(piece.field)
      out.push(piece.bytes)
    }
  }
  out.push(reader.finish().bytes)
  return { text: Buffer.concat(out).toString(), fields }
}

const FORM = `${part('file', 'a\r\n--xYz\r\n-- \0binary', '; filename="a \\"b\\".txt"\r\nContent-Type: text/plain')}${part('purpose', 'assistants')}${part('prompt', 'long '.repeat(2000))}${part('note', '')}${part('include[]', 'é')}${END}`
const SIZES = [...Array.from({ length: 300 }, (_, index) => index + 1), FORM.length]

test('a form passes byte for byte and its text fields are told, wherever it is cut', () => {
  for (const size of SIZES) {
    const { text, fields } = read(FORM, size)
    assert.equal(text, FORM)
    assert.deepEqual(fields, [
      { name: 'purpose', value: 'assistants' },
      { name: 'note', value: '' },
      { name: 'include[]', value: 'é' },
    ])
  }
})

test('a field is replaced, and nothing else, wherever the form is cut', () => {
  for (const size of SIZES) {
    const { text } = read(FORM, size, ({ name }) => (name === 'purpose' ? 'other' : undefined))
    assert.equal(text, FORM.replace('assistants', 'other'))
  }
})

const REFUSED: Record<string, string> = {
  nothing: '',
  'no end': part('a', 'b'),
  'text before the first part': `hello\r\n${part('a', 'b')}${END}`,
  'text behind the last part': `${part('a', 'b')}${END}${part('a', 'b')}${END}`,
  'bare line feeds': `--${BOUNDARY}\nContent-Disposition: form-data; name="a"\n\nb\n--${BOUNDARY}--\n`,
  'a boundary behind a bare line feed': `${part('file', `x\n--${BOUNDARY}\r\n`, '; filename="f"')}${END}`,
  'a boundary within content': `${part('file', `x--${BOUNDARY}y`, '; filename="f"')}${END}`,
  'blanks behind the boundary': `--${BOUNDARY} \r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n${END}`,
  'no name': `--${BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\nb\r\n${END}`,
  'two names': part('a', 'b', '; name="c"') + END,
  'a name in another encoding': `--${BOUNDARY}\r\nContent-Disposition: form-data; name*=utf-8''a\r\n\r\nb\r\n${END}`,
  'two dispositions': part('a', 'b', '\r\nContent-Disposition: form-data; name="c"') + END,
  'a folded header': part('a', 'b', '\r\n ; name="c"') + END,
  'an encoded part': part('a', 'Yg==', '\r\nContent-Transfer-Encoding: base64') + END,
  'text in another alphabet': part('a', 'b', '\r\nContent-Type: text/plain; charset=utf-16') + END,
  'a model that is a file': part('model', 'gpt-5', '; filename="x"') + END,
  'a file id that is a file': part('file_id', 'file-1', '; filename="x"') + END,
  'a change of alphabet': part('_charset_', 'utf-16') + END,
  'a field that is too long': part('a', 'x'.repeat(300_000)) + END,
  'headers that are too long': part('a', 'b', `\r\nContent-Type: ${'x'.repeat(10_000)}`) + END,
}

test('what two parsers could read differently is refused', async (t) => {
  for (const [name, form] of Object.entries(REFUSED)) {
    await t.test(name, () => {
      for (const size of [1, 7, 64 * 1024]) assert.throws(() => read(form, size), { code: 'invalid_request' })
    })
  }
})

test('a boundary is taken from a content type that says nothing else', () => {
  assert.equal(boundaryOf('multipart/form-data; boundary=----WebKitFormBoundaryA1'), '----WebKitFormBoundaryA1')
  assert.equal(boundaryOf('Multipart/Form-Data; Boundary="a b"'), 'a b')
  for (const type of [
    undefined,
    'multipart/form-data',
    'multipart/mixed; boundary=a',
    'multipart/form-data; boundary=',
    'multipart/form-data; boundary=a; boundary=b',
    'multipart/form-data; boundary=a; charset=utf-16',
    'multipart/form-data; boundary="a',
    `multipart/form-data; boundary=${'a'.repeat(71)}`,
    'application/json',
  ]) {
    assert.equal(boundaryOf(type), undefined, type ?? 'none')
  }
})
