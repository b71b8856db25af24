import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Owner, Ownership } from '../ownership/service.ts'
import { walkItems } from './array-items.ts'
import { editBody } from './body-edits.ts'
import { type JsonField, JsonFields } from './json-fields.ts'
import { type Payload, PayloadReader } from './payload.ts'

/**
 * Clients put ids of their own making on items whose content they send, as Codex does. OpenAI may keep the items under these, and hand
 * them out as if it had made them: so an id that is not known as the caller's own is taken out, whether it is a stranger's or nobody's.
 */
export async function withoutStrangeLabels(ownership: Ownership, owner: Owner, payload: Payload): Promise<Payload> {
  const labels = payload.references.filter(({ isLabel }) => isLabel)
  if (labels.length === 0) return payload
  const own = await ownership.filter(owner, labels)
  const strange = new Set(labels.map(({ id }) => id).filter((id) => !own.has(id)))
  if (strange.size === 0) return payload
  const edits = new Map<string, Buffer>()
  for (const name of FIELDS) {
    const field = payload.fields.get(name)
    if (field) edits.set(name, await withoutIds(payload.bytes, field, strange))
  }
  const reader = new PayloadReader()
  const bytes = editBody(payload.bytes, payload.fields, edits)
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
    if (at > 0) await nextTurn()
    reader.push(bytes.subarray(at, at + SLICE_BYTES))
  }
  return reader.finish()
}

const FIELDS = ['input', 'items']
const SLICE_BYTES = 256 * 1024

async function withoutIds(bytes: Buffer, field: JsonField, strange: ReadonlySet<string>): Promise<Buffer> {
  const pieces: Buffer[] = []
  let keptTo = field.start
  if (bytes[field.start] !== OPEN_ARRAY) return bytes.subarray(field.start, field.end)
  for (const step of walkItems(bytes, field.start, field.end)) {
    if (typeof step === 'number') {
      await nextTurn()
      continue
    }
    const item = bytes.subarray(step.start, step.end)
    const json = new JsonFields({ wanted: ['id'] })
    json.push(item)
    if (!strange.has(String(json.value('id')))) continue
    pieces.push(bytes.subarray(keptTo, step.start), editBody(item, json.fields, TAKE_OUT))
    keptTo = step.end
  }
  return Buffer.concat([...pieces, bytes.subarray(keptTo, field.end)])
}

const TAKE_OUT = new Map([['id', null]])
const OPEN_ARRAY = 0x5b
