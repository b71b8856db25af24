import { createRoute, z } from '@hono/zod-openapi'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import type { Db } from '../db/database.ts'
import { errorResponses, json, pageQuery, security, timestamp } from '../http/openapi.ts'
import { createUser, deleteUser, getUser, listUsers, type User } from './service.ts'

/** `/v1/api/users`: the users of the caller's organization. */
export function userRoutes(deps: { db: Db }): Routes {
  return newRoutes()
    .openapi(create, async (c) => {
      const { user_id } = c.req.valid('json')
      return c.json(toWire(await createUser(deps, c.var.caller, { externalId: user_id })), 201)
    })
    .openapi(list, async (c) => {
      const users = await listUsers(deps, c.var.caller, c.req.valid('query'))
      return c.json({ users: users.map(toWire) }, 200)
    })
    .openapi(get, async (c) => c.json(toWire(await getUser(deps, c.var.caller, c.req.valid('param').user_id)), 200))
    .openapi(remove, async (c) => {
      await deleteUser(deps, c.var.caller, c.req.valid('param').user_id)
      return c.body(null, 204)
    })
}

const userSchema = z
  .object({
    id: z.uuid(),
    organization_id: z.uuid(),
    user_id: z.string().openapi({ description: "The id by which the organization's own systems know the user." }),
    created_at: timestamp,
  })
  .openapi('User')

const params = z.object({ user_id: z.string().openapi({ description: 'The internal id (UUID).' }) })

const create = createRoute({
  method: 'post',
  path: '/v1/api/users',
  tags: ['users'],
  security,
  summary: 'Create a user, or get the one that has this id',
  request: { body: { required: true, ...json('The user', z.strictObject({ user_id: z.string() })) } },
  responses: { 201: json('The user', userSchema), ...errorResponses },
})

const list = createRoute({
  method: 'get',
  path: '/v1/api/users',
  tags: ['users'],
  security,
  summary: 'List users, oldest first',
  request: { query: z.object(pageQuery) },
  responses: { 200: json('The users', z.object({ users: z.array(userSchema) })), ...errorResponses },
})

const get = createRoute({
  method: 'get',
  path: '/v1/api/users/{user_id}',
  tags: ['users'],
  security,
  summary: 'Get a user',
  request: { params },
  responses: { 200: json('The user', userSchema), ...errorResponses },
})

const remove = createRoute({
  method: 'delete',
  path: '/v1/api/users/{user_id}',
  tags: ['users'],
  security,
  summary: 'Delete a user: their keys are deactivated, their requests and costs stay on record',
  request: { params },
  responses: { 204: { description: 'Deleted' }, ...errorResponses },
})

function toWire(user: User) {
  return {
    id: user.id,
    organization_id: user.organizationId,
    user_id: user.externalId,
    created_at: user.createdAt.toISOString(),
  }
}
