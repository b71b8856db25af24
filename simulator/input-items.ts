import { newId } from './call.ts'
import type { Item } from './page.ts'

/** The input as the items it stands for, each with an id. */
export function inputItems(input: unknown): Item[] {
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

function message(role: string, content: unknown): Item {
  return { id: newId('msg'), type: 'message', status: 'completed', role, content }
}
