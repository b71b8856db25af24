/** An OpenAI that a test writes itself, for what the simulated one would never do: it shows what it was sent. */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setImmediate as nextTurn } from 'node:timers/promises'

export interface UpstreamCall {
  method: string
  path: string
  /** The parsed body; undefined when there was none. */
  body: Record<string, unknown> | undefined
  raw: string
  headers: IncomingMessage['headers']
}

export interface UpstreamAnswer {
  status?: number
  contentType?: string
  headers?: Record<string, string>
  /** Each piece is sent by itself. */
  pieces: readonly Buffer[]
}

export interface UpstreamDouble {
  url: string
  calls: UpstreamCall[]
  [Symbol.asyncDispose](): Promise<void>
}

export async function startUpstreamDouble(answer: (call: UpstreamCall) => UpstreamAnswer): Promise<UpstreamDouble> {
  const calls: UpstreamCall[] = []
  const server = createServer(async (request, response) => {
    const raw = (await buffer(request)).toString()
    const body = raw === '' ? undefined : JSON.parse(raw)
    const call = { method: request.method ?? '', path: request.url ?? '', body, raw, headers: request.headers }
    calls.push(call)
    const { status = 200, contentType = 'application/json', headers, pieces } = answer(call)
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
    const isStream = contentType === 'text/event-stream'
    response.writeHead(status, {
      'content-type': contentType,
      ...(!isStream && { 'content-length': length }),
      ...headers,
    })
    for (const piece of pieces) {
      response.write(piece)
      await nextTurn()
    }
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    calls,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
