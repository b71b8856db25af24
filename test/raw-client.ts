/** HTTP/1.1 by hand, for tests in which the framing itself is what matters. */
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface RawAnswer {
  status: number
  /** Names in lower case; repeated ones joined by `, `. */
  headers: Record<string, string>
  body: Buffer
}

/** Sends bytes and returns every answer that comes until the server closes the connection. */
export async function sendRaw(port: number, ...pieces: (string | Buffer)[]): Promise<RawAnswer[]> {
  return parseAnswers(await readToEnd(await openRaw(port, ...pieces)))
}

/** A connection on which these bytes have been written, kept open. */
export async function openRaw(port: number, ...pieces: (string | Buffer)[]): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  // A reset is one of the ways to be refused; whoever reads sees what came before it.
  socket.on('error', () => {})
  for (const piece of pieces) socket.write(typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece)
  return socket
}

/** Everything up to the end of the connection, however it ends. */
export function readToEnd(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  return new Promise((resolve) => {
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.on('close', () => resolve(Buffer.concat(chunks)))
  })
}

/** Reads until the text has come. */
export function readUntil(socket: Socket, text: string): Promise<string> {
  let seen = ''
  return new Promise((resolve, reject) => {
    socket.on('data', onData)
    socket.once('close', () => reject(new Error(`The connection closed before ${JSON.stringify(text)} came: ${seen}`)))
    function onData(chunk: Buffer): void {
      seen += chunk.toString('latin1')
      if (!seen.includes(text)) return
      socket.off('data', onData)
      resolve(seen)
    }
  })
}

/** The head of a request, `Connection: close` included so that its answer is the last. */
export function rawHead(
  requestLine: string,
  headers: Record<string, string | number | (string | number)[] | undefined>,
): string {
  const lines = [`${requestLine} HTTP/1.1`]
  for (const [name, values] of Object.entries({ Host: 'proxy', Connection: 'close', ...headers })) {
    for (const value of Array.isArray(values) ? values : [values]) {
      if (value !== undefined) lines.push(`${name}: ${value}`)
    }
  }
  return `${lines.join('\r\n')}\r\n\r\n`
}

/** The answers in a connection's bytes, `100 Continue` left out; only the last may lack a length. */
export function parseAnswers(bytes: Buffer): RawAnswer[] {
  const answers: RawAnswer[] = []
  let rest = bytes
  while (rest.length > 0) {
    const headEnd = rest.indexOf('\r\n\r\n')
    assert.ok(headEnd > 0, `This is no answer: ${rest.toString('latin1').slice(0, 200)}`)
    const [statusLine = '', ...lines] = rest.toString('latin1', 0, headEnd).split('\r\n')
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1])
    assert.ok(status >= 100, `This is no status line: ${statusLine}`)
    const headers: Record<string, string> = {}
    for (const line of lines) {
      const colon = line.indexOf(':')
      const name = line.slice(0, colon).toLowerCase()
      const value = line.slice(colon + 1).trim()
      headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
    }
    rest = rest.subarray(headEnd + 4)
    if (status < 200) continue
    const length = headers['content-length'] === undefined ? rest.length : Number(headers['content-length'])
    answers.push({ status, headers, body: rest.subarray(0, length) })
    rest = rest.subarray(length)
  }
  return answers
}

/** Asks again until the condition holds; fails with the description after the time is up. */
export async function until(
  description: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `Not within ${timeoutMs} ms: ${description}`)
    await sleep(5)
  }
}
