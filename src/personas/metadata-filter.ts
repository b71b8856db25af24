import { AppError } from '../errors.ts'
import { isStorable } from './template.ts'

/** A condition on the metadata of personas. */
export type MetadataFilter =
  | { kind: 'any_tag'; values: readonly string[] }
  | { kind: 'all_tags'; values: readonly string[] }
  | { kind: 'equals'; field: string; value: string }
  | { kind: 'exists'; field: string }

/**
 * The conditions in a query string: `metadata.tags=a,b` for any of these tags, `metadata.tags.all=a,b` for all of them,
 * `metadata.<field>=value` or `metadata.<outer>.<inner>=value`, and `metadata_exists=<field>`. They hold together; of a parameter that
 * comes twice the last counts.
 */
export function readMetadataFilters(query: URLSearchParams): MetadataFilter[] {
  const filters = new Map<string, MetadataFilter>()
  for (const [name, value] of query) {
    const filter = readFilter(name, value)
    if (!filter) continue
    if (!isStorable(name) || !isStorable(value)) {
      throw new AppError('invalid_request', 'A filter holds a character that is no text.', { param: 'metadata' })
    }
    filters.set(name, filter)
  }
  if (filters.size > FILTERS_MAX) {
    throw new AppError('invalid_request', `A search has up to ${FILTERS_MAX} filters on metadata.`, {
      param: 'metadata',
    })
  }
  return [...filters.values()]
}

const FILTERS_MAX = 20

function readFilter(name: string, value: string): MetadataFilter | undefined {
  if (name === 'metadata.tags') return { kind: 'any_tag', values: readList(name, value) }
  if (name === 'metadata.tags.all') return { kind: 'all_tags', values: readList(name, value) }
  if (name === 'metadata_exists') return { kind: 'exists', field: named(name, value) }
  if (!name.startsWith('metadata.')) return undefined
  return { kind: 'equals', field: named(name, name.slice('metadata.'.length)), value }
}

function readList(name: string, value: string): string[] {
  const list = value.split(',').filter((one) => one !== '')
  if (list.length > 0 && list.length <= FILTERS_MAX) return list
  throw new AppError('invalid_request', `"${name}" is a list of 1 to ${FILTERS_MAX} tags with commas between them.`, {
    param: name,
  })
}

function named(name: string, field: string): string {
  if (field !== '' && field.length <= 255) return field
  throw new AppError('invalid_request', `"${name.slice(0, 64)}" does not name a field of the metadata.`, {
    param: name.slice(0, 64),
  })
}
