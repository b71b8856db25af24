import { ApiError } from './api-error.ts'
import { audioRoutes } from './audio.ts'
import { batchRoutes } from './batches.ts'
import type { Call } from './call.ts'
import { chatRoutes } from './chat-routes.ts'
import { completionRoutes } from './completions.ts'
import { containerRoutes } from './containers.ts'
import { conversationRoutes } from './conversations.ts'
import { embeddingRoutes } from './embeddings.ts'
import { fileRoutes } from './files.ts'
import type { Handler, Routes, Simulated } from './handler.ts'
import { imageRoutes } from './images.ts'
import { modelRoutes } from './models.ts'
import { moderationRoutes } from './moderations.ts'
import { realtimeRoutes } from './realtime.ts'
import { responseRoutes } from './responses-routes.ts'
import { uploadRoutes } from './uploads.ts'
import { vectorStoreFileRoutes } from './vector-store-files.ts'
import { vectorStoreRoutes } from './vector-stores.ts'

const ROUTES: Routes = {
  ...responseRoutes,
  ...conversationRoutes,
  ...chatRoutes,
  ...completionRoutes,
  ...embeddingRoutes,
  ...moderationRoutes,
  ...modelRoutes,
  ...imageRoutes,
  ...audioRoutes,
  ...fileRoutes,
  ...uploadRoutes,
  ...vectorStoreRoutes,
  ...vectorStoreFileRoutes,
  ...batchRoutes,
  ...containerRoutes,
  ...realtimeRoutes,
}

const EXACT = new Map(Object.entries(ROUTES).filter(([route]) => !route.includes('{')))
const PATTERNS = Object.entries(ROUTES)
  .filter(([route]) => route.includes('{'))
  .map(([route, handler]): [RegExp, Handler] => [
    new RegExp(`^${route.replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)')}$`),
    handler,
  ])

/**
 * Finds the endpoint of a call below `/v1` and lets it answer.
 * @throws ApiError 404 where OpenAI has no such URL, or the simulator does not have it.
 */
export function route(simulated: Simulated, call: Call, path: string): Promise<void> | undefined {
  const asked = `${call.request.method} ${path.slice('/v1'.length)}`
  const exact = EXACT.get(asked)
  if (exact) return exact(simulated, call)
  for (const [pattern, handler] of PATTERNS) {
    const found = pattern.exec(asked)
    if (!found) continue
    call.params = found.groups ?? {}
    return handler(simulated, call)
  }
  throw new ApiError(404, `Invalid URL (${call.request.method} ${call.request.url})`)
}
