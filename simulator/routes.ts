import { ApiError } from './api-error.ts'
import { type Call, sendJson } from './call.ts'
import { createChatCompletion } from './chat.ts'
import { createEmbeddings } from './embeddings.ts'
import { isUnknownModel, MODEL_IDS, modelObject } from './models.ts'
import { notJson } from './request-body.ts'
import type { ResponseStore } from './response-store.ts'
import {
  cancelResponse,
  compactResponse,
  countInputTokens,
  createResponse,
  deleteResponse,
  getResponse,
  listInputItems,
} from './responses-routes.ts'

type Deps = { store: ResponseStore }

/**
 * Finds the endpoint of a call below `/v1` and lets it answer.
 * @throws ApiError 404 where OpenAI has no such URL, or the simulator does not have it.
 */
export function route(deps: Deps, call: Call, path: string, query: string): Promise<void> | undefined {
  const [noun = '', id, action, rest] = path.slice('/v1/'.length).split('/')
  const { method = 'GET' } = call.request
  if (method === 'POST' && path === '/v1/responses') return createResponse(deps, withJson(call))
  if (method === 'POST' && path === '/v1/chat/completions') return createChatCompletion(withJson(call))
  if (method === 'POST' && path === '/v1/embeddings') return createEmbeddings(withJson(call))
  if (noun === 'responses' && rest === undefined) return routeResponse(deps, call, method, id, action, query)
  if (noun === 'models' && method === 'GET' && action === undefined) return getModels(call, id && decoded(id))
  throw noSuchUrl(call)
}

function routeResponse(
  deps: Deps,
  call: Call,
  method: string,
  id: string | undefined,
  action: string | undefined,
  query: string,
): Promise<void> | undefined {
  if (!id) throw id === undefined && call.request.headers.upgrade ? upgradeRefused() : noSuchUrl(call)
  switch (`${method} ${action ?? ''}`) {
    case 'GET ':
      return getResponse(deps, call, id, new URLSearchParams(query))
    case 'DELETE ':
      return deleteResponse(deps, call, id)
    case 'GET input_items':
      return listInputItems(deps, call, id, new URLSearchParams(query))
    case 'POST cancel':
      return cancelResponse(deps, call, id)
    case 'POST ':
      if (id === 'input_tokens') return countInputTokens(deps, withJson(call))
      if (id === 'compact') return compactResponse(deps, withJson(call))
  }
  throw noSuchUrl(call)
}

function getModels(call: Call, id: string | undefined): Promise<void> | undefined {
  if (!id) return sendJson(call, 200, { object: 'list', data: MODEL_IDS.map(modelObject) })
  if (!isUnknownModel(id)) return sendJson(call, 200, modelObject(id))
  throw new ApiError(404, `The model '${id}' does not exist`, { param: 'model', code: 'model_not_found' })
}

/** A model name may hold anything; what can not be decoded is no model. */
function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return 'no-such-model'
  }
}

function withJson(call: Call): Call {
  if (!call.isJson) throw notJson()
  return call
}

/** Clients that try a WebSocket first fall back to HTTP on this. */
function upgradeRefused(): ApiError {
  return new ApiError(426, 'The simulator does not speak WebSocket: use HTTP.', { code: 'upgrade_required' })
}

function noSuchUrl({ request }: Call): ApiError {
  return new ApiError(404, `Invalid URL (${request.method} ${request.url})`)
}
