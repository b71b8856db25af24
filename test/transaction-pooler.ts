import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from 'node:net'

/**
 * What stands between clients and Postgres as a pooler in transaction mode: a client has a connection of the database for the length
 * of one transaction, and for the next one another. What relies on a session (a setting, a listener, a lock, a prepared statement)
 * does not survive that. The database has to let its user in without a password.
 * @see https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
export interface TransactionPooler {
  port: number
  /** Transactions that went through so far, by connection of the database. */
  readonly transactions: readonly number[]
  [Symbol.asyncDispose](): Promise<void>
}

export async function startTransactionPooler(
  target: NetConnectOpts,
  login: { user: string; database: string },
  size: number,
): Promise<TransactionPooler> {
  const backends = await Promise.all(Array.from({ length: size }, () => openBackend(target, login)))
  const transactions = backends.map(() => 0)
  const free = [...backends]
  const waiting: (() => void)[] = []
  const clients = new Set<Socket>()

  /** The one that has rested longest: two transactions of a client on end are on two connections. */
  async function take(): Promise<Backend> {
    for (;;) {
      const backend = free.shift()
      if (backend) return backend
      await new Promise<void>((resolve) => waiting.push(resolve))
    }
  }

  function give(backend: Backend): void {
    transactions[backends.indexOf(backend)] = (transactions[backends.indexOf(backend)] ?? 0) + 1
    free.push(backend)
    waiting.shift()?.()
  }

  async function serveClient(client: Socket): Promise<void> {
    let backend: Backend | undefined
    let isStarted = false
    const messages = new Messages(client)
    for await (const message of messages.read(() => !isStarted)) {
      if (!isStarted) {
        // A request for TLS is declined; the start is answered as one of the connections was.
        if (message.readInt32BE(4) === SSL_REQUEST) {
          client.write('N')
          continue
        }
        isStarted = true
        client.write(backends[0]?.greeting ?? Buffer.alloc(0))
        continue
      }
      if (message[0] === TERMINATE) break
      if (!backend) {
        const taken = await take()
        backend = taken
        taken.onMessage = (answer) => {
          client.write(answer)
          // ReadyForQuery, with nothing open: the transaction is over.
          if (answer[0] === READY && answer[5] === IDLE) {
            backend = undefined
            taken.onMessage = undefined
            give(taken)
          }
        }
      }
      backend.socket.write(message)
    }
    client.destroy()
  }

  const server = createServer((client) => {
    clients.add(client)
    client.on('error', () => {})
    client.on('close', () => clients.delete(client))
    serveClient(client).catch(() => client.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    transactions,
    async [Symbol.asyncDispose]() {
      for (const socket of [...clients, ...backends.map((backend) => backend.socket)]) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

interface Backend {
  socket: Socket
  /** What it said until it was ready for the first time. */
  greeting: Buffer
  onMessage: ((message: Buffer) => void) | undefined
}

const SSL_REQUEST = 80_877_103
const PROTOCOL_3 = 196_608
const TERMINATE = 'X'.charCodeAt(0)
const READY = 'Z'.charCodeAt(0)
const IDLE = 'I'.charCodeAt(0)

async function openBackend(
  target: NetConnectOpts,
  { user, database }: { user: string; database: string },
): Promise<Backend> {
  const socket = connect(target)
  socket.on('error', () => {})
  const parameters = Buffer.from(`user\0${user}\0database\0${database}\0\0`)
  const start = Buffer.alloc(8)
  start.writeInt32BE(8 + parameters.length, 0)
  start.writeInt32BE(PROTOCOL_3, 4)
  socket.write(Buffer.concat([start, parameters]))
  const greeting: Buffer[] = []
  const ready = Promise.withResolvers<void>()
  const backend: Backend = { socket, greeting: Buffer.alloc(0), onMessage: undefined }
  backend.onMessage = (message) => {
    greeting.push(message)
    if (message[0] === READY) ready.resolve()
  }
  const messages = new Messages(socket)
  void (async () => {
    for await (const message of messages.read(() => false)) backend.onMessage?.(message)
  })().catch(() => {})
  await ready.promise
  return Object.assign(backend, { greeting: Buffer.concat(greeting), onMessage: undefined })
}

/** The messages on a connection: a type and a length, but for the first of a client, which have no type. */
class Messages {
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.#socket = socket
  }

  async *read(isUntyped: () => boolean): AsyncGenerator<Buffer> {
    let rest: Buffer = Buffer.alloc(0)
    for await (const chunk of this.#socket as AsyncIterable<Buffer>) {
      rest = Buffer.concat([rest, chunk])
      for (;;) {
        const typeBytes = isUntyped() ? 0 : 1
        if (rest.length < typeBytes + 4) break
        const end = typeBytes + rest.readInt32BE(typeBytes)
        if (rest.length < end) break
        yield rest.subarray(0, end)
        rest = rest.subarray(end)
      }
    }
  }
}
