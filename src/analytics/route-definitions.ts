import { createRoute, z } from '@hono/zod-openapi'
import { errorResponses, json, security, timestamp } from '../http/openapi.ts'
import {
  pageQuery,
  periodQuery,
  personasQuery,
  ratedQuery,
  satisfactionQuery,
  seriesQuery,
  sessionsQuery,
  userQuery,
} from './query.ts'
import {
  costOf,
  costSchema,
  groupKeys,
  modelSchema,
  periodSchema,
  personaDaySchema,
  personaSchema,
  ratedSchema,
  satisfactionSchema,
  sessionSchema,
  statsSchema,
  totalsSchema,
  userFilter,
  userSchema,
} from './schema.ts'

export const modelsRoute = reportRoute(
  '/v1/analytics/models',
  'What each model was used for',
  { query: z.object(periodQuery) },
  z.object({ models: z.array(modelSchema), ...totalsSchema, ...periodSchema }),
)

export const usersRoute = reportRoute(
  '/v1/analytics/user-usage',
  'What each user used, the busiest first',
  { query: z.object({ ...periodQuery, ...userQuery, ...pageQuery }) },
  z.object({
    users: z.array(userSchema),
    total_users: z.number().int(),
    ...totalsSchema,
    ...periodSchema,
    ...userFilter,
  }),
)

export const personasRoute = reportRoute(
  '/v1/analytics/personas',
  'What was used with each persona, the busiest first',
  { query: personasQuery },
  z.object({
    personas: z.array(personaSchema),
    total_personas: z.number().int(),
    ...totalsSchema,
    ...periodSchema,
    ...userFilter,
    include_inactive: z.boolean(),
  }),
)

export const personaRoute = reportRoute(
  '/v1/analytics/personas/{persona_id}',
  'One persona by day, model and user; as CSV its days',
  {
    params: z.object({ persona_id: z.string().max(255) }),
    query: z.object({ ...periodQuery, ...userQuery }),
  },
  z.object({
    persona: personaSchema.nullable(),
    daily_usage: z.array(personaDaySchema),
    request_count_by_model: z.record(z.string(), z.number().int()),
    request_count_by_status: z.object({
      completed: z.number().int(),
      failed: z.number().int(),
      other: z.number().int().openapi({ description: 'Cancelled, or left by the client.' }),
    }),
    token_usage_by_model: z.record(
      z.string(),
      z.object({
        input_tokens: z.number().int(),
        output_tokens: z.number().int(),
        total_tokens: z.number().int(),
        ...costSchema,
        unpriced_count: z.number().int(),
      }),
    ),
    top_users: z.array(z.object({ user_id: z.string().nullable(), ...costOf })),
    ...periodSchema,
  }),
)

export const sessionsRoute = reportRoute(
  '/v1/analytics/sessions',
  'Sessions that began in the period, the newest first',
  { query: sessionsQuery },
  z.object({
    sessions: z.array(sessionSchema),
    total_sessions: z.number().int(),
    active_sessions: z.number().int(),
    ...totalsSchema,
    avg_session_duration: z.number().nullable().openapi({ description: 'Minutes, of the sessions that are over.' }),
    ...periodSchema,
    ...userFilter,
    next_cursor: z.string().nullable(),
  }),
)

export const ratedRoute = reportRoute(
  '/v1/analytics/rated-responses',
  'Rated answers, the newest rating first',
  { query: ratedQuery },
  z.object({
    rated_responses: z.array(ratedSchema),
    total_count: z.number().int(),
    positive_count: z.number().int(),
    negative_count: z.number().int(),
    neutral_count: z.number().int(),
    ...periodSchema,
    ...userFilter,
    filtered_by_session: z.string().nullable(),
    next_cursor: z.string().nullable(),
  }),
)

export const satisfactionRoute = reportRoute(
  '/v1/analytics/ratings',
  'How many answers satisfied, by persona version, model or user, and what one that did cost',
  { query: satisfactionQuery },
  z.object({
    group_by: z.string(),
    groups: z.array(z.object({ ...groupKeys, ...satisfactionSchema })),
    all: z.object(satisfactionSchema),
    ...periodSchema,
  }),
)

export const usageRoute = reportRoute(
  '/v1/analytics/usage',
  'Usage over time, by any of organization, user, key, persona, version, model and session',
  { query: seriesQuery },
  z.object({
    interval: z.string(),
    group_by: z.array(z.string()),
    usage: z.array(
      z.object({ date: z.string().nullable(), starts_at: timestamp.nullable(), ...groupKeys, ...statsSchema }),
    ),
    ...periodSchema,
    next_cursor: z.string().nullable(),
  }),
)

function reportRoute<P extends `/v1/analytics/${string}`, R extends object, S extends z.ZodType>(
  path: P,
  summary: string,
  request: R,
  schema: S,
) {
  const answer = json('The report', schema)
  return createRoute({
    method: 'get',
    path,
    tags: ['analytics'],
    security,
    summary,
    request,
    responses: {
      200: { ...answer, content: { ...answer.content, 'text/csv': { schema: z.string() } } },
      ...errorResponses,
    },
  })
}
