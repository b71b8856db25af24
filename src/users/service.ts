import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Caller, type Operator, requireScope } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import type { OrganizationCache } from '../db/organization-cache.ts'
import { AppError } from '../errors.ts'
import { isUuid } from '../ids.ts'
import { parseExternalId } from './external-id.ts'
import {
  deactivateKeysOfUser,
  deactivatePersonasOfUser,
  ensureUserRow,
  findUserRow,
  findUserRowByExternalId,
  findUserRowInAny,
  listUserRows,
  markUserDeleted,
} from './store.ts'

export interface User {
  id: string
  organizationId: string
  /** The id by which the organization's own systems know the user. */
  externalId: string
  createdAt: Date
}

/** Creates a user, or returns the one that has this external id. */
export async function createUser(
  { db }: { db: Db },
  caller: Caller,
  input: { externalId: string },
): Promise<User & { isNew: boolean }> {
  requireScope(caller, 'org:admin')
  const externalId = parseExternalId(input.externalId, 'user_id')
  return db.forOrganization(caller.organizationId, async (tx) => {
    const { row, isNew } = await ensureUserRow(tx, caller.organizationId, externalId)
    // Without the external id: the log cannot be changed, and users may want to be forgotten.
    if (isNew) await recordAudit(tx, caller, { action: 'user.create', target: row.id })
    return { ...toUser(row), isNew }
  })
}

export async function listUsers(
  { db }: { db: Db },
  caller: Caller,
  page: { limit: number; offset: number } = { limit: 100_000, offset: 0 },
): Promise<User[]> {
  requireScope(caller, 'org:admin')
  const rows = await db.forOrganization(caller.organizationId, (tx) => listUserRows(tx, caller.organizationId, page))
  return rows.map(toUser)
}

export async function getUser({ db }: { db: Db }, caller: Caller, id: string): Promise<User> {
  requireScope(caller, 'org:admin')
  requireUserId(id)
  const row = await db.forOrganization(caller.organizationId, (tx) => findUserRow(tx, caller.organizationId, id))
  if (!row) throw userNotFound(id)
  return toUser(row)
}

/** The user whom the organization's own systems know by this id. */
export async function getUserByExternalId({ db }: { db: Db }, caller: Caller, text: string): Promise<User> {
  requireScope(caller, 'org:admin')
  const externalId = parseExternalId(text, 'user_id')
  const row = await db.forOrganization(caller.organizationId, (tx) =>
    findUserRowByExternalId(tx, caller.organizationId, externalId),
  )
  if (!row) throw userNotFound(externalId)
  return toUser(row)
}

/**
 * Deletes a user: their personal keys and personas stop working and never become anybody else's; their requests and costs stay on
 * record.
 * Whoever comes later with the same external id is a new user.
 */
export async function deleteUser({ db }: { db: Db }, caller: Caller, id: string): Promise<User> {
  requireScope(caller, 'org:admin')
  requireUserId(id)
  return db.forOrganization(caller.organizationId, async (tx) => {
    const row = await markUserDeleted(tx, caller.organizationId, id)
    if (!row) throw userNotFound(id)
    const details = {
      deactivated_keys: await deactivateKeysOfUser(tx, caller.organizationId, id),
      deactivated_personas: await deactivatePersonasOfUser(tx, caller.organizationId, id),
    }
    await recordAudit(tx, caller, { action: 'user.delete', target: id, details })
    return toUser(row)
  })
}

/** The organization a user belongs to, for operators who only have the user's id. */
export async function getUserInAnyOrganization({ db }: { db: Db }, operator: Operator, id: string) {
  requireUserId(id)
  const row = await db.forOperator((tx) => findUserRowInAny(tx, id))
  if (!row) throw userNotFound(id)
  return { user: toUser(row), caller: asAdministrator(operator, row.organization_id) }
}

/** What the data plane needs to turn an external id into a user. */
export interface UserDirectory {
  /** The user's internal id; the user is created when this is the first sight of them, once even when a hundred requests race. */
  resolve(organizationId: string, externalId: string): string | Promise<string>
}

export function openUserDirectory(deps: {
  db: Db
  cache: OrganizationCache
  newUsersPerMinuteMax: number
}): UserDirectory {
  const { db, cache, newUsersPerMinuteMax } = deps
  const created = new MinuteCounter()

  return {
    resolve(organizationId, externalId) {
      return cache.read(`user:${organizationId}:${externalId}`, async () => {
        const id = await db.forOrganization(organizationId, async (tx) => {
          const known = await findUserRowByExternalId(tx, organizationId, externalId)
          if (known) return known.id
          // A client that invents user ids must not be able to fill the table.
          if (created.count(organizationId) >= newUsersPerMinuteMax) throw tooManyNewUsers(newUsersPerMinuteMax)
          const { row, isNew } = await ensureUserRow(tx, organizationId, externalId)
          if (isNew) created.add(organizationId)
          return row.id
        })
        return { organizationId, value: id }
      })
    },
  }
}

/** Counts per organization within the current minute of this process. */
class MinuteCounter {
  #minute = 0
  #counts = new Map<string, number>()

  count(organizationId: string): number {
    this.#turn()
    return this.#counts.get(organizationId) ?? 0
  }

  add(organizationId: string): void {
    this.#turn()
    this.#counts.set(organizationId, (this.#counts.get(organizationId) ?? 0) + 1)
  }

  #turn(): void {
    const minute = Math.floor(performance.now() / 60_000)
    if (minute === this.#minute) return
    this.#minute = minute
    this.#counts = new Map()
  }
}

function tooManyNewUsers(max: number): AppError {
  return new AppError(
    'rate_limited',
    `More than ${max} new users came within a minute; known users are not affected.`,
    {
      param: 'X-User-ID',
      retryAfterSeconds: 60,
    },
  )
}

function requireUserId(id: string): void {
  if (!isUuid(id)) throw new AppError('invalid_request', `Invalid UUID format: ${id}`, { param: 'user_id' })
}

function userNotFound(id: string): AppError {
  return new AppError('not_found', `User not found: ${id}`)
}

function toUser(row: { organization_id: string; id: string; external_id: string; created_at: Date }): User {
  return { id: row.id, organizationId: row.organization_id, externalId: row.external_id, createdAt: row.created_at }
}
