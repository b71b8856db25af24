import type { IncomingMessage, ServerResponse } from 'node:http'
import { type AppError, toErrorBody } from '../errors.ts'

/** Answers with an error of our own, in the one shape; a body that is still arriving is not waited for. */
export function refuse(request: IncomingMessage, response: ServerResponse, error: AppError): void {
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  response.setHeader('content-type', 'application/json')
  if (error.status === 401) response.setHeader('www-authenticate', 'Bearer')
  if (error.status === 426) response.setHeader('upgrade', 'HTTP/1.1')
  if (error.retryAfterSeconds !== undefined) response.setHeader('retry-after', String(error.retryAfterSeconds))
  const isBodyPending = !request.complete
  if (isBodyPending) response.setHeader('connection', 'close')
  response.statusCode = error.status
  response.end(JSON.stringify(toErrorBody(error)))
  if (isBodyPending) linger(request)
}

/**
 * Reads on for a moment after an early answer: closing at once would reset the connection, and with it the answer that the client
 * has not read yet (RFC 9112, section 9.6).
 */
export function linger(request: IncomingMessage): void {
  const { socket } = request
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > LINGER_BYTES) socket.destroy()
  })
  request.on('error', () => {})
  socket.once('close', () => clearTimeout(timer))
  request.resume()
}

const LINGER_MS = 2000
/** More than socket buffers hold, so that a client that reads as it writes gets its answer. */
const LINGER_BYTES = 8 * 1024 * 1024
