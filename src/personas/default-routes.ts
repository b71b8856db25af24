import { createRoute, z } from '@hono/zod-openapi'
import type { Caller } from '../auth/caller.ts'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { errorResponses, json, pageQuery, security } from '../http/openapi.ts'
import { getUserByExternalId } from '../users/service.ts'
import { type DefaultScope, listDefaults, removeDefault, setDefault } from './defaults.ts'

/** `/v1/persona-defaults`: the personas of calls that name none. */
export function personaDefaultRoutes(deps: { db: Db }): Routes {
  return newRoutes()
    .openapi(list, async (c) => {
      const defaults = await listDefaults(deps, c.var.caller, c.req.valid('query'))
      return c.json(
        {
          defaults: defaults.map(({ scope, externalUserId, personaId, personaName, isActive }) => ({
            scope: scope.kind,
            user_id: externalUserId,
            key_id: scope.kind === 'key' ? scope.id : null,
            persona_id: personaId,
            persona_name: personaName,
            is_active: isActive,
          })),
        },
        200,
      )
    })
    .openapi(set, async (c) => {
      const { persona_id, ...target } = c.req.valid('json')
      const { caller } = c.var
      const scope = await readScope(deps, caller, target)
      if (persona_id === null) await removeDefault(deps, caller, scope)
      else await setDefault(deps, caller, scope, persona_id)
      return c.json(
        { scope: scope.kind, user_id: target.user_id ?? null, key_id: target.key_id ?? null, persona_id },
        200,
      )
    })
}

async function readScope(
  deps: { db: Db },
  caller: Caller,
  { user_id, key_id }: { user_id?: string | null | undefined; key_id?: string | null | undefined },
): Promise<DefaultScope> {
  if (user_id && key_id) {
    throw new AppError('invalid_request', 'A default is for a user or for a key: name one of them.', {
      param: 'user_id',
    })
  }
  if (key_id) return { kind: 'key', id: key_id }
  return user_id
    ? { kind: 'user', id: (await getUserByExternalId(deps, caller, user_id)).id }
    : { kind: 'organization' }
}

const defaultFields = {
  scope: z.enum(['organization', 'user', 'key']),
  user_id: z.string().nullable().openapi({ description: 'The external id.' }),
  key_id: z.string().nullable(),
}

const list = createRoute({
  method: 'get',
  path: '/v1/persona-defaults',
  tags: ['personas'],
  security,
  summary: 'List the personas of calls that name none: of the organization, of users, of keys',
  request: { query: z.object(pageQuery) },
  responses: {
    200: json(
      'The defaults',
      z.object({
        defaults: z.array(
          z.object({
            ...defaultFields,
            persona_id: z.uuid(),
            persona_name: z.string(),
            is_active: z.boolean(),
          }),
        ),
      }),
    ),
    ...errorResponses,
  },
})

const set = createRoute({
  method: 'put',
  path: '/v1/persona-defaults',
  tags: ['personas'],
  security,
  summary: 'Set the default of a user, of a key, or, without either, of the organization; null removes it',
  request: {
    body: {
      required: true,
      ...json(
        'The default',
        z.strictObject({
          persona_id: z.string().nullable(),
          user_id: z.string().nullish(),
          key_id: z.string().nullish(),
        }),
      ),
    },
  },
  responses: {
    200: json('The default', z.object({ ...defaultFields, persona_id: z.string().nullable() })),
    ...errorResponses,
  },
})
