import type { IncomingMessage } from 'node:http'
import { AppError } from '../errors.ts'
import { bodyTooLarge } from './payload.ts'

/** What the headers already say is refused before the body is read. */
export function refuseBodyByHeaders(request: IncomingMessage, bytesMax: number): void {
  refuseCompressed(request)
  if (!/^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw new AppError('unsupported_media_type', 'The body must be JSON: send "Content-Type: application/json".', {
      param: 'content-type',
    })
  }
  if (Number(request.headers['content-length']) > bytesMax) throw bodyTooLarge(bytesMax)
}

export function refuseFormByHeaders(request: IncomingMessage, boundary: string | undefined, bytesMax: number): void {
  refuseCompressed(request)
  if (boundary === undefined) {
    throw new AppError(
      'unsupported_media_type',
      'The body must be a form: send "Content-Type: multipart/form-data" with its boundary and nothing else.',
      { param: 'content-type' },
    )
  }
  if (Number(request.headers['content-length']) > bytesMax) throw bodyTooLarge(bytesMax)
}

function refuseCompressed({ headers }: IncomingMessage): void {
  const encoding = headers['content-encoding']
  if (encoding === undefined || encoding.toLowerCase() === 'identity') return
  throw new AppError('unsupported_media_type', 'Compressed request bodies are not accepted: send it as it is.', {
    param: 'content-encoding',
  })
}
