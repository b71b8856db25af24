/** Forms pass through: at the pace of who takes them, never held, broken off when they may not go on. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { startSystem } from './harness.ts'
import { openRaw, parseAnswers, rawHead, readToEnd, until } from './raw-client.ts'

/** What OpenAI does with the next form. */
let onForm: (request: IncomingMessage, response: ServerResponse) => void = () => {}
const upstream = createServer((request, response) => onForm(request, response))
await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
after(() => upstream.close())
const system = await startSystem({
  OPENAI_API_BASE_URL: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}/v1`,
  MAX_UPLOAD_BYTES: String(100 * 1024 * 1024),
})
const { port } = system.server
const MEBIBYTE = 1024 * 1024

async function headOf(path: string, bytes: number): Promise<string> {
  const organization = await system.organization()
  return rawHead(`POST ${path}`, {
    Authorization: `Bearer ${organization.token}`,
    'X-User-ID': 'alice',
    'Content-Type': 'multipart/form-data; boundary=boundary-7f3a9c',
    'Content-Length': bytes,
  })
}

const START = '--boundary-7f3a9c\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
const END = '\r\n--boundary-7f3a9c--\r\n'

test('a form waits where OpenAI does not take it, and arrives whole when it does', async () => {
  const content = randomBytes(64 * MEBIBYTE)
  const whole = Buffer.concat([Buffer.from(START), content, Buffer.from(END)])
  const taken = Promise.withResolvers<IncomingMessage>()
  const read = createHash('sha256')
  onForm = (request, response) => {
    request.pause()
    taken.resolve(request)
    request.on('data', (chunk: Buffer) => read.update(chunk))
    request.pause()
    request.on('end', () => response.end('{"id":"file-1","object":"file"}'))
  }

  const socket = await openRaw(port, await headOf('/v1/files', whole.length))
  const answer = readToEnd(socket)
  socket.write(whole)
  const request = await taken.promise
  let [before, stillCount] = [-1, 0]
  // It has come to rest when nothing more leaves, time after time.
  await until('nothing more is taken from the client', () => {
    stillCount = socket.writableLength === before ? stillCount + 1 : 0
    before = socket.writableLength
    return stillCount > 50 || before === 0
  })
  const isHeldBack = socket.writableLength > 0
  request.resume()

  assert.equal(parseAnswers(await answer)[0]?.status, 200)
  assert.ok(isHeldBack, 'all of it was taken from the client')
  assert.equal(read.digest('hex'), createHash('sha256').update(whole).digest('hex'))
})

test('when OpenAI answers before it has the whole form, its answer arrives', async () => {
  onForm = (request, response) => {
    request.on('error', () => {})
    response.writeHead(413, { 'content-type': 'application/json' })
    response.end('{"error":{"message":"too large","type":"invalid_request_error","param":null,"code":null}}')
  }
  const bytes = 32 * MEBIBYTE

  const socket = await openRaw(port, await headOf('/v1/files', bytes))
  const answer = readToEnd(socket)
  socket.write(START)
  socket.write(Buffer.alloc(bytes - START.length - END.length))

  const [first] = parseAnswers(await answer)
  assert.equal(first?.status, 413)
  assert.match(first?.body.toString() ?? '', /too large/)
})

test('a form is refused at its limit, with a length and without, and OpenAI never has the whole of it', async () => {
  let wholes = 0
  onForm = (request, response) => {
    request.on('data', () => {})
    request.on('error', () => {})
    request.on('end', () => {
      wholes += 1
      response.end('{"id":"file-1"}')
    })
  }
  const announced = await openRaw(port, await headOf('/v1/files', 101 * MEBIBYTE), START)
  const [first] = parseAnswers(await readToEnd(announced))
  const organization = await system.organization()
  async function* pieces() {
    yield Buffer.from(START)
    for (let mebibytes = 0; mebibytes < 101; mebibytes += 1) yield Buffer.alloc(MEBIBYTE)
    yield Buffer.from(END)
  }
  const second = await organization
    .fetch('/v1/files', {
      method: 'POST',
      headers: { 'content-type': 'multipart/form-data; boundary=boundary-7f3a9c' },
      body: pieces() as unknown as ReadableStream,
      duplex: 'half',
    } as RequestInit)
    .then(({ status }) => status)

  assert.equal(first?.status, 413)
  assert.equal(second, 413)
  assert.equal(wholes, 0)
})

test('a form whose client goes is not finished for it', async () => {
  const ended = Promise.withResolvers<'whole' | 'broken off'>()
  onForm = (request) => {
    request.on('data', () => {})
    request.on('error', () => ended.resolve('broken off'))
    request.on('close', () => ended.resolve(request.complete ? 'whole' : 'broken off'))
  }

  const socket = await openRaw(port, await headOf('/v1/files', 10 * MEBIBYTE), START, Buffer.alloc(2 * MEBIBYTE))
  await until('the form is on its way', () => socket.writableLength === 0)
  socket.destroy()

  assert.equal(await ended.promise, 'broken off')
  await until('nothing is under way any more', () => system.server.context.ledger.pendingCount === 0)
})

test('a sound and the model it is to be written down with are one row, wherever the model stands', async () => {
  onForm = (request, response) => {
    request.resume()
    request.on('end', () => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end('{"text":"hello","usage":{"type":"tokens","input_tokens":5,"output_tokens":2,"total_tokens":7}}')
    })
  }
  for (const [fillerBytes, isModelFirst] of [
    [10, true],
    [10, false],
    [MEBIBYTE, true],
    [MEBIBYTE, false],
  ] as const) {
    const organization = await system.organization()
    const form = new FormData()
    if (isModelFirst) form.set('model', 'gpt-4o-transcribe')
    form.set('file', new Blob([new Uint8Array(fillerBytes)]), 'a.mp3')
    if (!isModelFirst) form.set('model', 'gpt-4o-transcribe')
    const headers = { authorization: `Bearer ${organization.token}`, 'x-user-id': 'alice' }

    const answer = await fetch(`${system.url}/v1/audio/transcriptions`, { method: 'POST', body: form, headers })

    assert.equal(answer.status, 200, await answer.text())
    const rows = await system.query('select * from attempts where organization_id = $1', [organization.id])
    assert.deepEqual(
      rows.map((row) => [row.endpoint, row.model_requested, row.input_tokens, row.output_tokens, row.status]),
      [['audio.transcriptions', 'gpt-4o-transcribe', '5', '2', 'completed']],
    )
  }
})
