import { getApiKey } from '../api-keys/service.ts'
import { recordAudit } from '../audit/service.ts'
import { type Caller, requireScope } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { getUser } from '../users/service.ts'
import { deleteDefault, listDefaultRows, upsertDefault } from './default-store.ts'
import { getPersona } from './service.ts'

/** Whose calls a default is for. */
export type DefaultScope = { kind: 'organization' } | { kind: 'user' | 'key'; id: string }

/** The persona of calls that name none. */
export interface PersonaDefault {
  scope: DefaultScope
  /** Of the user, where it is for one. */
  externalUserId: string | null
  personaId: string
  personaName: string
  isActive: boolean
}

interface Deps {
  db: Db
}

/** The default of the organization, then those of users, then those of keys. */
export async function listDefaults(
  { db }: Deps,
  caller: Caller,
  page: { limit: number; offset: number } = { limit: 100_000, offset: 0 },
): Promise<PersonaDefault[]> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  const rows = await db.forOrganization(organizationId, (tx) => listDefaultRows(tx, organizationId, page))
  return rows.map((row) => ({
    scope:
      row.scope === 'organization'
        ? { kind: 'organization' }
        : { kind: row.scope === 'key' ? 'key' : 'user', id: row.target_id },
    externalUserId: row.scope === 'user' ? row.external_id : null,
    personaId: row.persona_id,
    personaName: row.name,
    isActive: row.is_active,
  }))
}

/** Makes a persona the default of a scope, in place of the one before. */
export async function setDefault(deps: Deps, caller: Caller, scope: DefaultScope, personaId: string): Promise<void> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  const { targetId, userId } = await findTarget(deps, caller, scope)
  const persona = await getPersona(deps, caller, personaId)
  if (persona.userId !== null && persona.userId !== userId) {
    throw new AppError(
      'conflict',
      'The persona is restricted to one user: it can only be a default for that user or a key of theirs.',
      { param: 'persona_id' },
    )
  }
  await deps.db.forOrganization(organizationId, async (tx) => {
    await upsertDefault(tx, organizationId, { scope: scope.kind, target_id: targetId, persona_id: persona.id })
    await recordAudit(tx, caller, {
      action: 'persona.set_default',
      target: persona.id,
      details: { scope: scope.kind, target_id: targetId },
    })
  })
}

/** @throws {AppError} `not_found` when there is none. */
export async function removeDefault(deps: Deps, caller: Caller, scope: DefaultScope): Promise<void> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  const { targetId } = await findTarget(deps, caller, scope)
  await deps.db.forOrganization(organizationId, async (tx) => {
    if (!(await deleteDefault(tx, organizationId, scope.kind, targetId))) {
      throw new AppError('not_found', `There is no default persona for this ${scope.kind}.`)
    }
    await recordAudit(tx, caller, {
      action: 'persona.remove_default',
      target: targetId,
      details: { scope: scope.kind },
    })
  })
}

/** What the scope names must be there, and tells which user's calls alone it is about. */
async function findTarget(
  deps: Deps,
  caller: Caller,
  scope: DefaultScope,
): Promise<{ targetId: string; userId: string | null }> {
  if (scope.kind === 'organization') return { targetId: caller.organizationId, userId: null }
  if (scope.kind === 'user') {
    const { id } = await getUser(deps, caller, scope.id)
    return { targetId: id, userId: id }
  }
  const key = await getApiKey(deps, caller, scope.id)
  return { targetId: key.id, userId: key.userId }
}
