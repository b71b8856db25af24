import { ApiError } from './api-error.ts'
import { type Call, newId, sendJson } from './call.ts'
import { json, param, type Routes } from './handler.ts'
import { deleted, now, type Objects, type VectorStore } from './objects.ts'
import { type Item, pageOf } from './page.ts'

/** @see https://platform.openai.com/docs/api-reference/vector-stores-files */
export const vectorStoreFileRoutes: Routes = {
  'POST /vector_stores/{store}/files': json(({ objects }, call) =>
    sendJson(call, 200, attachFile(objects, call.project, storeAsked(objects, call), call.body)),
  ),

  'GET /vector_stores/{store}/files': ({ objects }, call) =>
    sendJson(call, 200, pageOf([...storeAsked(objects, call).files.values()], call.query)),

  'GET /vector_stores/{store}/files/{file}': ({ objects }, call) => sendJson(call, 200, fileAsked(objects, call)),

  'POST /vector_stores/{store}/files/{file}': json(({ objects }, call) => {
    const file = { ...fileAsked(objects, call), attributes: call.body.attributes ?? {} }
    storeAsked(objects, call).files.set(file.id, file)
    return sendJson(call, 200, file)
  }),

  'DELETE /vector_stores/{store}/files/{file}': ({ objects }, call) => {
    const { id } = fileAsked(objects, call)
    storeAsked(objects, call).files.delete(id)
    return sendJson(call, 200, deleted(id, 'vector_store.file.deleted'))
  },

  'GET /vector_stores/{store}/files/{file}/content': ({ objects }, call) => {
    const { id } = fileAsked(objects, call)
    const data = [{ type: 'text', text: textOfFile(objects, call.project, id) }]
    return sendJson(call, 200, { object: 'vector_store.file_content.page', data, has_more: false, next_page: null })
  },

  'POST /vector_stores/{store}/file_batches': json(({ objects }, call) => {
    const store = storeAsked(objects, call)
    const { file_ids, files, attributes } = call.body
    const wanted = Array.isArray(files)
      ? files
      : (Array.isArray(file_ids) ? file_ids : []).map((file_id) => ({ file_id, attributes }))
    const attached = wanted.map((each) => attachFile(objects, call.project, store, each))
    const fileIds = attached.map(({ id }) => id)
    const object = {
      id: newId('vsfb'),
      object: 'vector_store.files_batch',
      created_at: now(),
      status: 'completed',
      vector_store_id: store.object.id,
      file_counts: { in_progress: 0, completed: fileIds.length, failed: 0, cancelled: 0, total: fileIds.length },
    }
    store.batches.set(object.id, { object, fileIds })
    return sendJson(call, 200, object)
  }),

  'GET /vector_stores/{store}/file_batches/{batch}': ({ objects }, call) =>
    sendJson(call, 200, batchAsked(objects, call).object),

  // It was over as soon as it was made: there is nothing to cancel.
  'POST /vector_stores/{store}/file_batches/{batch}/cancel': ({ objects }, call) =>
    sendJson(call, 200, batchAsked(objects, call).object),

  'GET /vector_stores/{store}/file_batches/{batch}/files': ({ objects }, call) => {
    const { files } = storeAsked(objects, call)
    const present = batchAsked(objects, call).fileIds.flatMap((id) => files.get(id) ?? [])
    return sendJson(call, 200, pageOf(present, call.query))
  },
}

/** @throws ApiError 404 for a file that is not in the project. */
export function attachFile(
  objects: Objects,
  project: string,
  store: VectorStore,
  fields: Record<string, unknown>,
): Item {
  const { object } = objects.files.get(project, String(fields.file_id))
  const file = {
    id: object.id,
    object: 'vector_store.file',
    created_at: now(),
    usage_bytes: object.bytes,
    vector_store_id: store.object.id,
    status: 'completed',
    last_error: null,
    chunking_strategy: { type: 'static', static: { max_chunk_size_tokens: 800, chunk_overlap_tokens: 400 } },
    attributes: fields.attributes ?? {},
  }
  store.files.set(file.id, file)
  return file
}

export function textOfFile(objects: Objects, project: string, id: string): string {
  return objects.files.find(project, id)?.content.toString('utf8') ?? ''
}

function storeAsked(objects: Objects, call: Call): VectorStore {
  return objects.vectorStores.get(call.project, param(call, 'store'))
}

function fileAsked(objects: Objects, call: Call): Item {
  const file = storeAsked(objects, call).files.get(param(call, 'file'))
  if (!file) throw new ApiError(404, `No file found with id '${param(call, 'file')}' in this vector store.`)
  return file
}

function batchAsked(objects: Objects, call: Call): { object: Item; fileIds: string[] } {
  const batch = storeAsked(objects, call).batches.get(param(call, 'batch'))
  if (!batch) throw new ApiError(404, `No file batch found with id '${param(call, 'batch')}'.`)
  return batch
}
