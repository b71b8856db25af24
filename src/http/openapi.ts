import { OpenAPIHono, z } from '@hono/zod-openapi'
import type { Env } from 'hono'
import { AppError } from '../errors.ts'

/** An empty set of routes whose schemas refuse bad input with a sentence instead of a list of issues. */
export function newOpenApiRoutes<E extends Env>(): OpenAPIHono<E> {
  return new OpenAPIHono<E>({
    defaultHook: (result) => {
      if (result.success) return
      const issue = result.error.issues[0]
      const param = issue?.path.join('.') ?? ''
      const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.join(', ') : undefined
      const message = unknown
        ? `Unknown field: ${unknown}.`
        : `${param === '' ? 'The request' : `"${param}"`}: ${issue?.message}.`
      throw new AppError('invalid_request', message, { param: unknown ?? param })
    },
  })
}

const errorSchema = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string(),
    }),
    detail: z.string().openapi({ description: 'The message again, for clients of the earlier system.' }),
  })
  .openapi('Error')

export function json<T extends z.ZodType>(description: string, schema: T) {
  return { description, content: { 'application/json': { schema } } }
}

/** The errors any authenticated route can answer with. */
export const errorResponses = {
  400: json('The request is not valid.', errorSchema),
  401: json('The credentials are missing or not valid.', errorSchema),
  403: json('The credential may not do this.', errorSchema),
  404: json('There is no such thing in this organization.', errorSchema),
  503: json('The database is not available.', errorSchema),
}

export const security = [{ bearer: [] }]

export const pageQuery = {
  limit: z.coerce.number().int().min(1).max(1000).default(1000).openapi({ description: 'How many at most.' }),
  offset: z.coerce.number().int().min(0).max(1_000_000).default(0).openapi({ description: 'How many to skip.' }),
}

/** Yes or no in a query; Python's clients write `True`. */
export const flag = (byDefault: 'true' | 'false') =>
  z
    .enum(['true', 'false', 'True', 'False', '1', '0'])
    .default(byDefault)
    .transform((value) => /^(?:true|1)$/i.test(value))
    .openapi({ type: 'string', enum: ['true', 'false'], default: byDefault })

/**
 * An object whose fields the client names.
 * @throws the schema's refusal for `__proto__`, which would else be lost on the way without a word.
 */
export function record<T extends z.ZodType>(value: T) {
  return z.preprocess(
    (input, context) => {
      if (typeof input === 'object' && input !== null && Object.hasOwn(input, '__proto__')) {
        context.addIssue({ code: 'custom', message: 'cannot have a field named __proto__' })
      }
      return input
    },
    z.record(z.string(), value),
  )
}

/** The methods that routes have for a path, as they stand in the document. */
export function methodsAt({ openAPIRegistry }: Pick<OpenAPIHono, 'openAPIRegistry'>, path: string): string[] {
  const steps = path.split('/')
  const isThere = (pattern: string) => {
    const expected = pattern.split('/')
    return (
      expected.length === steps.length &&
      expected.every((step, index) => (step.startsWith('{') ? steps[index] !== '' : step === steps[index]))
    )
  }
  return openAPIRegistry.definitions.flatMap((definition) =>
    definition.type === 'route' && isThere(definition.route.path) ? [definition.route.method.toUpperCase()] : [],
  )
}

/** ISO 8601 with zone. */
export const timestamp = z.string().openapi({ format: 'date-time' })
