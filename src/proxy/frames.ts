import { setImmediate as nextTurn } from 'node:timers/promises'
import { AppError, toErrorBody } from '../errors.ts'
import { JsonFields } from './json-fields.ts'
import { type Payload, PayloadReader } from './payload.ts'
import type { EventJson } from './sse.ts'
import { isRecord, textOf } from './watchers/answer-fields.ts'
import { RESPONSE_EVENT_FIELDS } from './watchers/responses.ts'

/** What a client sends over a WebSocket: the fields of a request's body, and which of several lanes it is for. */
export interface ClientFrame {
  type: string
  streamId: string | undefined
  payload: Payload
}

/** What OpenAI sends over a WebSocket: an event as in a stream. */
export interface ServerFrame {
  type: string
  streamId: string | undefined
  json: EventJson
  /** A piece of text: it says nothing of its response. */
  isDelta: boolean
}

/**
 * Reads a frame, a large one in slices so that it does not hold up the event loop.
 * @throws {AppError} `invalid_json` or `invalid_request`, as for the body of a request.
 */
export async function readClientFrame(bytes: Buffer): Promise<ClientFrame> {
  const reader = new PayloadReader()
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
    if (at > 0) await nextTurn()
    reader.push(bytes.subarray(at, at + SLICE_BYTES))
  }
  const payload = reader.finish()
  const type = readWord(payload, 'type')
  if (type === undefined) throw invalid('type', 'The frame must have a "type", such as response.create.')
  return { type, streamId: readWord(payload, 'stream_id'), payload }
}

/** @returns undefined for what is no event. */
export function readServerFrame(bytes: Buffer): ServerFrame | undefined {
  const json = new JsonFields(EVENT)
  json.push(bytes)
  const type = textOf(json.value('type'))
  if (!json.isComplete || type === null) return undefined
  return { type, streamId: textOf(json.value('stream_id')) ?? undefined, json, isDelta: type.endsWith('.delta') }
}

/** An error of our own in the shape of OpenAI's, so that its SDKs raise it. */
export function errorFrame(error: AppError, streamId: string | undefined): string {
  const { type, code, message, param } = toErrorBody(error).error
  return refusalFrame(error.status, { type, code, message, param }, streamId)
}

/** @param error as OpenAI says it. */
export function refusalFrame(status: number, error: object, streamId: string | undefined): string {
  return JSON.stringify({ type: 'error', status, error, ...(streamId === undefined ? {} : { stream_id: streamId }) })
}

/** The status and the error object of a frame that refuses something; undefined for an error within a stream. */
export function refusalIn({ json }: ServerFrame): { status: number | null; error: object } | undefined {
  const error = json.value('error')
  const status = json.value('status')
  if (!isRecord(error)) return undefined
  return { status: Number.isSafeInteger(status) ? (status as number) : null, error }
}

function readWord({ bytes, fields }: Payload, name: string): string | undefined {
  const field = fields.get(name)
  if (!field) return undefined
  const value =
    field.end - field.start > WORD_BYTES_MAX ? undefined : parse(bytes.toString('utf8', field.start, field.end))
  if (value === null) return undefined
  if (typeof value === 'string' && value !== '') return value
  throw invalid(name, `"${name}" must be a short text.`)
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json) as unknown
  } catch {
    return undefined
  }
}

function invalid(param: string, message: string): AppError {
  return new AppError('invalid_request', message, { param })
}

const SLICE_BYTES = 256 * 1024
const WORD_BYTES_MAX = 256
const EVENT = {
  wanted: [...RESPONSE_EVENT_FIELDS, 'response.previous_response_id', 'stream_id', 'status', 'error'],
  descend: ['response'],
}
