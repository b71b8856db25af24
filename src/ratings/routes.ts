import { createRoute, z } from '@hono/zod-openapi'
import type { Authenticator } from '../auth/authenticate.ts'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { decodeHeaderText } from '../http/identity-headers.ts'
import { errorResponses, json, security, timestamp } from '../http/openapi.ts'
import type { Ledger } from '../ledger/ledger.ts'
import { listRatingsOf, rateResponse } from './service.ts'

/** `POST /v1/responses/{id}/rate`: whether an answer helped. */
export function ratingRoutes(deps: { db: Db; ledger: Ledger; authenticator: Authenticator }): Routes {
  return newRoutes().openapi(rate, async (c) => {
    const { rating, feedback } = c.req.valid('json')
    const { caller } = c.var
    const header = decodeHeaderText(c.req.header('x-user-id'), 'x-user-id')
    const isUserKnown = caller.boundUser !== undefined || header !== undefined
    const rater = isUserKnown ? await deps.authenticator.identify(caller, header) : undefined
    const rated = await rateResponse(deps, caller, c.req.valid('param').id, {
      rating,
      feedback: feedback ?? null,
      raterUserId: rater?.userId ?? null,
      ...(caller.boundUser && { onlyUserId: rater?.userId ?? null }),
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

/** `GET /v1/requests/{request_id}/ratings`: who said what about an answer, and when. */
export function ratingHistoryRoutes(deps: { db: Db; ledger: Ledger }): Routes {
  return newRoutes().openapi(history, async (c) => {
    const { requestId, ratings } = await listRatingsOf(deps, c.var.caller, c.req.valid('param').request_id)
    return c.json(
      {
        request_id: requestId,
        ratings: ratings.map((rating) => ({
          rating: rating.rating,
          feedback: rating.feedback,
          rated_at: rating.ratedAt.toISOString(),
          rated_by: rating.ratedBy,
          rated_by_user: rating.rater,
        })),
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

const history = createRoute({
  method: 'get',
  path: '/v1/requests/{request_id}/ratings',
  tags: ['requests'],
  security,
  summary: 'Every rating of an answer, the oldest first; the last one counts',
  request: {
    params: z.object({ request_id: z.string().max(255).openapi({ description: '`req_...` or `resp_...`' }) }),
  },
  responses: {
    200: json(
      'The ratings',
      z.object({
        request_id: z.string(),
        ratings: z.array(
          z.object({
            rating: z.number().int(),
            feedback: z.string().nullable(),
            rated_at: timestamp,
            rated_by: z
              .string()
              .nullable()
              .openapi({ description: 'The credential: `token:<id>` or `key:<id>`. null before this was kept.' }),
            rated_by_user: z.string().nullable().openapi({ description: 'Whom `X-User-ID` or the credential named.' }),
          }),
        ),
      }),
    ),
    ...errorResponses,
  },
})
