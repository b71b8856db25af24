import { AppError } from '../errors.ts'
import type { ItemSpan } from './array-items.ts'
import { OPEN_ARRAY } from './json-bytes.ts'
import type { JsonField } from './json-fields.ts'
import { PERSONA_FIELDS } from './persona-fields.ts'

/** Where an endpoint takes instructions: in the field `instructions`, or as a first message of the role system. */
export type InstructionsForm = 'responses' | 'chat'

/** The fields that hold messages: of a call, or to be kept in a conversation for later calls. */
export type MessagesField = 'input' | 'messages' | 'items'

/** A body as it came, and where the fields of its outer object stand. */
export interface ReadBody {
  bytes: Buffer
  fields: ReadonlyMap<string, JsonField>
}

/** What a persona does to a body. */
export interface Injection {
  text: string
  /** The caller's own `instructions` are left out, or follow the persona's. */
  own: 'leave_out' | 'append'
  /** When given, only these items of the conversation are sent. */
  keep?: readonly ItemSpan[] | undefined
}

/**
 * What changes in a body on its way to OpenAI (see `body-edits.ts`): the fields that are the proxy's own go, and the persona's text comes,
 * if there is one. Empty for a body without any of this.
 * @throws {AppError} `invalid_request` when the text has no place in it.
 */
export function injectPersona(
  form: InstructionsForm,
  body: ReadBody,
  injection: Injection | undefined,
): Map<string, string | Buffer | null> {
  return new Map<string, string | Buffer | null>([
    ...PERSONA_FIELDS.filter((name) => body.fields.has(name)).map((name) => [name, null] as const),
    ...(injection ? injectionEdits(form, body, injection) : []),
  ])
}

/** The field that holds the conversation. */
export function conversationField(form: InstructionsForm): 'input' | 'messages' {
  return form === 'chat' ? 'messages' : 'input'
}

/** Says whether a caller has written instructions; null and an empty text are none. */
export function hasOwnInstructions({ bytes, fields }: ReadBody): boolean {
  const field = fields.get('instructions')
  if (!field) return false
  return !['null', '""'].includes(bytes.toString('latin1', field.start, Math.min(field.end, field.start + 5)))
}

function injectionEdits(form: InstructionsForm, body: ReadBody, injection: Injection): [string, string | Buffer][] {
  const name = conversationField(form)
  const conversation = body.fields.get(name)
  const { text, own, keep } = injection
  if (form === 'chat') {
    if (!conversation || body.bytes[conversation.start] !== OPEN_ARRAY) {
      throw new AppError('invalid_request', '"messages" must be an array.', { param: 'messages' })
    }
    const first = JSON.stringify({ role: 'system', content: text })
    return [[name, arrayOf(body.bytes, conversation, first, keep)]]
  }
  const instructions = own === 'append' ? withOwn(text, body) : text
  return [['instructions', JSON.stringify(instructions)], ...(keep ? keepOnly(body, name, keep) : [])]
}

function withOwn(text: string, body: ReadBody): string {
  if (!hasOwnInstructions(body)) return text
  const { start = 0, end = 0 } = body.fields.get('instructions') ?? {}
  const own = parseText(body.bytes.toString('utf8', start, end))
  if (own === undefined) {
    throw new AppError('invalid_request', '"instructions" must be a string.', { param: 'instructions' })
  }
  return `${text}\n\n${own}`
}

function parseText(json: string): string | undefined {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'string' ? value : undefined
  } catch {
    return undefined
  }
}

/** What leaves only these items in a field. */
export function keepOnly(body: ReadBody, name: MessagesField, keep: readonly ItemSpan[]): [string, Buffer][] {
  const field = body.fields.get(name)
  return field ? [[name, arrayOf(body.bytes, field, undefined, keep)]] : []
}

/** An array with another first item, and of its own all or some. */
function arrayOf(
  bytes: Buffer,
  { start, end }: JsonField,
  first: string | undefined,
  keep: readonly ItemSpan[] | undefined,
): Buffer {
  const items = keep?.map((item) => bytes.subarray(item.start, item.end)) ?? []
  if (first !== undefined) items.unshift(Buffer.from(first))
  const pieces = items.flatMap((item, index) => (index === 0 ? [item] : [COMMA, item]))
  // Whoever keeps all of them keeps what stands between them too.
  const rest = keep ? CLOSE_ARRAY : bytes.subarray(start + 1, end)
  const isFollowed = !keep && items.length > 0 && !isEmptyArray(bytes, start)
  return Buffer.concat([Buffer.from('['), ...pieces, ...(isFollowed ? [COMMA] : []), rest])
}

function isEmptyArray(bytes: Buffer, start: number): boolean {
  let at = start + 1
  while (BLANKS.has(bytes[at] ?? 0)) at += 1
  return bytes[at] === CLOSE_ARRAY[0]
}

const BLANKS = new Set([0x20, 0x09, 0x0a, 0x0d])
const CLOSE_ARRAY = Buffer.from(']')
const COMMA = Buffer.from(',')
