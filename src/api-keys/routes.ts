import { createRoute, z } from '@hono/zod-openapi'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { errorResponses, flag, json, pageQuery, security, timestamp } from '../http/openapi.ts'
import { Secret } from '../secret.ts'
import { type ApiKey, createApiKey, getApiKey, listApiKeys, updateApiKey } from './service.ts'
import type { Vault } from './vault.ts'

/** `/v1/api/keys`: the API keys of the caller's organization. */
export function apiKeyRoutes(deps: { db: Db; vault: Vault }): Routes {
  return newRoutes()
    .openapi(create, async (c) => {
      const input = c.req.valid('json')
      const { apiKey, syntheticKey } = await createApiKey(deps, c.var.caller, {
        upstreamKey: new Secret(input.openai_api_key),
        userId: input.user_id,
        name: input.name,
        description: input.description,
      })
      return c.json({ ...toWire(apiKey), synthetic_key: syntheticKey.reveal() }, 201)
    })
    .openapi(list, async (c) => {
      const { user_id, include_inactive, limit, offset } = c.req.valid('query')
      const filter = { userId: user_id, includeInactive: include_inactive, limit, offset }
      return c.json({ api_keys: (await listApiKeys(deps, c.var.caller, filter)).map(toWire) }, 200)
    })
    .openapi(get, async (c) => c.json(toWire(await getApiKey(deps, c.var.caller, c.req.valid('param').key_id)), 200))
    .openapi(update, async (c) => {
      const input = c.req.valid('json')
      const apiKey = await updateApiKey(deps, c.var.caller, c.req.valid('param').key_id, {
        isActive: input.is_active ?? undefined,
        userId: input.user_id,
        name: input.name,
        description: input.description,
        upstreamKey: typeof input.openai_api_key === 'string' ? new Secret(input.openai_api_key) : undefined,
      })
      return c.json(toWire(apiKey), 200)
    })
    .openapi(remove, async (c) => {
      await updateApiKey(deps, c.var.caller, c.req.valid('param').key_id, { isActive: false })
      return c.body(null, 204)
    })
}

const apiKeySchema = z
  .object({
    id: z.uuid(),
    organization_id: z.uuid(),
    user_id: z
      .uuid()
      .nullable()
      .openapi({ description: 'The one user who may use it (internal id); null for everyone.' }),
    synthetic_key: z.string().openapi({ description: 'Whole in the answer that creates it, its two ends ever after.' }),
    is_active: z.boolean(),
    name: z.string().nullable(),
    description: z.string().nullable(),
    created_at: timestamp,
    updated_at: timestamp,
  })
  .openapi('ApiKey')

const params = z.object({ key_id: z.string().openapi({ description: 'The id of the API key (UUID).' }) })

const create = createRoute({
  method: 'post',
  path: '/v1/api/keys',
  tags: ['api_keys'],
  security,
  summary: 'Create an API key; its synthetic key is shown this once',
  request: {
    body: {
      required: true,
      ...json(
        'The key',
        z.strictObject({
          openai_api_key: z.string(),
          user_id: z.string().nullish(),
          name: z.string().nullish(),
          description: z.string().nullish(),
        }),
      ),
    },
  },
  responses: { 201: json('The API key', apiKeySchema), ...errorResponses },
})

const list = createRoute({
  method: 'get',
  path: '/v1/api/keys',
  tags: ['api_keys'],
  security,
  summary: 'List API keys, oldest first',
  request: {
    query: z.object({
      user_id: z.string().optional().openapi({ description: "Only this user's keys (internal id)." }),
      include_inactive: flag('false'),
      ...pageQuery,
    }),
  },
  responses: { 200: json('The API keys', z.object({ api_keys: z.array(apiKeySchema) })), ...errorResponses },
})

const get = createRoute({
  method: 'get',
  path: '/v1/api/keys/{key_id}',
  tags: ['api_keys'],
  security,
  summary: 'Get an API key',
  request: { params },
  responses: { 200: json('The API key', apiKeySchema), ...errorResponses },
})

const update = createRoute({
  method: 'put',
  path: '/v1/api/keys/{key_id}',
  tags: ['api_keys'],
  security,
  summary: 'Change an API key: what is left out stays, what is null is emptied',
  request: {
    params,
    body: {
      required: true,
      ...json(
        'What to change',
        z.strictObject({
          is_active: z.boolean().nullish(),
          user_id: z.string().nullish(),
          name: z.string().nullish(),
          description: z.string().nullish(),
          openai_api_key: z.string().nullish(),
        }),
      ),
    },
  },
  responses: { 200: json('The API key', apiKeySchema), ...errorResponses },
})

const remove = createRoute({
  method: 'delete',
  path: '/v1/api/keys/{key_id}',
  tags: ['api_keys'],
  security,
  summary: 'Deactivate an API key; it stops working within a second',
  request: { params },
  responses: { 204: { description: 'Deactivated' }, ...errorResponses },
})

function toWire(apiKey: ApiKey) {
  return {
    id: apiKey.id,
    organization_id: apiKey.organizationId,
    user_id: apiKey.userId,
    synthetic_key: apiKey.maskedSyntheticKey,
    is_active: apiKey.isActive,
    name: apiKey.name,
    description: apiKey.description,
    created_at: apiKey.createdAt.toISOString(),
    updated_at: apiKey.updatedAt.toISOString(),
  }
}
