import { AppError } from '../errors.ts'
import type { PathId } from './endpoints.ts'
import { kindsNamedBy, type Reference } from './references.ts'

/** Every object that a request's path and query name. Names of models are no objects: they are checked as models. */
export function namedByTarget(ids: readonly PathId[], query: QueryFields): Reference[] {
  const named: Reference[] = ids
    .filter(({ kind }) => kind !== 'model')
    .map(({ kind, id }) => ({ kinds: [kind], id, param: `${kind}_id`, isLookedUp: true }))
  for (const [field, value] of query) {
    const kinds = CURSORS.has(field) ? LISTED : kindsNamedBy(field)
    if (kinds) named.push({ kinds, id: value, param: field, isLookedUp: true })
  }
  return named
}

/** The fields of a query by name, the first of each; those with brackets only where they are filters of metadata. */
export type QueryFields = ReadonlyMap<string, string>

/** @throws {AppError} `invalid_request` for a field that decides something and that two readers could read differently. */
export function readQuery(query: string): QueryFields {
  const fields = new Map<string, string>()
  // Some readers take semicolons for ampersands.
  for (const pair of query.slice(1).split(/[&;]/)) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = decode(equals === -1 ? pair : pair.slice(0, equals))
    const isBracketed = name.includes('[') && !name.startsWith('metadata[')
    const steps = isBracketed ? name.split(/[[\]]/) : [name]
    if ((isBracketed || fields.has(name)) && steps.some(isDeciding)) {
      throw new AppError('invalid_request', 'The query must give each field once, by its plain name.', {
        param: name.slice(0, 64),
      })
    }
    if (isBracketed || fields.has(name)) continue
    fields.set(name, decode(equals === -1 ? '' : pair.slice(equals + 1)))
  }
  return fields
}

function isDeciding(name: string): boolean {
  return DECIDING.has(name) || kindsNamedBy(name) !== undefined
}

const CURSORS = new Set(['after', 'before'])
const DECIDING = new Set([...CURSORS, 'limit', 'order', 'purpose', 'name', 'model'])
/** What the lists of one object have in them: its items, its files. */
const LISTED = ['item', 'file', 'container_file', 'batch', 'vector_store', 'container', 'chat_completion'] as const

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    throw new AppError('invalid_request', 'The query has a percent sign that is not followed by two digits in UTF-8.')
  }
}
