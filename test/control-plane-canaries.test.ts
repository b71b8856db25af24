/** What admin-api.test.ts holds route by route, for every route of the OpenAPI document, those of tomorrow included. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { sampleFromSchema } from '../simulator/sample-from-schema.ts'
import { startSystem, type TestOrganization } from './harness.ts'

interface Operation {
  requestBody?: { content: { 'application/json': { schema: Schema } } }
  parameters?: { in: string; name: string }[]
}

interface Schema {
  properties?: Record<string, { type?: string | string[]; enum?: unknown[] }>
  required?: string[]
}

interface Route {
  method: string
  path: string
  operation: Operation
}

/** An organization with a canary in every text that its administrator may set, and every id that it was told. */
interface Planted {
  organization: TestOrganization
  canary: string
  ids: string[]
}

const system = await startSystem()
const document = (await (await fetch(`${system.url}/openapi.json`)).json()) as {
  paths: Record<string, Record<string, Operation>>
}
const routes = Object.entries(document.paths).flatMap(([path, operations]) =>
  Object.entries(operations).map(([method, operation]): Route => ({ method: method.toUpperCase(), path, operation })),
)

test("an administrator sees, changes and deletes nothing of another organization's, at any documented route", {
  timeout: 300_000,
}, async () => {
  const victim = await plant()
  const attacker = await plant()
  const before = await everything(victim)
  for (const noun of ['users', 'keys']) assert.match(before, new RegExp(`/v1/api/${noun} .*${victim.canary}`))

  for (const { method, path, operation } of routes) {
    for (const target of targetsOf(path, operation, victim.ids)) {
      for (const body of bodiesOf(operation, victim.ids)) {
        const { status, text } = await ask(attacker.organization, method, target, body)
        const name = `${method} ${target} ${JSON.stringify(body) ?? ''}: ${status} ${text}`
        assert.ok(status < 500, name)
        assert.ok(!text.includes(victim.canary), name)
        if (path.includes('{')) assert.ok([400, 404].includes(status), name)
      }
    }
  }

  assert.equal(await everything(victim), before)
})

/** Makes one of everything that the document says can be made, and something of all that its applications leave behind. */
async function plant(): Promise<Planted> {
  const organization = await system.organization()
  const canary = `canary${randomBytes(12).toString('hex')}`
  const planted = { organization, canary, ids: [organization.id] }
  const answer = await organization.fetch('/v1/responses', {
    method: 'POST',
    userId: canary,
    headers: { 'x-session-id': canary },
    body: JSON.stringify({ model: 'gpt-4o-mini', input: canary, instructions: canary, metadata: { [canary]: canary } }),
  })
  assert.equal(answer.status, 200)
  collect(planted, JSON.parse(await answer.text()))
  planted.ids.push(answer.headers.get('x-request-id') ?? '')
  // Erasing makes nothing, and would take the canaries away.
  const makers = routes
    .filter(({ method, path }) => method === 'POST' && !path.endsWith('/erase'))
    .sort((a, b) => a.path.length - b.path.length)
  // Twice, because some things can only be made of others.
  for (const { path, operation } of [...makers, ...makers]) {
    for (const target of targetsOf(path, operation, planted.ids)) await make(planted, target, operation)
  }
  return planted
}

/** Asks with every field filled, and puts one id after another into a field that is refused, and at last nothing. */
async function make(planted: Planted, target: string, operation: Operation): Promise<void> {
  const schema = operation.requestBody?.content['application/json'].schema
  const body = schema && filled(schema, planted.canary)
  const candidates = new Map<string, string[]>()
  for (;;) {
    const { status, text } = await ask(planted.organization, 'POST', target, body)
    if (status < 300) return collect(planted, JSON.parse(text || '{}'))
    const { param } = (JSON.parse(text) as { error: { param: string | null } }).error
    if (!body || param === null || !(param in body)) return
    const left = candidates.get(param) ?? [...planted.ids]
    candidates.set(param, left)
    const next = left.shift()
    if (next === undefined) delete body[param]
    else body[param] = next
  }
}

function filled({ properties = {} }: Schema, canary: string): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(properties).map(([name, property]) => {
      const isText = [property.type].flat().includes('string') && !property.enum
      return [name, isText ? canary : sampleFromSchema(property)]
    }),
  )
}

/** The path with every id in every place, and with every id in each field of the query. */
function targetsOf(path: string, { parameters = [] }: Operation, ids: string[]): string[] {
  const inPath = path.includes('{') ? ids.map((id) => path.replaceAll(/\{\w+\}/g, id)) : [path]
  const inQuery = parameters
    .filter((parameter) => parameter.in === 'query' && /_id$|^after$|^before$/.test(parameter.name))
    .flatMap(({ name }) => ids.map((id) => `${inPath[0]}?${name}=${id}`))
  return [...inPath, ...inQuery]
}

/** Bodies that name each id in each field that may hold one. */
function bodiesOf({ requestBody }: Operation, ids: string[]): (Record<string, unknown> | undefined)[] {
  const schema = requestBody?.content['application/json'].schema
  if (!schema) return [undefined]
  const fields = Object.keys(schema.properties ?? {}).filter((name) => name.endsWith('_id'))
  const plain = filled(schema, `x${randomBytes(12).toString('hex')}`)
  return [plain, ...fields.flatMap((field) => ids.map((id) => ({ ...plain, [field]: id })))]
}

/** Every answer to a question that needs no more than an id, in a fixed order. */
async function everything({ organization, ids }: Planted): Promise<string> {
  const answers: string[] = []
  for (const { path, operation } of routes.filter(({ method, path }) => method === 'GET' && path.startsWith('/v1/'))) {
    for (const target of targetsOf(path, operation, ids)) {
      const { status, text } = await ask(organization, 'GET', target, undefined)
      // What is told of a moment is not the same a moment later.
      if (status === 200) answers.push(`${target} ${text.replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'then')}`)
    }
  }
  return answers.join('\n')
}

async function ask(
  organization: TestOrganization,
  method: string,
  path: string,
  body: Record<string, unknown> | undefined,
): Promise<{ status: number; text: string }> {
  const response = await organization.fetch(path, { method, userId: null, ...(body && { body: JSON.stringify(body) }) })
  return { status: response.status, text: await response.text() }
}

function collect(planted: Planted, value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  for (const [name, inner] of Object.entries(value)) {
    const isId = typeof inner === 'string' && (name === 'id' || name.endsWith('_id')) && inner !== planted.canary
    if (isId && !planted.ids.includes(inner)) planted.ids.push(inner)
    collect(planted, inner)
  }
}
