/** A WebSocket as a client has it, for tests that look at every frame. */
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { type ClientOptions, WebSocket } from 'ws'
import type { TestOrganization } from './harness.ts'

export type Frame = Record<string, unknown> & {
  type: string
  status?: number
  stream_id?: string
  response?: { id: string; status: string; model: string; instructions: unknown; previous_response_id: string | null }
  error?: { type: string; code: string; message: string; param: string | null }
}

export interface SocketClient extends Disposable {
  socket: WebSocket
  /** The headers of the answer to the upgrade. */
  headers: IncomingMessage['headers']
  send(frame: unknown): void
  /** Every frame so far, as it came. */
  received: string[]
  /** Takes frames up to one of a type, or of several, in a lane if one is named; fails when the socket closes first. */
  until(types: string | string[], streamId?: string): Promise<Frame[]>
  /** The code it is closed with. */
  closed: Promise<number>
}

/** @param url of the proxy. */
export async function connectSocket(url: string, organization: TestOrganization, options: Options = {}) {
  const socket = openSocket(url, organization, options)
  const received: string[] = []
  const waiting: Frame[] = []
  let arrived = () => {}
  let isClosed = false
  let headers: IncomingMessage['headers'] = {}
  socket.on('upgrade', (answer) => {
    headers = answer.headers
  })
  socket.on('message', (data) => {
    received.push(String(data))
    waiting.push(JSON.parse(String(data)))
    arrived()
  })
  socket.on('error', () => {})
  const closed = once(socket, 'close').then(([code]) => {
    isClosed = true
    arrived()
    return code as number
  })
  await once(socket, 'open')
  const client: SocketClient = {
    socket,
    headers,
    received,
    closed,
    send: (frame) => socket.send(typeof frame === 'string' || Buffer.isBuffer(frame) ? frame : JSON.stringify(frame)),
    async until(types, streamId) {
      const isWanted = ({ type, stream_id }: Frame) =>
        [types].flat().includes(type) && (!streamId || stream_id === streamId)
      for (;;) {
        const index = waiting.findIndex(isWanted)
        if (index >= 0) return waiting.splice(0, index + 1)
        if (isClosed) throw new Error(`closed before ${types}: ${received.slice(-3).join('\n')}`)
        await new Promise<void>((resolve) => {
          arrived = resolve
        })
      }
    },
    [Symbol.dispose]: () => socket.terminate(),
  }
  return client
}

/** The answer to an upgrade: an error where it is refused, 101 where it is not. */
export async function refusalOf(url: string, organization: TestOrganization, options: Options = {}) {
  const socket = openSocket(url, organization, options)
  socket.on('error', () => {})
  const opened = once(socket, 'upgrade').then(([answer]) => answer as IncomingMessage)
  const refused = once(socket, 'unexpected-response').then(([, answer]) => answer as IncomingMessage)
  const answer = await Promise.race([opened, refused])
  const body = answer.statusCode === 101 ? undefined : JSON.parse(await text(answer))
  socket.terminate()
  return { status: answer.statusCode, headers: answer.headers, error: body?.error as Frame['error'] }
}

interface Options extends ClientOptions {
  path?: string
  token?: string
  userId?: string | null
}

function openSocket(
  url: string,
  { token: own }: TestOrganization,
  { path = '/v1/responses', token = own, userId = 'alice', headers, ...options }: Options,
): WebSocket {
  return new WebSocket(`${url.replace('http', 'ws')}${path}`, {
    headers: { authorization: `Bearer ${token}`, ...(userId === null ? {} : { 'x-user-id': userId }), ...headers },
    perMessageDeflate: false,
    ...options,
  })
}
