import { z } from '@hono/zod-openapi'
import { flag } from '../http/openapi.ts'
import { RATING_GROUPS, type RatingGroup } from '../ratings/satisfaction.ts'
import { DIMENSIONS, type Dimension, INTERVALS } from './series.ts'

/** Text of a query as the database can hold it. */
const text = z
  .string()
  .min(1)
  .max(255)
  .refine((value) => !value.includes('\0') && value.isWellFormed(), { error: 'has characters that no id has' })

export const periodQuery = {
  start_date: z.string().max(64).optional().openapi({
    description: 'A day (`2026-11-01`) or a time (`2026-11-01T12:00:00Z`). By default thirty days before the end.',
  }),
  end_date: z.string().max(64).optional().openapi({
    description: 'A day, which is included whole, or a time, which is not included. By default now.',
  }),
  tz: z.string().max(64).optional().openapi({ description: 'The IANA time zone of days and hours. By default UTC.' }),
  format: z.enum(['json', 'csv']).optional().openapi({ description: '`csv`, or `Accept: text/csv`.' }),
}

export const userQuery = { user_id: text.optional().openapi({ description: "Only this user's (external id)." }) }

export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(100).default(50).openapi({ description: 'How many at most.' }),
  offset: z.coerce.number().int().min(0).max(100_000).default(0).openapi({ description: 'How many to skip.' }),
}

const cursorQuery = {
  cursor: z.string().max(2000).optional().openapi({ description: '`next_cursor` of the page before.' }),
}

/** Nothing is no number: an empty parameter is a mistake and not zero. */
const integer = (min: number, max: number) =>
  z
    .string()
    .regex(/^-?\d{1,10}$/, { error: 'is a whole number' })
    .transform(Number)
    .pipe(z.number().int().min(min).max(max))
    .openapi({ type: 'integer', minimum: min, maximum: max })

const SOME_DIMENSIONS = Object.keys(DIMENSIONS) as Dimension[]

export const seriesQuery = z.object({
  ...periodQuery,
  ...userQuery,
  interval: z.enum(INTERVALS).default('day').openapi({ description: '`total` is the whole period as one.' }),
  group_by: z
    .string()
    .max(100)
    .default('')
    .transform((value) => [...new Set(value.split(',').filter((name) => name !== ''))])
    .pipe(z.array(z.enum(SOME_DIMENSIONS, { error: `is a list of ${SOME_DIMENSIONS.join(', ')}` })))
    .openapi({ type: 'string', description: `Any of ${SOME_DIMENSIONS.join(', ')}, separated by commas.` }),
  api_key_id: z.uuid().optional(),
  persona_id: z.uuid().optional(),
  persona_version: integer(0, 2_000_000_000).optional(),
  model: text.optional().openapi({ description: 'As it answered: `gpt-4o-mini-2024-07-18`.' }),
  session_id: text.optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100).openapi({ description: 'How many at most.' }),
  ...cursorQuery,
})

export const satisfactionQuery = z.object({
  ...periodQuery,
  ...userQuery,
  group_by: z
    .enum(Object.keys(RATING_GROUPS) as RatingGroup[])
    .default('version')
    .openapi({ description: '`version` is each version of each persona.' }),
  persona_id: z.uuid().optional(),
})

export const ratedQuery = z.object({
  ...periodQuery,
  ...userQuery,
  session_id: text.optional(),
  rating: integer(-1, 1).optional(),
  ...pageQuery,
  ...cursorQuery,
})

export const sessionsQuery = z.object({
  ...periodQuery,
  ...userQuery,
  include_active: flag('true'),
  include_completed: flag('true'),
  ...pageQuery,
  ...cursorQuery,
})

export const personasQuery = z.object({
  ...periodQuery,
  ...userQuery,
  include_inactive: flag('false'),
  ...pageQuery,
})
