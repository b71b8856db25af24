import type { IncomingMessage } from 'node:http'
import { AppError } from '../errors.ts'

/**
 * A body read whole, for what is administered and small.
 * @throws {AppError} `body_too_large` as soon as it is, or `invalid_request` when the client goes before its end.
 */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  if (Number(request.headers['content-length']) > bytesMax) throw tooLarge(bytesMax)
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    // Leaving the loop early must not destroy the socket that the refusal goes out on.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > bytesMax) throw tooLarge(bytesMax)
      chunks.push(chunk)
    }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('invalid_request', 'The request ended before its body did.')
  }
  return Buffer.concat(chunks, bytes)
}

function tooLarge(bytesMax: number): AppError {
  return new AppError('body_too_large', `The body is larger than the ${bytesMax} bytes accepted here.`)
}
