import { ApiError } from './api-error.ts'
import type { Call } from './call.ts'

const BODY_BYTES_MAX = 512 * 1024 * 1024

/**
 * The whole body, byte for byte; what had come so far when the client went.
 * @throws ApiError 413 above 512 MiB.
 */
export function readBody(call: Call): Promise<Buffer<ArrayBuffer>> {
  const { request } = call
  return new Promise((resolve, reject) => {
    const chunks: Buffer<ArrayBuffer>[] = []
    let bytes = 0
    const done = () => resolve(chunks.length === 1 ? (chunks[0] as Buffer<ArrayBuffer>) : Buffer.concat(chunks))
    call.wake = done
    request.on('data', (chunk: Buffer<ArrayBuffer>) => {
      bytes += chunk.length
      if (bytes <= BODY_BYTES_MAX) chunks.push(chunk)
      else reject(new ApiError(413, 'The request body is too large.', { code: 'request_too_large' }))
    })
    request.on('end', done)
  })
}

/** The JSON object a body is, or undefined if it is none. */
export function parseBody(raw: Buffer): Record<string, unknown> | undefined {
  if (raw.length === 0) return undefined
  try {
    const value: unknown = JSON.parse(raw.toString('utf8'))
    return typeof value === 'object' && !Array.isArray(value)
      ? ((value ?? undefined) as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}

export function notJson(): ApiError {
  return new ApiError(
    400,
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library " +
      'correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)',
  )
}

/** @throws ApiError 400 when there is no model, or it is not a string. */
export function modelOf(body: Record<string, unknown>): string {
  const { model } = body
  if (typeof model === 'string' && model !== '') return model
  if (model === undefined || model === null || model === '') {
    throw new ApiError(400, "Missing required parameter: 'model'.", {
      param: 'model',
      code: 'missing_required_parameter',
    })
  }
  throw new ApiError(400, `Invalid type for 'model': expected a string, but got ${typeof model} instead.`, {
    param: 'model',
    code: 'invalid_type',
  })
}
