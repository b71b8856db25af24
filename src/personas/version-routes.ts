import { createRoute, z } from '@hono/zod-openapi'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { errorResponses, json, security } from '../http/openapi.ts'
import { personaParams, personaSchema, personaToWire, rolloutSchema, versionSchema, versionToWire } from './schema.ts'
import { diffVersions, getVersion, listVersions, rollBackPersona, setRollout } from './versions.ts'

/** `/v1/personas/{persona_id}/versions` and what is done with versions. */
export function personaVersionRoutes(deps: { db: Db }): Routes {
  return newRoutes()
    .openapi(list, async (c) => {
      const { limit, cursor } = c.req.valid('query')
      const page = { before: cursor, limit: limit + 1 }
      const found = await listVersions(deps, c.var.caller, c.req.valid('param').persona_id, page)
      const versions = found.slice(0, limit)
      const next = found.length > limit ? versions.at(-1)?.version : undefined
      return c.json({ versions: versions.map(versionToWire), next_cursor: next ?? null }, 200)
    })
    .openapi(get, async (c) => {
      const { persona_id, version } = c.req.valid('param')
      return c.json(versionToWire(await getVersion(deps, c.var.caller, persona_id, version)), 200)
    })
    .openapi(diff, async (c) => {
      const { from, to } = c.req.valid('query')
      const lines = await diffVersions(deps, c.var.caller, c.req.valid('param').persona_id, { from, to })
      return c.json({ from, to, lines }, 200)
    })
    .openapi(rollback, async (c) => {
      const { version } = c.req.valid('json')
      return c.json(
        personaToWire(await rollBackPersona(deps, c.var.caller, c.req.valid('param').persona_id, version)),
        200,
      )
    })
    .openapi(rollout, async (c) => {
      const { sticky_by, versions } = c.req.valid('json')
      const persona = await setRollout(deps, c.var.caller, c.req.valid('param').persona_id, {
        stickyBy: sticky_by,
        versions,
      })
      return c.json(personaToWire(persona), 200)
    })
    .openapi(endRollout, async (c) =>
      c.json(personaToWire(await setRollout(deps, c.var.caller, c.req.valid('param').persona_id, undefined)), 200),
    )
}

const versionNumber = z.coerce.number().int().min(1)

const list = createRoute({
  method: 'get',
  path: '/v1/personas/{persona_id}/versions',
  tags: ['personas'],
  security,
  summary: 'List the versions of a persona, newest first',
  request: {
    params: personaParams,
    query: z.object({
      limit: z.coerce.number().int().min(1).max(100).default(100).openapi({ description: 'How many at most.' }),
      cursor: versionNumber.optional().openapi({ description: 'The `next_cursor` of the page before.' }),
    }),
  },
  responses: {
    200: json('The versions', z.object({ versions: z.array(versionSchema), next_cursor: z.number().int().nullable() })),
    ...errorResponses,
  },
})

const get = createRoute({
  method: 'get',
  path: '/v1/personas/{persona_id}/versions/{version}',
  tags: ['personas'],
  security,
  summary: 'Get a version of a persona',
  request: { params: personaParams.extend({ version: versionNumber }) },
  responses: { 200: json('The version', versionSchema), ...errorResponses },
})

const diff = createRoute({
  method: 'get',
  path: '/v1/personas/{persona_id}/diff',
  tags: ['personas'],
  security,
  summary: 'What changed in the content from one version to another, line by line',
  request: { params: personaParams, query: z.object({ from: versionNumber, to: versionNumber }) },
  responses: {
    200: json(
      'The lines',
      z.object({
        from: z.number().int(),
        to: z.number().int(),
        lines: z.array(z.object({ kind: z.enum(['same', 'removed', 'added']), text: z.string() })),
      }),
    ),
    ...errorResponses,
  },
})

const rollback = createRoute({
  method: 'post',
  path: '/v1/personas/{persona_id}/rollback',
  tags: ['personas'],
  security,
  summary: 'Give every call an earlier version again, within a second; a rollout ends',
  request: {
    params: personaParams,
    body: { required: true, ...json('The version', z.strictObject({ version: z.number().int().min(1) })) },
  },
  responses: { 200: json('The persona', personaSchema), ...errorResponses },
})

const rollout = createRoute({
  method: 'put',
  path: '/v1/personas/{persona_id}/rollout',
  tags: ['personas'],
  security,
  summary: 'Divide the calls between versions, in whole percents that make 100',
  request: {
    params: personaParams,
    body: {
      required: true,
      ...json(
        'The rollout',
        z.strictObject({
          sticky_by: rolloutSchema.shape.sticky_by.default('session'),
          versions: z.array(z.strictObject({ version: z.number().int().min(1), percent: z.number().int() })),
        }),
      ),
    },
  },
  responses: { 200: json('The persona', personaSchema), ...errorResponses },
})

const endRollout = createRoute({
  method: 'delete',
  path: '/v1/personas/{persona_id}/rollout',
  tags: ['personas'],
  security,
  summary: 'End a rollout: every call gets the current version',
  request: { params: personaParams },
  responses: { 200: json('The persona', personaSchema), ...errorResponses },
})
