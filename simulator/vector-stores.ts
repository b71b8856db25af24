import { newId, sendJson } from './call.ts'
import { json, param, type Routes } from './handler.ts'
import { deleted, now, type Objects, type VectorStore } from './objects.ts'
import { pageOf } from './page.ts'
import { attachFile, textOfFile } from './vector-store-files.ts'

const MATCHES_MAX = 10

/** @see https://platform.openai.com/docs/api-reference/vector-stores */
export const vectorStoreRoutes: Routes = {
  'POST /vector_stores': json(({ objects }, call) => {
    const { name, description, metadata, expires_after, file_ids } = call.body
    const id = newId('vs')
    const store: VectorStore = {
      object: {
        id,
        object: 'vector_store',
        created_at: now(),
        last_active_at: now(),
        name: name ?? '',
        ...(description === undefined ? undefined : { description }),
        expires_after: expires_after ?? null,
        metadata: metadata ?? {},
      },
      files: new Map(),
      batches: new Map(),
    }
    const fileIds = Array.isArray(file_ids) ? file_ids.map(String) : []
    for (const fileId of fileIds) attachFile(objects, call.project, store, { file_id: fileId })
    objects.vectorStores.save(call.project, id, store)
    return sendJson(call, 200, withCounts(objects, call.project, store))
  }),

  'GET /vector_stores': ({ objects }, call) => {
    const stores = objects.vectorStores.list(call.project)
    const shown = stores.map((store) => withCounts(objects, call.project, store))
    return sendJson(call, 200, pageOf(shown, call.query))
  },

  'GET /vector_stores/{store}': ({ objects }, call) => {
    const store = objects.vectorStores.get(call.project, param(call, 'store'))
    return sendJson(call, 200, withCounts(objects, call.project, store))
  },

  'POST /vector_stores/{store}': json(({ objects }, call) => {
    const store = objects.vectorStores.get(call.project, param(call, 'store'))
    for (const field of ['name', 'metadata', 'expires_after']) {
      if (call.body[field] !== undefined) store.object = { ...store.object, [field]: call.body[field] }
    }
    return sendJson(call, 200, withCounts(objects, call.project, store))
  }),

  'DELETE /vector_stores/{store}': ({ objects }, call) => {
    const { object } = objects.vectorStores.remove(call.project, param(call, 'store'))
    return sendJson(call, 200, deleted(object.id, 'vector_store.deleted'))
  },

  // Every file matches: nothing is hidden by what was asked.
  'POST /vector_stores/{store}/search': json(({ objects }, call) => {
    const store = objects.vectorStores.get(call.project, param(call, 'store'))
    const { query, max_num_results = MATCHES_MAX } = call.body
    return sendJson(call, 200, {
      object: 'vector_store.search_results.page',
      search_query: Array.isArray(query) ? query : [query],
      data: searchResults(objects, call.project, store).slice(0, Number(max_num_results)),
      has_more: false,
      next_page: null,
    })
  }),
}

/** What a search finds: each file of the store with its text. */
export function searchResults(objects: Objects, project: string, store: VectorStore): Record<string, unknown>[] {
  return [...store.files.values()].map(({ id, attributes }) => ({
    file_id: id,
    filename: objects.files.find(project, id)?.object.filename ?? '',
    score: 0.9,
    attributes,
    content: [{ type: 'text', text: textOfFile(objects, project, id) }],
  }))
}

function withCounts(objects: Objects, project: string, { object, files }: VectorStore) {
  const sizes = [...files.keys()].map((id) => objects.files.find(project, id)?.object.bytes ?? 0)
  const file_counts = { in_progress: 0, completed: files.size, failed: 0, cancelled: 0, total: files.size }
  const usage_bytes = sizes.reduce((sum, bytes) => sum + bytes, 0)
  return { ...object, status: 'completed', file_counts, usage_bytes }
}
