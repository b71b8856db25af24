import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Operator } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { isUuid } from '../ids.ts'
import { findOrganizationById, findOrganizationsByName, insertOrganization, listAllOrganizations } from './store.ts'

export interface Organization {
  id: string
  name: string
  createdAt: Date
}

interface Deps {
  db: Db
}

/** Creates an organization; names need not be unique. */
export async function createOrganization(
  { db }: Deps,
  operator: Operator,
  input: { name: string },
): Promise<Organization> {
  const name = input.name.trim()
  if (name === '' || name.length > NAME_MAX) {
    throw new AppError('invalid_request', `An organization's name has 1 to ${NAME_MAX} characters.`, { param: 'name' })
  }
  return db.forOperator(async (tx) => {
    const row = await insertOrganization(tx, name)
    await recordAudit(tx, asAdministrator(operator, row.id), {
      action: 'organization.create',
      target: row.id,
      details: { name },
    })
    return toOrganization(row)
  })
}

export async function listOrganizations({ db }: Deps, _operator: Operator): Promise<Organization[]> {
  const rows = await db.forOperator(listAllOrganizations)
  return rows.map(toOrganization)
}

export async function getOrganization({ db }: Deps, operator: Operator, id: string): Promise<Organization> {
  if (!isUuid(id)) throw new AppError('invalid_request', `Invalid UUID format: ${id}`, { param: 'organization_id' })
  const row = await db.forOrganization(asAdministrator(operator, id).organizationId, (tx) =>
    findOrganizationById(tx, id),
  )
  if (!row) throw new AppError('not_found', `Organization not found: ${id}`)
  return toOrganization(row)
}

/** The one organization of that name; the names of organizations need not be unique, so several are an error. */
export async function getOrganizationByName({ db }: Deps, _operator: Operator, name: string): Promise<Organization> {
  const rows = await db.forOperator((tx) => findOrganizationsByName(tx, name))
  if (rows.length > 1) {
    throw new AppError('conflict', `${rows.length} organizations are named "${name}": say which one with its id.`)
  }
  if (!rows[0]) throw new AppError('not_found', `Organization not found: ${name}`)
  return toOrganization(rows[0])
}

const NAME_MAX = 255

function toOrganization(row: { id: string; name: string; created_at: Date }): Organization {
  return { id: row.id, name: row.name, createdAt: row.created_at }
}
