import { createRoute, z } from '@hono/zod-openapi'
import type { Authenticator } from '../auth/authenticate.ts'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { errorResponses, json, security, timestamp } from '../http/openapi.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { rateResponse } from './service.ts'

/** `POST /v1/responses/{id}/rate`: whether an answer helped. */
export function ratingRoutes(deps: { db: Db; ledger: Ledger; authenticator: Authenticator }): Routes {
  return newRoutes().openapi(rate, async (c) => {
    const { rating, feedback } = c.req.valid('json')
    const { caller } = c.var
    const identity = caller.boundUser && (await deps.authenticator.identify(caller, undefined))
    const rated = await rateResponse(deps, caller, c.req.valid('param').id, {
      rating,
      feedback: feedback ?? null,
      ...(identity && { onlyUserId: identity.userId }),
    })
    return c.json(
      {
        request_id: rated.requestId,
        rating: rated.rating,
        feedback: rated.feedback,
        rated_at: rated.ratedAt.toISOString(),
      },
      200,
    )
  })
}

const FEEDBACK_MAX = 4000

const ratingSchema = z.union([z.literal(1), z.literal(-1)], { error: 'must be 1 (helped) or -1 (did not)' })

const rate = createRoute({
  method: 'post',
  path: '/v1/responses/{id}/rate',
  tags: ['responses'],
  security,
  summary: 'Rate an answer by request id or response id; the last rating wins',
  request: {
    params: z.object({ id: z.string().max(255).openapi({ description: '`req_...` or `resp_...`' }) }),
    body: {
      required: true,
      ...json('The rating', z.strictObject({ rating: ratingSchema, feedback: z.string().max(FEEDBACK_MAX).nullish() })),
    },
  },
  responses: {
    200: json(
      'The rating as recorded',
      z.object({ request_id: z.string(), rating: ratingSchema, feedback: z.string().nullable(), rated_at: timestamp }),
    ),
    ...errorResponses,
  },
})
