import { editBody } from './body-edits.ts'
import type { ByteFilter } from './byte-filter.ts'
import { EventFilter } from './event-filter.ts'
import { JsonFields } from './json-fields.ts'

/**
 * A chat stream only says what it used when it is asked to (`stream_options.include_usage`). So the proxy asks, and hides the answer
 * from a client that did not: the last chunk, which has a usage and no choices, and the field `usage` of every other chunk.
 */

/**
 * The value that `stream_options` has to have so that the usage comes: what the client sent, with one field more.
 * Undefined where nothing is to be changed: the client asks for it itself, or sends what OpenAI is going to refuse.
 * @param sent the field's value as it came; undefined when there is none.
 */
export function askForUsage(sent: Buffer | undefined): string | undefined {
  if (sent === undefined || sent.toString() === 'null') return '{"include_usage":true}'
  const options = new JsonFields({ wanted: ['include_usage'] })
  options.push(sent)
  if (!options.isComplete || options.duplicates.length > 0) return undefined
  const asked = options.value('include_usage')
  if (asked !== undefined && asked !== false && asked !== null) return undefined
  return editBody(sent, options.fields, new Map([['include_usage', 'true']])).toString()
}

export function hideUsage(): ByteFilter {
  return new EventFilter(withoutUsage, EVENT_BYTES_MAX)
}

/** A chunk that large is a piece of audio; the one with the usage is small. */
const EVENT_BYTES_MAX = 256 * 1024

function withoutUsage(event: Buffer): Buffer | undefined {
  const at = event.indexOf(USAGE)
  if (at === -1) return event
  return withoutLastNull(event, at) ?? withoutField(event)
}

/**
 * The usual chunk, without looking at what it says: there is nothing but texts between the field and the one brace at the end, so
 * it is a field of the chunk itself, and in a text its quotes would be escaped.
 */
function withoutLastNull(event: Buffer, at: number): Buffer | undefined {
  if (event[at - 1] !== COMMA || !LAST_NULL.test(event.toString('latin1', at, at + LAST_NULL_MAX))) return undefined
  return Buffer.concat([event.subarray(0, at - 1), event.subarray(at + NULL_FIELD_BYTES)])
}

const COMMA = 0x2c
const NULL_FIELD_BYTES = '"usage":null'.length
const LAST_NULL = /^"usage":null(?:,"[a-z_]{1,32}":"[A-Za-z0-9]{0,64}")?\}\r?\n\r?\n$/
const LAST_NULL_MAX = 256

/** Any other chunk: without the field, or not at all. */
function withoutField(event: Buffer): Buffer | undefined {
  const data = findData(event)
  if (!data) return event
  const text = event.subarray(data.start, data.end)
  const json = new JsonFields({ wanted: ['usage', 'choices'] })
  json.push(text)
  if (!json.isComplete || !json.fields.has('usage')) return event
  if (hasNoChoices(json) && json.value('usage') !== null) return undefined
  return Buffer.concat([
    event.subarray(0, data.start),
    editBody(text, json.fields, new Map([['usage', null]])),
    event.subarray(data.end),
  ])
}

const USAGE = '"usage"'

function hasNoChoices(json: JsonFields): boolean {
  const choices = json.value('choices')
  return Array.isArray(choices) && choices.length === 0
}

/** Where the event's one line of data stands; undefined when there are none or several, which OpenAI does not send. */
function findData(event: Buffer): { start: number; end: number } | undefined {
  let found: { start: number; end: number } | undefined
  let at = 0
  while (at < event.length) {
    const end = lineEnd(event, at)
    if (event.subarray(at, at + DATA.length).equals(DATA)) {
      if (found) return undefined
      found = { start: at + DATA.length, end }
    }
    at = end + 1
  }
  return found
}

const DATA = Buffer.from('data:')
const [LF, CR] = [0x0a, 0x0d] as const

function lineEnd(event: Buffer, from: number): number {
  let at = from
  while (at < event.length && event[at] !== LF && event[at] !== CR) at += 1
  return at
}
