import { connect, type Socket } from 'node:net'

/** One kept-alive connection that makes one call after the other, as cheaply as a load generator should. */
export interface WireClient {
  /** @returns the whole answer's status; its body's pieces go to `onData`, if given. */
  call(request: Buffer, onData?: (piece: Buffer) => void): Promise<number>
  close(): void
}

export function connectWire(port: number): Promise<WireClient> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(wireClient(socket))
    })
  })
}

function wireClient(socket: Socket): WireClient {
  let current: Call | undefined
  const fail = (error: Error) => {
    current?.reject(error)
    current = undefined
  }
  socket.on('error', fail)
  socket.on('close', () => fail(new Error('The connection was closed in the middle of an answer.')))
  socket.on('data', (piece: Buffer) => {
    if (!current?.push(piece)) return
    const done = current
    current = undefined
    done.resolve(done.status)
  })
  return {
    call(request, onData) {
      return new Promise((resolve, reject) => {
        current = new Call(resolve, reject, onData)
        socket.write(request)
      })
    },
    close: () => socket.destroy(),
  }
}

/** An answer's framing (RFC 9112), read no further than to know its end. */
class Call {
  status = 0
  readonly resolve: (status: number) => void
  readonly reject: (error: Error) => void
  readonly #onData: ((piece: Buffer) => void) | undefined
  #head: Buffer = EMPTY
  #left = -1
  #isChunked = false
  #tail = ''

  constructor(resolve: (status: number) => void, reject: (error: Error) => void, onData?: (piece: Buffer) => void) {
    this.resolve = resolve
    this.reject = reject
    this.#onData = onData
  }

  /** @returns true at the end of the answer. */
  push(piece: Buffer): boolean {
    if (this.status !== 0) return this.#body(piece)
    this.#head = this.#head.length === 0 ? piece : Buffer.concat([this.#head, piece])
    const end = this.#head.indexOf('\r\n\r\n')
    if (end === -1) return false
    const text = this.#head.toString('latin1', 0, end)
    this.status = Number(text.slice(9, 12))
    const length = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1]
    this.#isChunked = length === undefined
    this.#left = Number(length ?? 0)
    return this.#body(this.#head.subarray(end + 4))
  }

  #body(piece: Buffer): boolean {
    if (piece.length > 0) this.#onData?.(piece)
    if (!this.#isChunked) {
      this.#left -= piece.length
      return this.#left <= 0
    }
    this.#tail =
      piece.length >= 7 ? piece.toString('latin1', piece.length - 7) : (this.#tail + piece.toString('latin1')).slice(-7)
    return this.#tail.endsWith('\r\n0\r\n\r\n') || this.#tail === '0\r\n\r\n'
  }
}

const EMPTY = Buffer.alloc(0)
