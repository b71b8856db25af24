import { ApiError } from './api-error.ts'
import type { Objects } from './objects.ts'
import { searchResults } from './vector-stores.ts'

/**
 * Follows every id that a part of a request refers to, however deep, and returns a piece of what each one names: an answer
 * repeats it, so that a reference which should have been refused shows in what comes back.
 * @throws ApiError 404 for what is not in the project.
 */
export function findReferences(objects: Objects, project: string, part: unknown): string[] {
  if (typeof part !== 'object' || part === null) return []
  if (Array.isArray(part)) return part.flatMap((each) => findReferences(objects, project, each))
  const fields = part as Record<string, unknown>
  const isItem =
    fields.type === 'item_reference' || (fields.type === 'image_generation_call' && fields.result === undefined)
  const found = isItem ? [itemText(objects, project, String(fields.id))] : []
  for (const [name, value] of Object.entries(fields)) {
    const ids = Array.isArray(value) ? value : [value]
    for (const id of ids) {
      if (typeof id === 'string') found.push(...contentOf(objects, project, name, id))
      else found.push(...findReferences(objects, project, id))
    }
  }
  return found
}

/** What a field of this name refers to; nothing if it is no reference. */
function contentOf(objects: Objects, project: string, name: string, id: string): string[] {
  switch (name) {
    case 'file_id':
    case 'file_ids':
      return [textIn(objects.files.get(project, id))]
    case 'vector_store_ids': {
      const store = objects.vectorStores.get(project, id)
      return [JSON.stringify([store.object, searchResults(objects, project, store)]).slice(0, PIECE * 10)]
    }
    case 'container':
    case 'container_id': {
      const { object, files } = objects.containers.get(project, id)
      return [object.name, ...[...files.values()].map(textIn)]
    }
    case 'approval_request_id':
      return [itemText(objects, project, id)]
    case 'comparison_response_id':
      return [objects.responses.get(project, id).question ?? '']
    default:
      return []
  }
}

function textIn({ content }: { content: Buffer }): string {
  return content.toString('utf8').slice(0, PIECE)
}

const PIECE = 200

/** The text of an item that was part of any response or conversation of the project. */
function itemText(objects: Objects, project: string, id: string): string {
  for (const { response, inputItems } of objects.responses.list(project)) {
    const item = [...inputItems, ...(response.output as { id?: unknown }[])].find((each) => each.id === id)
    if (item) return JSON.stringify(item).slice(0, PIECE * 3)
  }
  for (const { items } of objects.conversations.list(project)) {
    const item = items.find((each) => each.id === id)
    if (item) return JSON.stringify(item).slice(0, PIECE * 3)
  }
  throw new ApiError(404, `Item with id '${id}' not found.`, { param: 'input' })
}
