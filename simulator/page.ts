import { ApiError } from './api-error.ts'

/** An object as it goes over the wire. */
export type Item = Record<string, unknown> & { id: string }

/**
 * A page of a list, given the oldest first, by `limit` (1-100, default 20), `order` (default `desc`) and one of `after` and
 * `before`, which name the neighbour that is not on the page.
 */
export function pageOf(items: readonly Item[], search: string): Record<string, unknown> {
  const query = new URLSearchParams(search)
  const limit = Number(query.get('limit') ?? 20)
  if (!(limit >= 1 && limit <= 100)) {
    throw new ApiError(400, "Invalid 'limit': expected a number from 1 to 100.", {
      param: 'limit',
      code: 'invalid_value',
    })
  }
  const ordered = query.get('order') === 'asc' ? items : items.toReversed()
  const [from, to] = bounds(ordered, query, limit)
  const data = ordered.slice(from, to)
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: query.has('before') ? from > 0 : to < ordered.length,
  }
}

function bounds(ordered: readonly Item[], query: URLSearchParams, limit: number): [from: number, to: number] {
  const before = query.get('before')
  if (before === null) {
    const after = query.get('after')
    const from = after === null ? 0 : place(ordered, after) + 1
    return [from, from + limit]
  }
  const to = place(ordered, before)
  return [Math.max(0, to - limit), to]
}

/** @throws ApiError 400 when a page is to begin at something that is not in the list. */
function place(ordered: readonly Item[], id: string): number {
  const index = ordered.findIndex((item) => item.id === id)
  if (index < 0) throw new ApiError(400, `No object with id '${id}' in this list.`, { param: 'after' })
  return index
}
