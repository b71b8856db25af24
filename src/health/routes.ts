import { createRoute, z } from '@hono/zod-openapi'
import type { KeyRing } from '../api-keys/key-ring.ts'
import type { Vault } from '../api-keys/vault.ts'
import type { Authenticator } from '../auth/authenticate.ts'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { decodeHeaderText } from '../http/identity-headers.ts'
import { errorResponses, json, security, timestamp } from '../http/openapi.ts'
import { VERSION } from '../version.ts'
import { checkReady, checkUpstream, type ProbeUpstream, type Readiness } from './service.ts'

export const SERVICE_NAME = 'OpenAI Inference Proxy'

/** Is it alive, is it ready, and does OpenAI answer? The first three are for load balancers and need no credential. */
export function healthRoutes(deps: {
  db: Db
  vault: Vault
  isStopping: () => boolean
  authenticator: Authenticator
  keyRing: KeyRing
  probeUpstream: ProbeUpstream
}): Routes {
  /** One check at a time, however many ask. */
  let checking: Promise<Readiness> | undefined
  const readiness = () => {
    checking ??= checkReady(deps).finally(() => {
      checking = undefined
    })
    return checking
  }
  return newRoutes()
    .openapi(root, (c) => c.json({ name: SERVICE_NAME, version: VERSION, status: 'operational', docs: '/docs' }, 200))
    .openapi(health, (c) => c.json({ status: 'healthy', service: SERVICE_NAME, version: VERSION }, 200))
    .openapi(live, (c) => c.json({ status: 'alive' }, 200))
    .openapi(ready, async (c) => {
      const status = deps.isStopping() ? 'stopping' : await readiness()
      return c.json({ status }, status === 'ready' ? 200 : 503)
    })
    .openapi(upstream, async (c) => {
      const credential = await deps.authenticator.authenticate(c.req.header('authorization'))
      const userId = decodeHeaderText(c.req.header('x-user-id'), 'x-user-id')
      const identity =
        userId === undefined && !credential.boundUser
          ? { organizationId: credential.organizationId, userId: null, apiKeyId: credential.apiKeyId }
          : await deps.authenticator.identify(credential, userId)
      const { status, message, openaiStatus } = await checkUpstream(deps, identity)
      return c.json(
        { status, message, openai_status: openaiStatus, timestamp: new Date().toISOString(), version: VERSION },
        200,
      )
    })
}

const statusSchema = z.object({ status: z.string() })

const root = createRoute({
  method: 'get',
  path: '/',
  tags: ['health'],
  summary: 'What this is',
  responses: {
    200: json('The service', z.object({ name: z.string(), version: z.string(), status: z.string(), docs: z.string() })),
  },
})

const health = createRoute({
  method: 'get',
  path: '/health',
  tags: ['health'],
  summary: 'The process answers',
  responses: { 200: json('Always', z.object({ status: z.string(), service: z.string(), version: z.string() })) },
})

const live = createRoute({
  method: 'get',
  path: '/livez',
  tags: ['health'],
  summary: 'The process answers (restart it if not)',
  responses: { 200: json('Always', statusSchema) },
})

const ready = createRoute({
  method: 'get',
  path: '/readyz',
  tags: ['health'],
  summary: 'The process takes requests (send it none if not)',
  responses: { 200: json('Ready', statusSchema), 503: json('Not ready; `status` says why', statusSchema) },
})

const upstream = createRoute({
  method: 'get',
  path: '/v1/responses/health',
  tags: ['responses'],
  security,
  summary: 'Whether a key resolves and OpenAI answers to it; spends no tokens',
  responses: {
    200: json(
      'The state of things',
      z.object({
        status: z.enum(['healthy', 'degraded']),
        message: z.string(),
        openai_status: z.enum(['operational', 'error', 'unknown']),
        timestamp,
        version: z.string(),
      }),
    ),
    ...errorResponses,
  },
})
