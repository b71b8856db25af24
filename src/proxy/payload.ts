import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { AppError } from '../errors.ts'
import { type JsonField, JsonFields } from './json-fields.ts'

/** A request's body: the caller's own bytes, and the few fields of it that the proxy reads. */
export interface Payload {
  bytes: Buffer
  /** Where the fields of the outer object stand. */
  fields: ReadonlyMap<string, JsonField>
  model: string | null
  isStream: boolean
  isBackground: boolean
  previousResponseId: string | undefined
  conversationId: string | undefined
}

/**
 * Reads a JSON body while it arrives, so that a large one never holds up the event loop at once.
 * @throws {AppError} `body_too_large`, or `invalid_json` for anything but one object without repeated fields: what is checked
 * here must be what OpenAI reads.
 */
export async function readPayload(request: IncomingMessage, bytesMax: number): Promise<Payload> {
  const json = new JsonFields({ wanted: WANTED })
  const chunks: Buffer[] = []
  let length = 0
  try {
    // Leaving the loop early must not destroy the socket that the refusal goes out on.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > bytesMax) throw bodyTooLarge(bytesMax)
      chunks.push(chunk)
      json.push(chunk)
    }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('invalid_request', 'The request ended before its body did.')
  }
  const bytes = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks, length)
  if (!json.isComplete || !isUtf8(bytes)) {
    throw new AppError('invalid_json', 'The body is not a valid JSON object in UTF-8.')
  }
  if (json.duplicates[0] !== undefined) {
    throw new AppError('invalid_json', 'The body has the same field more than once.', {
      param: json.duplicates[0].slice(0, 64),
    })
  }
  return {
    bytes,
    fields: json.fields,
    model: readText(json, 'model') ?? null,
    isStream: json.value('stream') === true,
    isBackground: json.value('background') === true,
    previousResponseId: readText(json, 'previous_response_id'),
    conversationId: readConversation(json),
  }
}

export function bodyTooLarge(bytesMax: number): AppError {
  return new AppError('body_too_large', `The body is larger than the ${bytesMax} bytes this proxy accepts.`)
}

const WANTED = ['model', 'stream', 'background', 'previous_response_id', 'conversation']

/** A text, or undefined when absent or null; anything else is refused rather than passed on unchecked. */
function readText(json: JsonFields, name: string): string | undefined {
  const value = readField(json, name)
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string') throw wrongType(name, 'a string')
  return value
}

/** `conversation` is an id, or an object that holds one. */
function readConversation(json: JsonFields): string | undefined {
  const value = readField(json, 'conversation')
  if (value === undefined || value === null) return undefined
  if (typeof value === 'string') return value
  const id = typeof value === 'object' && 'id' in value ? value.id : undefined
  if (typeof id !== 'string') throw wrongType('conversation', 'an id or an object with an id')
  return id
}

function readField(json: JsonFields, name: string): unknown {
  const field = json.fields.get(name)
  if (!field) return undefined
  const value = json.value(name)
  // Too long to have been kept, or a string with a broken escape.
  if (value === undefined) throw wrongType(name, 'valid and of a sensible length')
  return value
}

function wrongType(name: string, expected: string): AppError {
  return new AppError('invalid_request', `"${name}" must be ${expected}.`, { param: name })
}
