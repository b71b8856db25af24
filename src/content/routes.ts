import { createRoute, z } from '@hono/zod-openapi'
import type { Vault } from '../api-keys/vault.ts'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { errorResponses, json, security } from '../http/openapi.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { type Body, readContent } from './service.ts'
import type { ContentWriter } from './writer.ts'

/** `GET /v1/requests/{request_id}/content`: what was asked and answered. */
export function contentRoutes(deps: { db: Db; vault: Vault; ledger: Ledger; contents: ContentWriter }): Routes {
  return newRoutes().openapi(read, async (c) => {
    const content = await readContent(deps, c.var.caller, c.req.valid('param').request_id)
    return c.json(
      { request_id: content.requestId, request: toWire(content.request), response: toWire(content.response) },
      200,
    )
  })
}

function toWire(body: Body | undefined) {
  return body ? { text: body.text, is_cut: body.isCut, original_bytes: body.originalBytes } : null
}

const bodySchema = z
  .object({
    text: z.string(),
    is_cut: z.boolean().openapi({ description: 'The body was larger than 1 MiB; this is its beginning.' }),
    original_bytes: z.number().int(),
  })
  .nullable()
  .openapi({ description: 'null when none was kept, or its deadline has passed.' })

const read = createRoute({
  method: 'get',
  path: '/v1/requests/{request_id}/content',
  tags: ['requests'],
  security,
  summary: 'What was asked and answered, for as long as the organization keeps it',
  request: {
    params: z.object({ request_id: z.string().max(255).openapi({ description: '`req_...` or `resp_...`' }) }),
  },
  responses: {
    200: json(
      'The bodies as they went over the wire',
      z.object({ request_id: z.string(), request: bodySchema, response: bodySchema }),
    ),
    ...errorResponses,
  },
})
