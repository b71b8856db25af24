import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SseWatcher } from './sse.ts'

/** One of everything that may come, in lines that every line ending is put between. */
const GOLDEN = [
  ': a comment',
  'event: response.created',
  'data: {"type":"response.created","n":"é🎈"}',
  '',
  '',
  'event:a.delta',
  'data:{"type":"a.delta","delta":"x"}',
  '',
  'data: {"n":',
  'data: 2}',
  'id: 7',
  'event: late',
  '',
  'data: {"type":"b.delta"}',
  '',
  'retry: 5',
  ': ping',
  '',
  'data: [DONE]',
  '',
  '',
]
const EXPECTED = {
  events: [
    ['response.created', 'é🎈'],
    ['late', 2],
    ['', undefined],
  ],
  deltaCount: 2,
  eventCount: 5,
}

for (const [name, newline] of [
  ['LF', '\n'],
  ['CRLF', '\r\n'],
  ['CR', '\r'],
] as const) {
  test(`a stream with ${name} gives the same events at every cut and every pair of cuts, with and without a BOM`, () => {
    for (const bom of ['', '\ufeff']) {
      const bytes = Buffer.from(bom + GOLDEN.join(newline))
      const whole = watch([bytes])
      assert.deepEqual(summary(whole), EXPECTED)
      for (let one = 0; one <= bytes.length; one += 1) {
        for (let two = one; two <= bytes.length; two += 1) {
          const cut = watch([bytes.subarray(0, one), bytes.subarray(one, two), bytes.subarray(two)])
          assert.deepEqual(cut, whole, `cut at ${one} and ${two}`)
        }
      }
      assert.deepEqual(watch([...bytes].map((byte) => Buffer.of(byte))), whole, 'byte by byte')
    }
  })

  test(`with ${name}, wherever it says that it is between two events, one can be put in and is read as one`, () => {
    const text = GOLDEN.join(newline)
    const bytes = Buffer.from(text)
    const between: number[] = []
    for (let at = 0; at <= bytes.length; at += 1) {
      const watcher = new SseWatcher({ fields: [], descend: [] }, () => {})
      watcher.push(bytes.subarray(0, at))
      if (!watcher.isBetweenEvents) continue
      between.push(at)
      const before = referenceEvents(bytes.subarray(0, at).toString())
      const inserted = referenceEvents(`${bytes.subarray(0, at)}event: error\ndata: {"type":"error"}\n\n`)
      assert.deepEqual(inserted, [...before, { type: 'error', data: '{"type":"error"}' }], `at ${at}`)
      assert.equal(watcher.eventCount, before.length, `at ${at}`)
    }
    for (const end of endsOfEvents(text, newline)) assert.ok(between.includes(end), `the end of an event at ${end}`)
    assert.ok(between.includes(0))
  })
}

test('line endings may change from line to line', () => {
  const bytes = Buffer.from('event: x\r\ndata: {"n":1}\n\revent: y\rdata: {"n":2}\r\n\ndata: {"n":3}\n\r\n')
  const events = [
    ['x', 1],
    ['y', 2],
    ['', 3],
  ]
  for (let at = 0; at <= bytes.length; at += 1) {
    assert.deepEqual(watch([bytes.subarray(0, at), bytes.subarray(at)]).events, events, `cut at ${at}`)
  }
})

test('the type that the JSON gives wins over the event line, and either alone will do', () => {
  const typesOf = (text: string) => watch([Buffer.from(text)]).events.map(([type]) => type)
  assert.deepEqual(typesOf('event: a\ndata: {"type":"b"}\n\n'), ['b'])
  assert.deepEqual(typesOf('data: {"type":"b"}\nevent: a\n\n'), ['b'])
  assert.deepEqual(typesOf('data: {"type":"b"}\n\n'), ['b'])
  assert.deepEqual(typesOf('event: a\ndata: {}\n\n'), ['a'])
  assert.deepEqual(typesOf('event: a\ndata: {"type":5}\n\n'), ['a'])
  assert.deepEqual(typesOf('event: a\nevent: b\ndata: {}\n\n'), ['b'])
  assert.deepEqual(typesOf('event: a\n\ndata: {}\n\n'), [''], 'a type does not outlive its event')
})

test('only one space behind the colon is not part of the value', () => {
  const typesOf = (text: string) => watch([Buffer.from(text)]).events.map(([type]) => type)
  assert.deepEqual(typesOf('event:a\ndata:{}\n\n'), ['a'])
  assert.deepEqual(typesOf('event:  a\ndata:  {}\n\n'), [' a'])
  assert.deepEqual(typesOf('events: a\ndata: {}\n\n'), [''])
  assert.deepEqual(typesOf(' event: a\ndata: {}\n\n'), [''])
  assert.deepEqual(typesOf('\ufeff\ufeffevent: a\ndata: {}\n\n'), [''], 'only one BOM, only at the beginning')
  assert.deepEqual(typesOf('data: {}\n\n\ufeffevent: a\ndata: {}\n\n'), ['', ''])
})

test('deltas are counted, and never parsed when their event line says what they are', () => {
  const events: string[] = []
  const watcher = new SseWatcher({ fields: ['type'], descend: [] }, ({ type }) => events.push(type))
  const delta = `{"type":"response.output_text.delta","delta":"${'x'.repeat(100)}"}`
  watcher.push(Buffer.from(`event: response.output_text.delta\ndata:${delta}\n\n`))
  watcher.push(Buffer.from('event: a.delta\ndata:this is no JSON\n\n'))
  assert.deepEqual(events, [])
  assert.equal(watcher.deltaCount, 2)
})

test('an event that was cut off is none; one whose data came whole counts when the bytes are over', () => {
  const eventsAtEnd = (text: string) => watch([Buffer.from(text)], { isFinished: true }).events.map(([type]) => type)
  assert.deepEqual(eventsAtEnd('data: {"type":"a"}\n'), ['a'])
  assert.deepEqual(eventsAtEnd('data: {"type":"a"}'), ['a'])
  assert.deepEqual(eventsAtEnd('event: a\ndata: {"n":1}'), ['a'])
  assert.deepEqual(eventsAtEnd('data: {"type":"a"}\n\n'), ['a'], 'and only once')
  assert.deepEqual(eventsAtEnd('data: {"type":"a"'), [])
  assert.deepEqual(eventsAtEnd('event: a\n'), [])
  assert.deepEqual(watch([Buffer.from('data: {"type":"a"}\n')]).events, [])
})

test('endless lines, names and events hold no memory', () => {
  const watcher = new SseWatcher({ fields: ['type', 'n'], descend: [] }, () => {})
  const block = Buffer.alloc(65_536, 'x')
  const before = process.memoryUsage().rss
  for (const start of ['data: {"delta":"', '\n\nevent: ', '\n\n: ', '\n\nid', '\n\ndata: {"n":"', '\n\n']) {
    watcher.push(Buffer.from(start))
    for (let round = 0; round < 400; round += 1) watcher.push(block)
  }
  assert.ok(process.memoryUsage().rss - before < 24 * 1024 * 1024)
})

interface Watched {
  events: [string, unknown][]
  deltaCount: number
  eventCount: number
  isBetweenEvents: boolean
}

function watch(chunks: Buffer[], { isFinished = false } = {}): Watched {
  const events: [string, unknown][] = []
  const watcher = new SseWatcher({ fields: ['type', 'n'], descend: [] }, ({ type, json }) =>
    events.push([type, json.value('n')]),
  )
  for (const chunk of chunks) watcher.push(chunk)
  if (isFinished) watcher.finish()
  const { deltaCount, eventCount, isBetweenEvents } = watcher
  return { events, deltaCount, eventCount, isBetweenEvents }
}

function summary({ events, deltaCount, eventCount }: Watched) {
  return { events, deltaCount, eventCount }
}

/** The standard's own algorithm, line by line, over the whole text (WHATWG HTML, section 9.2.6). */
function referenceEvents(text: string): { type: string; data: string }[] {
  const events: { type: string; data: string }[] = []
  let [type, data, hasData] = ['', '', false]
  const lines = text.replace(/^\ufeff/, '').split(/\r\n|\r|\n/)
  // What stands behind the last line ending is no line yet.
  for (const line of lines.slice(0, -1)) {
    if (line === '') {
      if (hasData) events.push({ type, data })
      ;[type, data, hasData] = ['', '', false]
      continue
    }
    const colon = line.indexOf(':')
    const field = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') type = value
    if (field === 'data') [data, hasData] = [hasData ? `${data}\n${value}` : value, true]
  }
  return events
}

/** Byte offsets behind the blank line of each event. */
function endsOfEvents(text: string, newline: string): number[] {
  const ends: number[] = []
  for (let at = text.indexOf(newline + newline); at !== -1; at = text.indexOf(newline + newline, at + 1)) {
    ends.push(Buffer.byteLength(text.slice(0, at + 2 * newline.length)))
  }
  return ends
}
