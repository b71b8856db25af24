import { ApiError } from './api-error.ts'
import { newId } from './call.ts'

/** The input as the items it stands for, each with an id. */
export function inputItems(input: unknown): Record<string, unknown>[] {
  if (typeof input === 'string') return [message('user', [{ type: 'input_text', text: input }])]
  if (!Array.isArray(input)) return []
  return input.map((item) =>
    typeof item?.role === 'string'
      ? message(
          item.role,
          typeof item.content === 'string' ? [{ type: 'input_text', text: item.content }] : item.content,
        )
      : { id: newId('msg'), ...item },
  )
}

function message(role: string, content: unknown): Record<string, unknown> {
  return { id: newId('msg'), type: 'message', status: 'completed', role, content }
}

/** A page of a list by `after`, `limit` (1-100, default 20) and `order` (default `desc`), as OpenAI pages. */
export function pageOf(items: Record<string, unknown>[], query: URLSearchParams): Record<string, unknown> {
  const limit = Number(query.get('limit') ?? 20)
  if (!(limit >= 1 && limit <= 100)) {
    throw new ApiError(400, "Invalid 'limit': expected a number from 1 to 100.", {
      param: 'limit',
      code: 'invalid_value',
    })
  }
  const ordered = query.get('order') === 'asc' ? items : items.toReversed()
  const start = query.has('after') ? ordered.findIndex(({ id }) => id === query.get('after')) + 1 : 0
  const data = ordered.slice(start, start + limit)
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: start + limit < ordered.length,
  }
}
