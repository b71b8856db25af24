import { randomUUID } from 'node:crypto'
import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Caller, type Operator, requireScope } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { isUuid } from '../ids.ts'
import { Secret } from '../secret.ts'
import { getUser } from '../users/service.ts'
import {
  type ApiKeyChanges,
  findApiKeyRow,
  findApiKeyRowsInAny,
  insertApiKey,
  listApiKeyRows,
  updateApiKeyRow,
} from './store.ts'
import { displayParts, isLegacySyntheticKey, isSyntheticKey, newSyntheticKey } from './synthetic-key.ts'
import type { Vault } from './vault.ts'

/** An API key as people see it: the synthetic key by its two ends, the OpenAI key not at all. */
export interface ApiKey {
  id: string
  organizationId: string
  /** Null: every user of the organization may use it. */
  userId: string | null
  externalUserId: string | null
  name: string | null
  description: string | null
  baseUrl: string | null
  /** `sk-proxy-AbCd1234...wxyz` */
  maskedSyntheticKey: string
  /** The first of the two ends, by which operators may name the key. */
  syntheticKeyPrefix: string
  isActive: boolean
  createdAt: Date
  updatedAt: Date
}

export interface NewApiKey {
  upstreamKey: Secret
  userId?: string | null | undefined
  name?: string | null | undefined
  description?: string | null | undefined
  /** Operators only: where this key's calls go instead of OPENAI_API_BASE_URL. */
  baseUrl?: string | null | undefined
}

/** Undefined leaves a field as it is; null empties it. */
export interface ApiKeyUpdate {
  isActive?: boolean | undefined
  userId?: string | null | undefined
  name?: string | null | undefined
  description?: string | null | undefined
  upstreamKey?: Secret | undefined
}

interface Deps {
  db: Db
  vault: Vault
}

/** Pairs a new synthetic key with a sealed OpenAI key. `syntheticKey` is shown this once and cannot be read again. */
export async function createApiKey(
  { db, vault }: Deps,
  caller: Caller,
  input: NewApiKey,
): Promise<{ apiKey: ApiKey; syntheticKey: Secret }> {
  requireScope(caller, 'org:admin')
  if (input.baseUrl && caller.actor !== 'operator') {
    throw new AppError('forbidden', "Only the operator may set a key's base URL, with the command line.", {
      param: 'base_url',
    })
  }
  const userId = await checkUser({ db }, caller, input.userId ?? null)
  const upstreamKey = checkUpstreamKey(input.upstreamKey)
  const syntheticKey = newSyntheticKey()
  const id = randomUUID()
  const { prefix, last4 } = displayParts(syntheticKey)
  const apiKey = await db.forOrganization(caller.organizationId, async (tx) => {
    await insertApiKey(tx, caller.organizationId, {
      id,
      user_id: userId,
      name: checkText(input.name, 'name', 255),
      description: checkText(input.description, 'description', 4000),
      base_url: input.baseUrl ?? null,
      key_hash: vault.hash(syntheticKey),
      key_prefix: prefix,
      key_last4: last4,
      upstream_key_sealed: await vault.seal(tx, caller.organizationId, sealingContext(id), upstreamKey),
    })
    await recordAudit(tx, caller, { action: 'api_key.create', target: id, details: { user_id: userId } })
    return getRow(tx, caller.organizationId, id)
  })
  return { apiKey, syntheticKey: new Secret(syntheticKey) }
}

export async function listApiKeys(
  { db }: { db: Db },
  caller: Caller,
  filter: { userId?: string | undefined; includeInactive?: boolean; limit?: number; offset?: number } = {},
): Promise<ApiKey[]> {
  requireScope(caller, 'org:admin')
  if (filter.userId !== undefined) requireUuid(filter.userId, 'user_id')
  const { userId, includeInactive = false, limit = 100_000, offset = 0 } = filter
  const rows = await db.forOrganization(caller.organizationId, (tx) =>
    listApiKeyRows(tx, caller.organizationId, { userId, includeInactive, limit, offset }),
  )
  return rows.map(toApiKey)
}

export async function getApiKey({ db }: { db: Db }, caller: Caller, id: string): Promise<ApiKey> {
  requireScope(caller, 'org:admin')
  requireUuid(id, 'key_id')
  return db.forOrganization(caller.organizationId, (tx) => getRow(tx, caller.organizationId, id))
}

export async function updateApiKey(
  { db, vault }: Deps,
  caller: Caller,
  id: string,
  update: ApiKeyUpdate,
): Promise<ApiKey> {
  requireScope(caller, 'org:admin')
  requireUuid(id, 'key_id')
  const changes: ApiKeyChanges = {}
  if (update.isActive !== undefined) changes.is_active = update.isActive
  if (update.userId !== undefined) changes.user_id = await checkUser({ db }, caller, update.userId)
  if (update.name !== undefined) changes.name = checkText(update.name, 'name', 255)
  if (update.description !== undefined) changes.description = checkText(update.description, 'description', 4000)
  if (update.isActive === true && changes.user_id === undefined) {
    // The key of a deleted user stays inactive, until it is given to somebody else.
    await checkUser({ db }, caller, (await getApiKey({ db }, caller, id)).userId)
  }
  return db.forOrganization(caller.organizationId, async (tx) => {
    await getRow(tx, caller.organizationId, id)
    if (update.upstreamKey) {
      const upstreamKey = checkUpstreamKey(update.upstreamKey)
      changes.upstream_key_sealed = await vault.seal(tx, caller.organizationId, sealingContext(id), upstreamKey)
    }
    await updateApiKeyRow(tx, caller.organizationId, id, changes)
    await recordAudit(tx, caller, {
      action: 'api_key.update',
      target: id,
      details: {
        changed: Object.keys(changes),
        ...(update.isActive === undefined ? {} : { is_active: update.isActive }),
      },
    })
    return getRow(tx, caller.organizationId, id)
  })
}

/**
 * The key an operator means by its id, its full synthetic key, or the prefix that lists show.
 * @returns the key with the caller that may administer it.
 */
export async function findApiKeyInAnyOrganization({ db, vault }: Deps, operator: Operator, text: string) {
  const rows = await db.forOperator((tx) => findApiKeyRowsInAny(tx, identifierOf(text, vault)))
  if (rows.length > 1) {
    const ids = rows.map(({ id }) => id).join(', ')
    throw new AppError('conflict', `Several API keys begin like that: name one by its id (${ids}).`)
  }
  const row = rows[0]
  if (!row) return undefined
  const caller = asAdministrator(operator, row.organization_id)
  return { caller, apiKey: await getApiKey({ db }, caller, row.id) }
}

/** What a sealed OpenAI key belongs to; it opens for this key's row and no other. */
export function sealingContext(apiKeyId: string): string {
  return `api-key|${apiKeyId}|upstream-key`
}

function identifierOf(text: string, vault: Vault): { id: string } | { hash: Buffer } | { prefix: string } {
  if (isUuid(text)) return { id: text }
  if (isSyntheticKey(text) || isLegacySyntheticKey(text)) return { hash: vault.hash(text) }
  // Lists show `sk-proxy-AbCd1234...wxyz`, which people copy whole.
  return { prefix: text.split(/\.\.\.|…/)[0] ?? text }
}

async function getRow(tx: Tx, organizationId: string, id: string): Promise<ApiKey> {
  const row = await findApiKeyRow(tx, organizationId, id)
  if (!row) throw new AppError('not_found', `API key not found: ${id}`)
  return toApiKey(row)
}

async function checkUser({ db }: { db: Db }, caller: Caller, userId: string | null): Promise<string | null> {
  if (userId === null) return null
  requireUuid(userId, 'user_id')
  try {
    await getUser({ db }, caller, userId)
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'not_found') throw error
    throw new AppError('invalid_request', `User not found: ${userId} in organization ${caller.organizationId}`, {
      param: 'user_id',
    })
  }
  return userId
}

/** @throws {AppError} `invalid_request` for what can be no OpenAI key. */
export function checkUpstreamKey(key: Secret): Secret {
  const text = key.reveal().trim()
  if (/^[\x21-\x7e]{8,512}$/.test(text)) return new Secret(text)
  throw new AppError('invalid_request', 'The OpenAI key must be 8 to 512 printable characters without spaces.', {
    param: 'openai_api_key',
  })
}

function checkText(text: string | null | undefined, param: string, max: number): string | null {
  if (text === null || text === undefined) return null
  if (text.length > max || text.includes('\0') || !text.isWellFormed()) {
    throw new AppError('invalid_request', `${param} has up to ${max} characters of plain text.`, { param })
  }
  return text
}

function requireUuid(text: string, param: string): void {
  if (!isUuid(text)) throw new AppError('invalid_request', `Invalid UUID format: ${text}`, { param })
}

function toApiKey(row: NonNullable<Awaited<ReturnType<typeof findApiKeyRow>>>): ApiKey {
  return {
    id: row.id,
    organizationId: row.organization_id,
    userId: row.user_id,
    externalUserId: row.external_id,
    name: row.name,
    description: row.description,
    baseUrl: row.base_url,
    maskedSyntheticKey: `${row.key_prefix}...${row.key_last4}`,
    syntheticKeyPrefix: row.key_prefix,
    isActive: row.is_active,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}
