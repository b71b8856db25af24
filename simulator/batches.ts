import { ApiError } from './api-error.ts'
import { runBatch } from './batch-run.ts'
import { type Call, newId, sendJson } from './call.ts'
import { json, param, type Routes } from './handler.ts'
import { type Batch, now, type Objects } from './objects.ts'
import { pageOf } from './page.ts'

const A_DAY = 24 * 3600
const ENDPOINTS = [
  '/responses',
  '/chat/completions',
  '/embeddings',
  '/completions',
  '/moderations',
  '/images/generations',
]

/** @see https://platform.openai.com/docs/api-reference/batch */
export const batchRoutes: Routes = {
  'POST /batches': json((simulated, call) => {
    const { endpoint, input_file_id, completion_window, metadata } = call.body
    if (!ENDPOINTS.some((path) => endpoint === `/v1${path}`)) {
      throw new ApiError(400, `Invalid value: '${endpoint}'.`, { param: 'endpoint', code: 'invalid_value' })
    }
    const input = simulated.objects.files.get(call.project, String(input_file_id))
    if (input.object.purpose !== 'batch') {
      throw new ApiError(400, "The purpose of the input file must be 'batch'.", { param: 'input_file_id' })
    }
    const batch: Batch = {
      object: {
        id: newId('batch'),
        object: 'batch',
        endpoint,
        errors: null,
        input_file_id,
        completion_window,
        status: 'validating',
        output_file_id: null,
        error_file_id: null,
        created_at: now(),
        in_progress_at: null,
        expires_at: now() + A_DAY,
        request_counts: { total: 0, completed: 0, failed: 0 },
        metadata: metadata ?? null,
      },
      abort: new AbortController(),
    }
    simulated.objects.batches.save(call.project, batch.object.id, batch)
    const first = sendJson(call, 200, batch.object)
    void runBatch(simulated, batch, input, { project: call.project, authorization: call.request.headers.authorization })
    return first
  }),

  'GET /batches': ({ objects }, call) =>
    sendJson(
      call,
      200,
      pageOf(
        objects.batches.list(call.project).map(({ object }) => object),
        call.query,
      ),
    ),

  'GET /batches/{batch}': ({ objects }, call) => sendJson(call, 200, asked(objects, call).object),

  'POST /batches/{batch}/cancel': ({ objects }, call) => {
    const batch = asked(objects, call)
    if (!['validating', 'in_progress', 'cancelling'].includes(batch.object.status)) {
      throw new ApiError(409, `Cannot cancel a batch with status '${batch.object.status}'.`)
    }
    batch.object = { ...batch.object, status: 'cancelling', cancelling_at: now() }
    batch.abort.abort()
    return sendJson(call, 200, batch.object)
  },
}

function asked(objects: Objects, call: Call): Batch {
  return objects.batches.get(call.project, param(call, 'batch'))
}
