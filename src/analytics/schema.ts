import { z } from '@hono/zod-openapi'
import { timestamp } from '../http/openapi.ts'

const usd = z.number().nullable().openapi({ description: 'US dollars; null when nothing of it has a price.' })
const nanoUsd = z.string().nullable().openapi({ description: 'Exact, in billionths of a US dollar.' })

export const costSchema = { total_cost: usd, total_cost_nano_usd: nanoUsd }

export const statsSchema = {
  request_count: z.number().int(),
  success_count: z.number().int(),
  failure_count: z.number().int(),
  success_rate: z.number().nullable().openapi({ description: 'Percent of all requests; null without any.' }),
  input_tokens: z.number().int(),
  cached_tokens: z.number().int().openapi({ description: 'Part of the input.' }),
  output_tokens: z.number().int(),
  reasoning_tokens: z.number().int().openapi({ description: 'Part of the output.' }),
  total_tokens: z.number().int(),
  ...costSchema,
  unpriced_count: z.number().int().openapi({ description: 'Requests whose price is not known; in no sum of money.' }),
  estimated_count: z.number().int().openapi({ description: 'Requests whose tokens OpenAI did not report.' }),
  avg_response_time: z.number().nullable().openapi({ description: 'Seconds; null without requests.' }),
}

export const periodSchema = { period_start: timestamp, period_end: timestamp, tz: z.string() }

export const totalsSchema = { total_requests: z.number().int(), ...costSchema, unpriced_requests: z.number().int() }

export const satisfactionSchema = {
  rating_count: z.number().int(),
  satisfied_count: z.number().int(),
  unsatisfied_count: z.number().int(),
  satisfied_share: z.number().nullable().openapi({ description: 'From 0 to 1; null without ratings.' }),
  satisfied_share_low: z.number().nullable().openapi({ description: 'Of the 95% Wilson interval.' }),
  satisfied_share_high: z.number().nullable(),
  rated_cost: usd,
  rated_cost_nano_usd: nanoUsd,
  unpriced_count: z.number().int().openapi({ description: 'Rated answers without a price; in no figure of cost.' }),
  cost_per_satisfied_answer: z.number().nullable().openapi({ description: 'US dollars; null when none satisfied.' }),
  cost_per_satisfied_answer_nano_usd: z.string().nullable(),
}

export const modelSchema = z.object({ model: z.string(), ...statsSchema })

export const userSchema = z.object({
  user_id: z.string().nullable().openapi({ description: 'The external id; null for requests without a user.' }),
  internal_user_id: z.string().nullable(),
  ...statsSchema,
  last_request_at: timestamp.nullable(),
  models_used: z.array(z.string()),
})

export const personaSchema = z.object({
  persona_id: z.string(),
  name: z.string(),
  description: z.string().nullable(),
  user_id: z.string().nullable().openapi({ description: 'The one user who may use it (external id).' }),
  ...statsSchema,
  last_used_at: timestamp.nullable(),
  models_used: z.array(z.string()),
  is_active: z.boolean(),
})

export const costOf = {
  request_count: z.number().int(),
  total_tokens: z.number().int(),
  ...costSchema,
  unpriced_count: z.number().int(),
}

export const personaDaySchema = z.object({
  date: z.string(),
  request_count: z.number().int(),
  success_count: z.number().int(),
  failure_count: z.number().int(),
  total_tokens: z.number().int(),
  ...costSchema,
  unpriced_count: z.number().int(),
})

export const sessionSchema = z.object({
  session_id: z.string(),
  user_id: z.string().nullable(),
  started_at: timestamp,
  ended_at: timestamp.nullable().openapi({ description: 'Its last request; null while it is active.' }),
  duration_minutes: z.number().nullable(),
  ...costOf,
  models_used: z.array(z.string()),
  is_active: z.boolean().openapi({ description: 'Used within the last half hour.' }),
})

export const ratedSchema = z.object({
  request_id: z.string(),
  response_id: z.string().nullable(),
  user_id: z.string().nullable(),
  model: z.string(),
  persona_id: z.string().nullable(),
  persona_version: z.number().int().nullable(),
  session_id: z.string(),
  rating: z.number().int(),
  rating_feedback: z.string().nullable(),
  rating_timestamp: timestamp,
  rated_by: z.string().nullable(),
  rated_by_user: z.string().nullable(),
  created_at: timestamp,
  completed_at: timestamp.nullable(),
  input_preview: z.string(),
  output_preview: z.string(),
})

export const DIMENSION_COLUMNS = {
  organization: ['organization_id'],
  user: ['user_id', 'internal_user_id'],
  key: ['api_key_id', 'api_key_name'],
  persona: ['persona_id', 'persona_name'],
  version: ['persona_id', 'persona_name', 'persona_version'],
  model: ['model'],
  session: ['session_id', 'session_owner'],
}

export const SATISFACTION_COLUMNS = {
  none: [...Object.keys(satisfactionSchema)],
  persona: [...DIMENSION_COLUMNS.persona, ...Object.keys(satisfactionSchema)],
  version: [...DIMENSION_COLUMNS.version, ...Object.keys(satisfactionSchema)],
  model: [...DIMENSION_COLUMNS.model, ...Object.keys(satisfactionSchema)],
  user: [...DIMENSION_COLUMNS.user, ...Object.keys(satisfactionSchema)],
}

export const groupKeys = {
  organization_id: z.string().optional(),
  user_id: z.string().nullish(),
  internal_user_id: z.string().nullish(),
  api_key_id: z.string().nullish(),
  api_key_name: z.string().nullish(),
  persona_id: z.string().nullish(),
  persona_name: z.string().nullish(),
  persona_version: z.number().int().nullish(),
  model: z.string().nullish(),
  session_id: z.string().nullish(),
  session_owner: z.string().nullish(),
}

export const userFilter = { filtered_by_user: z.string().nullable() }
