import type { IncomingMessage } from 'node:http'
import type { WebSocket } from 'ws'
import { AppError } from '../errors.ts'
import { refusalFor, upstreamFault } from './upstream.ts'
import { isRecord } from './watchers/answer-fields.ts'

/** OpenAI's own answer to whoever asked for a WebSocket and got none. */
export class UpstreamRefusal extends Error {
  readonly status: number
  /** OpenAI's error object. */
  readonly error: object

  constructor(status: number, error: object) {
    super(`OpenAI answered ${status} when a WebSocket was asked for.`)
    this.status = status
    this.error = error
  }
}

/**
 * Resolves when a socket is open, with OpenAI's id of the request.
 * @throws {AppError | UpstreamRefusal} when it cannot be had.
 */
export function opened(socket: WebSocket): Promise<string | null> {
  let requestId: string | null = null
  return new Promise((resolve, reject) => {
    socket.once('upgrade', ({ headers }) => {
      requestId = [headers['x-request-id']].flat()[0] ?? null
    })
    socket.once('open', () => resolve(requestId))
    socket.once('error', (error) => reject(upstreamFault(error)))
    socket.once('unexpected-response', (request, response) => {
      readRefusal(response)
        .then(reject, () => reject(unreadable(response)))
        .finally(() => request.destroy())
    })
  })
}

async function readRefusal(response: IncomingMessage): Promise<Error> {
  const status = response.statusCode ?? 0
  const refusal = refusalFor(status)
  if (refusal) return refusal
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of response as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > REFUSAL_BYTES_MAX) return unreadable(response)
    pieces.push(piece)
  }
  const body: unknown = JSON.parse(Buffer.concat(pieces).toString())
  const error = isRecord(body) ? body.error : undefined
  return isRecord(error) && status >= 400 ? new UpstreamRefusal(status, error) : unreadable(response)
}

function unreadable({ statusCode }: IncomingMessage): AppError {
  return new AppError('upstream_unreachable', `OpenAI answered ${statusCode} when a WebSocket was asked for.`)
}

const REFUSAL_BYTES_MAX = 64 * 1024
