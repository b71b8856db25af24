import assert from 'node:assert/strict'
import { test } from 'node:test'
import { JsonFields } from './json-fields.ts'

/** Names that the random documents use; some are asked for. */
const NAMES = ['id', 'model', 'response', 'usage', 'a', '', 'é', 'response.id', '__proto__', 'x y']
const OPTIONS = {
  wanted: ['id', 'model', 'usage', '__proto__', 'response.id', 'response.usage'],
  descend: ['response'],
}

test('a document gives the same fields at every chunking, and they are what JSON.parse gives', () => {
  const random = seeded(1)
  for (let round = 0; round < 150; round += 1) {
    const text = randomObjectText(random, 0)
    const bytes = Buffer.from(text)
    const whole = read([bytes])
    assertEqualsParsed(whole, text)
    for (const chunks of [...everyChunking(bytes, random)]) assert.deepEqual(told(read(chunks)), told(whole), text)
  }
})

test('a document cut at every pair of places gives the same fields', () => {
  const text =
    ' {"id" : "a\\"b\\\\" ,"response":{"usage":{"n":-1.5e+3},"id":"r\\u00e9"} , "model":null,"\\u0069d2":[1,{}]} '
  const bytes = Buffer.from(text)
  const whole = read([bytes])
  assertEqualsParsed(whole, text)
  for (let one = 0; one <= bytes.length; one += 1) {
    for (let two = one; two <= bytes.length; two += 1) {
      const chunks = [bytes.subarray(0, one), bytes.subarray(one, two), bytes.subarray(two)]
      assert.deepEqual(told(read(chunks)), told(whole), `cut at ${one} and ${two}`)
    }
  }
})

/** The inside of strings is left to their reader: a control character or a bad escape in a value does not refuse a document. */
test('a document is refused exactly when JSON.parse refuses it, but for the inside of strings', () => {
  const random = seeded(2)
  const seen = { accepted: 0, refused: 0, insideStrings: 0 }
  for (let round = 0; round < 6000; round += 1) {
    const text = mutate(randomObjectText(random, 0), random)
    const bytes = Buffer.from(text)
    const { isComplete } = read(pieces(bytes, random))
    if (isObject(text)) {
      assert.ok(isComplete, `refused: ${text}`)
      seen.accepted += 1
    } else if (!isObject(withoutStrings(text))) {
      assert.ok(!isComplete, `accepted: ${text}`)
      seen.refused += 1
    } else {
      seen.insideStrings += 1
    }
  }
  assert.ok(seen.accepted > 500 && seen.refused > 2000, JSON.stringify(seen))
})

test('what is no single JSON object is refused', () => {
  const texts = [
    '',
    ' ',
    '[]',
    '"text"',
    '5',
    'null',
    '{',
    '}',
    '{}{}',
    '{} x',
    '{},',
    '{"a":1]',
    '[{}]',
    '\ufeff{}',
    '{\u00a0}',
  ]
  texts.push('{"a":1,}', '{,}', '{"a"}', '{"a":}', '{a:1}', "{'a':1}", '{"a":1 2}', '{"a":01}', '{"a":1.}', '{"a":.5}')
  texts.push(
    '{"a":+1}',
    '{"a":-}',
    '{"a":1e}',
    '{"a":NaN}',
    '{"a":tru}',
    '{"a":nulll}',
    '{"a":"b""c"}',
    '{"a":"b}',
    '{"a" "b"}',
  )
  texts.push('{"a":[1,]}', '{"a":[,1]}', '{"a":[1 2]}', '{"a":[}', '{"a":{]}', '{"a":/**/1}', '{"a":1}\0', '{"a"::1}')
  for (const text of texts) {
    for (const chunks of [[Buffer.from(text)], [...Buffer.from(text)].map((byte) => Buffer.of(byte))]) {
      const json = read(chunks)
      assert.ok(!json.isComplete, JSON.stringify(text))
    }
    assert.throws(() => assert.ok(isObject(text)), `JSON.parse agrees: ${JSON.stringify(text)}`)
  }
})

test('a repeated field is told, however its name is written, and the last one counts', () => {
  const cases: [string, string[], unknown][] = [
    ['{"model":1,"model":2}', ['model'], 2],
    ['{"model":1,"\\u006dodel":2}', ['model'], 2],
    ['{"\\u006d\\u006fdel":1,"a":{},"mode\\u006C":2}', ['model'], 2],
    ['{"model":1,"model":2,"model":3}', ['model', 'model'], 3],
    ['{"model":[{"model":1,"x":2}],"a":{"model":5,"model":6}}', [], [{ model: 1, x: 2 }]],
    ['{"Model":1,"model ":2,"model":3}', [], 3],
    ['{"é":1,"\\u00e9":2,"model":0}', ['é'], 0],
    ['{"a":1,"a":2,"model":0}', ['a'], 0],
  ]
  for (const [text, duplicates, value] of cases) {
    const bytes = Buffer.from(text)
    for (const chunks of [[bytes], [...bytes].map((byte) => Buffer.of(byte))]) {
      const json = read(chunks)
      assert.deepEqual(json.duplicates, duplicates, text)
      assert.deepEqual(json.value('model'), value, text)
    }
  }
})

test('a field of an inner object is never taken from an outer name with a dot, nor from an object that was replaced', () => {
  assert.equal(read([Buffer.from('{"response.id":"forged","response":{}}')]).value('response.id'), undefined)
  assert.equal(read([Buffer.from('{"response":{"id":"true"},"response.id":"forged"}')]).value('response.id'), 'true')
  assert.equal(read([Buffer.from('{"response":{"id":"old"},"response":5}')]).value('response.id'), undefined)
  assert.equal(read([Buffer.from('{"response":{"id":"old"},"response":{}}')]).value('response.id'), undefined)
  assert.equal(read([Buffer.from('{"response":[{"id":"deeper"}]}')]).value('response.id'), undefined)
  assert.equal(read([Buffer.from('{"a":{"response":{"id":"deeper"}}}')]).value('response.id'), undefined)
})

test('a name with a broken escape in the outer object refuses the document: nobody knows what the next reader makes of it', () => {
  for (const text of ['{"mode\\l":1}', '{"\\u00zz":1}', '{"\\ud8":1}'])
    assert.ok(!read([Buffer.from(text)]).isComplete, text)
})

test('a value is told by its place: the bytes from start to end are the value, whether captured or not', () => {
  const text =
    '{ "a" : 1 , "model"\t:\n"x" ,"b":[ 1 , 2 ] , "c":{"d":{} } ,"e":true\r\n, "response" : {"id" : 5 , "f": [ ] } }'
  const bytes = Buffer.from(text)
  const parsed = JSON.parse(text) as Record<string, unknown>
  for (const chunks of [[bytes], [...bytes].map((byte) => Buffer.of(byte))]) {
    const json = read(chunks)
    for (const [name, value] of Object.entries(parsed)) {
      const field = json.fields.get(name)
      assert.ok(field, name)
      const slice = bytes.subarray(field.start, field.end).toString()
      assert.deepEqual(JSON.parse(slice), value, name)
      assert.equal(slice, slice.trim(), name)
    }
  }
})

test('nesting is bounded at 512, and at the bound it still works', () => {
  const nested = (depth: number) => Buffer.from(`{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`)
  assert.ok(read([nested(512)]).isComplete)
  assert.ok(read([nested(513)]).isInvalid)
  const endless = new JsonFields(OPTIONS)
  endless.push(Buffer.from('{"a":'))
  for (let round = 0; round < 1000; round += 1) endless.push(Buffer.from('['.repeat(1000)))
  assert.ok(endless.isInvalid)
})

test('a number or a name without end is refused instead of held', () => {
  const number = new JsonFields(OPTIONS)
  number.push(Buffer.from('{"a":1'))
  for (let round = 0; round < 10; round += 1) number.push(Buffer.alloc(1000, '1'))
  assert.ok(number.isInvalid)
  const name = new JsonFields(OPTIONS)
  name.push(Buffer.from('{"'))
  for (let round = 0; round < 70; round += 1) name.push(Buffer.alloc(1024, 'k'))
  assert.ok(name.isInvalid)
  assert.ok(read([Buffer.from(`{"a":1${'0'.repeat(300)},"b":1e400}`)]).isComplete)
})

test('a value above the capture bound is told, but not kept; one at the bound is', () => {
  for (const [length, isKept] of [
    [100 - 2, true],
    [101 - 2, false],
  ] as const) {
    const text = `{"model":"${'x'.repeat(length)}","id":1}`
    for (const chunks of [[Buffer.from(text)], [...Buffer.from(text)].map((byte) => Buffer.of(byte))]) {
      const json = new JsonFields({ ...OPTIONS, captureMax: 100 })
      for (const chunk of chunks) json.push(chunk)
      assert.equal(json.isComplete, true)
      assert.equal(json.value('model'), isKept ? 'x'.repeat(length) : undefined)
      assert.equal(json.fields.has('model'), true)
      assert.equal(json.value('id'), 1)
    }
  }
})

test('what was captured does not change when the buffer it came in is used again', () => {
  const json = new JsonFields(OPTIONS)
  const buffer = Buffer.from('{"model":"gpt-4o-')
  json.push(buffer)
  buffer.fill('!')
  const rest = Buffer.from('mini"}')
  json.push(rest)
  rest.fill('!')
  assert.equal(json.value('model'), 'gpt-4o-mini')
})

test('time grows with the length and not faster, whatever the text is made of', () => {
  const makers: Record<string, (bytes: number) => Buffer> = {
    'empty objects': (bytes) => Buffer.from(`{"a":[${'{},'.repeat(bytes / 3)}{}]}`),
    'escaped quotes': (bytes) => Buffer.from(`{"a":"${'\\"'.repeat(bytes / 2)}"}`),
    backslashes: (bytes) => Buffer.from(`{"a":"${'\\\\'.repeat(bytes / 2)}"}`),
    'distinct fields': (bytes) =>
      Buffer.from(`{${Array.from({ length: bytes / 40 }, (_, at) => `"field-number-${at}":"some value"`).join(',')}}`),
  }
  for (const [name, make] of Object.entries(makers)) {
    const [quarter, whole] = [make(1_000_000), make(4_000_000)]
    const quarterMs = Math.min(...[1, 2, 3, 4].map(() => cpuMsToRead(quarter)))
    const wholeMs = Math.min(...[1, 2, 3, 4].map(() => cpuMsToRead(whole)))
    // Four times as long is four times as much; if it grew by the square, it would be sixteen times.
    assert.ok(wholeMs < Math.max(quarterMs, 5) * 10, `${name}: ${quarterMs} ms, then ${wholeMs} ms`)
  }
})

/** Of this thread alone: whoever else uses the machine does not count. */
function cpuMsToRead(bytes: Buffer): number {
  const before = process.threadCpuUsage()
  const chunks: Buffer[] = []
  for (let at = 0; at < bytes.length; at += 65_536) chunks.push(bytes.subarray(at, at + 65_536))
  assert.ok(read(chunks).isComplete)
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1000
}

function read(chunks: Iterable<Buffer>): JsonFields {
  const json = new JsonFields(OPTIONS)
  for (const chunk of chunks) json.push(chunk)
  return json
}

function told(json: JsonFields) {
  const { isComplete, isInvalid, duplicates } = json
  return { isComplete, isInvalid, duplicates, fields: [...json.fields] }
}

function assertEqualsParsed(json: JsonFields, text: string): void {
  assert.ok(json.isComplete, text)
  const parsed = JSON.parse(text) as Record<string, unknown>
  for (const path of OPTIONS.wanted) {
    const [outer = '', inner] = path.split('.')
    const value = Object.hasOwn(parsed, outer) ? parsed[outer] : undefined
    const expected = inner === undefined ? value : ownOf(value, inner)
    assert.deepEqual(json.value(path), expected, `${path} in ${text}`)
  }
}

function ownOf(value: unknown, name: string): unknown {
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isRecord && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
}

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}

function withoutStrings(text: string): string {
  return text.replace(/"(?:[^"\\]|\\[\s\S])*"/g, '""')
}

type Random = () => number

/** Mulberry32: the same numbers in every run. */
function seeded(seed: number): Random {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function oneOf<T>(list: readonly T[], random: Random): T {
  return list[Math.floor(random() * list.length)] as T
}

function randomObjectText(random: Random, depth: number): string {
  const names = NAMES.filter(() => random() < 0.4)
  const fields = names.map((name) => {
    const written = random() < 0.2 ? escapeAll(name) : JSON.stringify(name)
    return `${space(random)}${written}${space(random)}:${space(random)}${randomText(random, depth + 1)}${space(random)}`
  })
  return `${space(random)}{${fields.join(',') || space(random)}}${space(random)}`
}

function randomText(random: Random, depth: number): string {
  const kind = Math.floor(random() * (depth > 3 ? 5 : 7))
  if (kind === 0) return oneOf(['true', 'false', 'null'], random)
  if (kind === 1) return oneOf(['0', '-0', '12', '-3.25', '1e5', '1E-7', '6.02e+23', '12345678901234567890'], random)
  if (kind === 2) return oneOf(['""', '"\\""', '"\\\\"', '"\\\\\\""', '"{"', '"]},:"', '"\\u00e9\\n"', '"🎈é"'], random)
  if (kind === 3) return JSON.stringify(NAMES[Math.floor(random() * NAMES.length)])
  if (kind === 4) return oneOf(['[]', '{}', '[[],{}]', '{"a":[]}'], random)
  if (kind === 5) {
    const items = Array.from({ length: Math.floor(random() * 4) }, () => randomText(random, depth + 1))
    return `[${items.join(`${space(random)},${space(random)}`)}]`
  }
  return randomObjectText(random, depth).trim()
}

function space(random: Random): string {
  return random() < 0.75 ? '' : oneOf([' ', '\n', '\t', '\r\n', '  '], random)
}

function escapeAll(name: string): string {
  const units = Array.from({ length: name.length }, (_, at) => name.charCodeAt(at).toString(16).padStart(4, '0'))
  return `"${units.map((unit) => `\\u${unit}`).join('')}"`
}

function mutate(text: string, random: Random): string {
  let mutated = text
  for (let count = Math.floor(random() * 3); count >= 0; count -= 1) {
    const at = Math.floor(random() * (mutated.length + 1))
    const kind = random()
    const piece = oneOf(
      ['{', '}', '[', ']', ',', ':', '"', '\\', ' ', '0', '-', '.', 'e', 't', 'é', '\0', '\n', 'null'],
      random,
    )
    if (kind < 0.4) mutated = mutated.slice(0, at) + mutated.slice(at + 1)
    else if (kind < 0.8) mutated = mutated.slice(0, at) + piece + mutated.slice(at)
    else mutated = mutated.slice(0, at) + piece + mutated.slice(at + 1)
  }
  return mutated
}

function* everyChunking(bytes: Buffer, random: Random): Generator<Buffer[]> {
  for (const size of [1, 2, 3, 7, 64]) {
    const chunks: Buffer[] = []
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
    yield chunks
  }
  for (let round = 0; round < 3; round += 1) yield pieces(bytes, random)
}

/** Random pieces, some of them empty. */
function pieces(bytes: Buffer, random: Random): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const size = Math.floor(random() ** 2 * 40)
    chunks.push(bytes.subarray(at, at + size))
    at += size
  }
  return chunks
}
