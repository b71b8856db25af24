import { OPEN_OBJECT } from './json-bytes.ts'
import type { JsonField } from './json-fields.ts'

/** What changes in a body: the new value of a top-level field as JSON text or its bytes, or null to take the field out. */
export type BodyEdits = ReadonlyMap<string, string | Buffer | null>

/**
 * The body with these fields replaced, added behind the others or taken out. Every other byte stays as it came: parsing and writing
 * again would change 64-bit integers, key order and whatever else JavaScript reads in its own way.
 * @param fields where the fields of the outer object stand, each once.
 */
export function editBody(bytes: Buffer, fields: ReadonlyMap<string, JsonField>, edits: BodyEdits): Buffer {
  if (edits.size === 0) return bytes
  const pieces: Buffer[] = []
  const members = outerMembers(fields)
  // Up to the first field: the opening brace and what blanks follow it.
  let keptTo = members[0]?.[1].keyStart ?? bytes.indexOf(OPEN_OBJECT) + 1
  pieces.push(bytes.subarray(0, keptTo))
  let memberCount = 0
  let before = keptTo
  for (const [name, { keyStart, start, end }] of members) {
    const value = edits.get(name)
    if (value !== null) {
      // Between two fields that both stay, what stood between them stays too.
      if (memberCount > 0) pieces.push(bytes.subarray(before, keyStart))
      pieces.push(bytes.subarray(keyStart, start), value === undefined ? bytes.subarray(start, end) : toBytes(value))
      memberCount += 1
    }
    before = end
    keptTo = end
  }
  for (const [name, value] of edits) {
    if (value === null || fields.has(name)) continue
    pieces.push(Buffer.from(`${memberCount > 0 ? ',' : ''}${JSON.stringify(name)}:`), toBytes(value))
    memberCount += 1
  }
  pieces.push(bytes.subarray(keptTo))
  return Buffer.concat(pieces)
}

function toBytes(value: string | Buffer): Buffer {
  return typeof value === 'string' ? Buffer.from(value) : value
}

/** The fields of the outer object in their order, without those told from inside another. */
function outerMembers(fields: ReadonlyMap<string, JsonField>): [string, JsonField][] {
  let behind = 0
  return [...fields]
    .sort(([, a], [, b]) => a.keyStart - b.keyStart)
    .filter(([, { keyStart, end }]) => {
      if (keyStart < behind) return false
      behind = end
      return true
    })
}
