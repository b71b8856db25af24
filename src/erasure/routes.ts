import { createRoute, z } from '@hono/zod-openapi'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { errorResponses, json, security } from '../http/openapi.ts'
import { type Erasure, eraseUser } from './service.ts'

/** `POST /v1/api/users/{user_id}/erase`: what a user said and was called goes, what it cost stays. */
export function erasureRoutes(deps: { db: Db }): Routes {
  return newRoutes().openapi(erase, async (c) =>
    c.json(toWire(await eraseUser(deps, c.var.caller, c.req.valid('param').user_id)), 200),
  )
}

function toWire(erasure: Erasure) {
  return {
    id: erasure.userId,
    organization_id: erasure.organizationId,
    user_id: erasure.pseudonym,
    erased: {
      contents: erasure.contents,
      feedback_texts: erasure.feedbackTexts,
      api_keys: erasure.keys,
      tokens: erasure.tokens,
    },
    left: {
      upstream_objects: erasure.upstreamObjects,
      audit_entries: erasure.auditEntries,
      same_user_id: erasure.namesakes,
    },
  }
}

const count = z.number().int()

const erase = createRoute({
  method: 'post',
  path: '/v1/api/users/{user_id}/erase',
  tags: ['users'],
  security,
  summary: "Erase a user's contents, feedback and external id; the user is deleted, and the accounting stays",
  request: { params: z.object({ user_id: z.string().openapi({ description: 'The internal id (UUID).' }) }) },
  responses: {
    200: json(
      'What was erased, and what is left',
      z.object({
        id: z.uuid(),
        organization_id: z.uuid(),
        user_id: z.string().openapi({ description: 'What stands in place of the external id.' }),
        erased: z.object({ contents: count, feedback_texts: count, api_keys: count, tokens: count }),
        left: z.object({
          upstream_objects: count.openapi({ description: 'Responses and other objects that OpenAI keeps.' }),
          audit_entries: count.openapi({ description: 'Entries of the audit log that name the external id.' }),
          same_user_id: z
            .array(z.uuid())
            .openapi({ description: 'Other users of the same external id, deleted ones too.' }),
        }),
      }),
    ),
    ...errorResponses,
  },
})
