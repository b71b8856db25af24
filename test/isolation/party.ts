import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type Policies, updatePolicies } from '../../src/organizations/policies.ts'
import { Secret } from '../../src/secret.ts'
import type { System, TestOrganization } from '../harness.ts'

/** Everybody's key leads to one project of OpenAI's, so that OpenAI's own check separates nobody. */
const SHARED_UPSTREAM_KEY = 'sk-shared-0123456789abcdef'

/** Somebody who asks: a user by token, or an organization's key without a user. */
export interface Party {
  name: string
  organization: TestOrganization
  user: string | null
  /** Parties of one circle may use each other's objects. */
  circle: string
  /** Stands in everything this party makes, and in nothing else. */
  canary: string
  headers: Record<string, string>
}

export interface Asked {
  method: string
  path: string
  /** An object is JSON, a form goes as multipart. */
  body?: Record<string, unknown> | FormData
}

export interface Answer {
  status: number
  text: string
  /** Without what is new in every answer. */
  headers: string
}

/** Organizations with the same users in each, who share their objects among themselves or do not. */
export async function newParties(
  system: System,
  {
    organizations,
    users,
    shareObjects,
  }: { organizations: number; users: (string | null)[]; shareObjects: Policies['shareObjects'] },
): Promise<Party[]> {
  const all = await Promise.all(Array.from({ length: organizations }, () => newOrganization(system, shareObjects)))
  return all.flatMap((organization) => users.map((user) => partyOf(organization, user, shareObjects)))
}

export async function ask(url: string, party: Party, { method, path, body }: Asked): Promise<Answer> {
  const isForm = body instanceof FormData
  const response = await fetch(`${url}/v1${path}`, {
    method,
    headers: { ...party.headers, ...(body && !isForm && { 'content-type': 'application/json' }) },
    ...(body && { body: isForm ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  const headers = [...response.headers].filter(([name]) => !CHANGING.has(name))
  return { status: response.status, text, headers: JSON.stringify(headers) }
}

const CHANGING = new Set(['date', 'x-request-id', 'x-session-id'])

async function newOrganization(system: System, shareObjects: Policies['shareObjects']): Promise<TestOrganization> {
  const organization = await system.organization()
  await updatePolicies(system.server.context, organization.admin, { clientSecrets: 'allow', shareObjects })
  const { syntheticKey, id } = await organization.createKey({ upstreamKey: new Secret(SHARED_UPSTREAM_KEY) })
  const path = `/v1/api/keys/${organization.apiKeyId}`
  assert.equal((await organization.fetch(path, { method: 'DELETE' })).status, 204)
  return { ...organization, syntheticKey, apiKeyId: id }
}

function partyOf(organization: TestOrganization, user: string | null, shareObjects: Policies['shareObjects']): Party {
  const { token, syntheticKey } = organization
  const name = `${user ?? 'the key alone'} of ${organization.id}`
  return {
    name,
    circle: shareObjects === 'user' ? name : organization.id,
    organization,
    user,
    canary: `canary${randomBytes(12).toString('hex')}`,
    headers: user === null ? bearer(syntheticKey) : { ...bearer(token), 'x-user-id': user },
  }
}

export function bearer(credential: string): Record<string, string> {
  return { authorization: `Bearer ${credential}` }
}
