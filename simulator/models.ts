import { ApiError } from './api-error.ts'
import { sendJson } from './call.ts'
import { param, type Routes } from './handler.ts'
import { modelOf } from './request-body.ts'

/** Names that stand for a dated snapshot; the answer says which snapshot it was. */
const SNAPSHOTS: Record<string, string> = {
  'gpt-5.5': 'gpt-5.5-2026-04-23',
  'gpt-5.4-mini': 'gpt-5.4-mini-2026-03-17',
  'gpt-5.4-nano': 'gpt-5.4-nano-2026-03-17',
  'gpt-5.2': 'gpt-5.2-2025-12-11',
  'gpt-5.1': 'gpt-5.1-2025-11-13',
  'gpt-5': 'gpt-5-2025-08-07',
  'gpt-5-mini': 'gpt-5-mini-2025-08-07',
  'gpt-5-nano': 'gpt-5-nano-2025-08-07',
  'gpt-4.1': 'gpt-4.1-2025-04-14',
  'gpt-4.1-mini': 'gpt-4.1-mini-2025-04-14',
  'gpt-4.1-nano': 'gpt-4.1-nano-2025-04-14',
  'gpt-4o': 'gpt-4o-2024-08-06',
  'gpt-4o-mini': 'gpt-4o-mini-2024-07-18',
  'o4-mini': 'o4-mini-2025-04-16',
  o3: 'o3-2025-04-16',
}

const WITHOUT_SNAPSHOT = ['gpt-6-astra', 'gpt-6.1-sol', 'gpt-6.1-terra', 'gpt-6-sol', 'gpt-6-luna', 'gpt-5.4']
const OTHERS = [
  'gpt-realtime-2',
  'gpt-image-2',
  'gpt-4o-transcribe',
  'gpt-4o-mini-tts',
  'whisper-1',
  'tts-1',
  'omni-moderation-latest',
]
const EMBEDDING = ['text-embedding-3-small', 'text-embedding-3-large', 'text-embedding-ada-002']

/** The models that are listed. Any other name is answered too, but for those that begin with `no-such`. */
const MODEL_IDS: readonly string[] = [
  ...WITHOUT_SNAPSHOT,
  ...Object.entries(SNAPSHOTS).flat(),
  ...EMBEDDING,
  ...OTHERS,
  'sim-tool',
]

export function resolveModel(model: string): string {
  return SNAPSHOTS[model] ?? model
}

export function isUnknownModel(model: string): boolean {
  return model.startsWith('no-such')
}

/** @throws ApiError 400 without a model, 404 for one that is not there. */
export function knownModel(body: Record<string, unknown>): string {
  const model = modelOf(body)
  if (!isUnknownModel(model)) return model
  throw new ApiError(404, `The model \`${model}\` does not exist or you do not have access to it.`, {
    code: 'model_not_found',
  })
}

/** @see https://platform.openai.com/docs/api-reference/models */
export const modelRoutes: Routes = {
  'GET /models': (_, call) => sendJson(call, 200, { object: 'list', data: MODEL_IDS.map(modelObject) }),

  'GET /models/{model}': (_, call) => {
    const id = decoded(param(call, 'model'))
    if (!isUnknownModel(id)) return sendJson(call, 200, modelObject(id))
    throw new ApiError(404, `The model '${id}' does not exist`, { param: 'model', code: 'model_not_found' })
  },
}

/** A model name may hold anything; what can not be decoded is no model. */
function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return 'no-such-model'
  }
}

function modelObject(id: string): Record<string, unknown> {
  return { id, object: 'model', created: 1_700_000_000, owned_by: id.startsWith('sim') ? 'simulator' : 'openai' }
}
