import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { AppError } from '../errors.ts'
import { type JsonField, JsonFields } from './json-fields.ts'
import { BodyReferences, type Reference } from './references.ts'

/** A request's body: the caller's own bytes, and the few fields of it that the proxy reads. */
export interface Payload {
  bytes: Buffer
  /** Where the fields of the body stand, for edits. */
  fields: ReadonlyMap<string, JsonField>
  model: string | null
  /** Models that its tools name. */
  toolModels: readonly string[]
  isStream: boolean
  isBackground: boolean
  /** Whether it says that OpenAI is to keep a chat completion. */
  isStored: boolean
  /** Of a batch. */
  inputFileId: string | undefined
  /** Fields that tell OpenAI whom a request is for, as they came. */
  identifiers: ReadonlyMap<Identifier, string>
  /** Every object the body names. */
  references: readonly Reference[]
}

/** Fields by which OpenAI tells end users and their caches apart: all tenants of one key share their values. */
export const IDENTIFIERS = ['prompt_cache_key', 'safety_identifier', 'user'] as const
export type Identifier = (typeof IDENTIFIERS)[number]

/**
 * Reads a JSON body while it arrives, so that a large one never holds up the event loop at once.
 * @throws {AppError} `body_too_large`, or `invalid_json` for anything but one object without repeated fields: what is checked
 * here must be what OpenAI reads.
 * @param hold told of every piece that is kept; may refuse it.
 */
export async function readPayload(
  request: IncomingMessage,
  bytesMax: number,
  hold: (bytes: number) => void,
): Promise<Payload> {
  const reader = new PayloadReader()
  let length = 0
  try {
    // Leaving the loop early must not destroy the socket that the refusal goes out on.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > bytesMax) throw bodyTooLarge(bytesMax)
      hold(chunk.length)
      reader.push(chunk)
    }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('invalid_request', 'The request ended before its body did.')
  }
  return reader.finish()
}

/** One body in JSON, however it comes: the whole of a request, or a line of a batch. */
export class PayloadReader {
  readonly #json = new JsonFields({ wanted: WANTED })
  readonly #named = new BodyReferences()
  readonly #chunks: Buffer[] = []
  #length = 0

  push(chunk: Buffer): void {
    this.#length += chunk.length
    this.#chunks.push(chunk)
    this.#json.push(chunk)
    if (!this.#json.isInvalid) this.#named.push(chunk)
  }

  finish(): Payload {
    const json = this.#json
    const [first] = this.#chunks
    const bytes = this.#chunks.length === 1 && first ? first : Buffer.concat(this.#chunks, this.#length)
    if (!json.isComplete || !isUtf8(bytes)) {
      throw new AppError('invalid_json', 'The body is not a valid JSON object in UTF-8.')
    }
    if (json.duplicates[0] !== undefined) {
      throw new AppError('invalid_json', 'The body has the same field more than once.', {
        param: json.duplicates[0].slice(0, 64),
      })
    }
    readText(json, 'previous_response_id')
    checkConversation(json)
    return {
      bytes,
      fields: json.fields,
      model: readText(json, 'model') ?? this.#named.sessionModel,
      toolModels: this.#named.models,
      isStream: json.value('stream') === true,
      isBackground: json.value('background') === true,
      isStored: json.value('store') === true,
      inputFileId: readText(json, 'input_file_id'),
      identifiers: readIdentifiers(json),
      references: this.#named.references,
    }
  }
}

export function bodyTooLarge(bytesMax: number): AppError {
  return new AppError('body_too_large', `The body is larger than the ${bytesMax} bytes this proxy accepts.`)
}

const WANTED = [
  'model',
  'stream',
  'background',
  'store',
  'stream_options',
  'input_file_id',
  'previous_response_id',
  'conversation',
  ...IDENTIFIERS,
]

/** A text, or undefined when absent or null; anything else is refused rather than passed on unchecked. */
function readText(json: JsonFields, name: string): string | undefined {
  const value = readField(json, name)
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string') throw wrongType(name, 'a string')
  return value
}

/** `conversation` is an id, or an object that holds one. */
function checkConversation(json: JsonFields): void {
  const value = readField(json, 'conversation')
  if (value === undefined || value === null || typeof value === 'string') return
  const id = typeof value === 'object' && 'id' in value ? value.id : undefined
  if (typeof id !== 'string') throw wrongType('conversation', 'an id or an object with an id')
}

function readIdentifiers(json: JsonFields): ReadonlyMap<Identifier, string> {
  const found = new Map<Identifier, string>()
  for (const name of IDENTIFIERS) {
    const value = readText(json, name)
    if (value !== undefined) found.set(name, value)
  }
  return found
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
