import { createRoute, z } from '@hono/zod-openapi'
import type { Caller } from '../auth/caller.ts'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { errorResponses, flag, json, record, security } from '../http/openapi.ts'
import { getUserByExternalId } from '../users/service.ts'
import { readMetadataFilters } from './metadata-filter.ts'
import { personaParams, personaSchema, personaToWire, variablesSchema } from './schema.ts'
import { createPersona, deletePersona, getPersona, listPersonas, updatePersona } from './service.ts'

/** `/v1/personas`: the personas of the caller's organization. Users are named by their external ids here. */
export function personaRoutes(deps: { db: Db }): Routes {
  return newRoutes()
    .openapi(create, async (c) => {
      const { user_id, ...input } = c.req.valid('json')
      const { caller } = c.var
      const userId = user_id ? await internalId(deps, caller, user_id) : null
      return c.json(personaToWire(await createPersona(deps, caller, { ...input, userId })), 200)
    })
    .openapi(list, async (c) => {
      const { user_id, include_inactive, limit, cursor } = c.req.valid('query')
      const { caller } = c.var
      const found = await listPersonas(deps, caller, {
        userId: user_id === undefined ? undefined : await internalIdIfKnown(deps, caller, user_id),
        includeInactive: include_inactive,
        metadata: readMetadataFilters(new URL(c.req.url).searchParams),
        afterName: cursor === undefined ? undefined : readCursor(cursor),
        limit: limit + 1,
      })
      const page = found.slice(0, limit)
      const last = found.length > limit ? page.at(-1) : undefined
      return c.json({ personas: page.map(personaToWire), next_cursor: last ? toCursor(last.name) : null }, 200)
    })
    .openapi(get, async (c) =>
      c.json(personaToWire(await getPersona(deps, c.var.caller, c.req.valid('param').persona_id)), 200),
    )
    .openapi(update, async (c) => {
      const { user_id, name, content, is_active, variables, draft, ...rest } = c.req.valid('json')
      const { caller } = c.var
      const persona = await updatePersona(deps, caller, c.req.valid('param').persona_id, {
        ...rest,
        name: name ?? undefined,
        content: content ?? undefined,
        variables: variables ?? undefined,
        isActive: is_active ?? undefined,
        isDraft: draft,
        userId: user_id === undefined ? undefined : user_id ? await internalId(deps, caller, user_id) : null,
      })
      return c.json(personaToWire(persona), 200)
    })
    .openapi(remove, async (c) => {
      const { persona } = await deletePersona(deps, c.var.caller, c.req.valid('param').persona_id)
      return c.json({ success: true, message: `Persona deleted: ${persona.name}` }, 200)
    })
}

async function internalId(deps: { db: Db }, caller: Caller, externalId: string): Promise<string> {
  return (await getUserByExternalId(deps, caller, externalId)).id
}

/** A user whom nobody knows has no personas of their own. */
async function internalIdIfKnown(deps: { db: Db }, caller: Caller, externalId: string): Promise<string | null> {
  try {
    return await internalId(deps, caller, externalId)
  } catch (error) {
    if (error instanceof AppError && error.code === 'not_found') return null
    throw error
  }
}

function toCursor(name: string): string {
  return Buffer.from(name).toString('base64url')
}

function readCursor(cursor: string): string {
  const name = Buffer.from(cursor, 'base64url').toString()
  if (name !== '' && toCursor(name) === cursor && !name.includes('\0')) return name
  throw new AppError('invalid_request', '"cursor" is not one that a list has answered with.', { param: 'cursor' })
}

const create = createRoute({
  method: 'post',
  path: '/v1/personas',
  tags: ['personas'],
  security,
  summary: 'Create a persona',
  request: {
    body: {
      required: true,
      ...json(
        'The persona',
        z.strictObject({
          name: z.string(),
          content: z.string(),
          description: z.string().nullish(),
          user_id: z.string().nullish(),
          variables: variablesSchema.nullish(),
          metadata: record(z.unknown()).nullish(),
        }),
      ),
    },
  },
  responses: { 200: json('The persona', personaSchema), ...errorResponses },
})

const list = createRoute({
  method: 'get',
  path: '/v1/personas',
  tags: ['personas'],
  security,
  summary:
    'List personas by name. Filters on metadata: metadata.tags=a,b (any), metadata.tags.all=a,b, metadata.outer.inner=value, metadata_exists=field',
  request: {
    query: z.object({
      user_id: z
        .string()
        .optional()
        .openapi({ description: 'Those of everyone and those of this user (external id); without it all.' }),
      include_inactive: flag('false'),
      limit: z.coerce.number().int().min(1).max(1000).default(1000).openapi({ description: 'How many at most.' }),
      cursor: z.string().max(2000).optional().openapi({ description: 'The `next_cursor` of the page before.' }),
    }),
  },
  responses: {
    200: json('The personas', z.object({ personas: z.array(personaSchema), next_cursor: z.string().nullable() })),
    ...errorResponses,
  },
})

const get = createRoute({
  method: 'get',
  path: '/v1/personas/{persona_id}',
  tags: ['personas'],
  security,
  summary: 'Get a persona',
  request: { params: personaParams },
  responses: { 200: json('The persona', personaSchema), ...errorResponses },
})

const update = createRoute({
  method: 'put',
  path: '/v1/personas/{persona_id}',
  tags: ['personas'],
  security,
  summary: 'Change a persona: what is left out stays. Another content or other variables are a new version',
  request: {
    params: personaParams,
    body: {
      required: true,
      ...json(
        'What to change',
        z.strictObject({
          name: z.string().nullish(),
          description: z.string().nullish(),
          content: z.string().nullish(),
          user_id: z.string().nullish(),
          variables: variablesSchema.nullish(),
          metadata: record(z.unknown()).nullish(),
          is_active: z.boolean().nullish(),
          draft: z.boolean().optional().openapi({ description: 'Make the version, and give it to no call yet.' }),
        }),
      ),
    },
  },
  responses: { 200: json('The persona', personaSchema), ...errorResponses },
})

const remove = createRoute({
  method: 'delete',
  path: '/v1/personas/{persona_id}',
  tags: ['personas'],
  security,
  summary: 'Delete a persona, used or not; what was asked with it keeps its name and version',
  request: { params: personaParams },
  responses: {
    200: json('Deleted', z.object({ success: z.boolean(), message: z.string() })),
    ...errorResponses,
  },
})
