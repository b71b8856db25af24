import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Caller, type Operator, requireScope } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { isUuid } from '../ids.ts'
import { getUser } from '../users/service.ts'
import { deleteDefaultsOfPersona, listDefaultRows } from './default-store.ts'
import { type Metadata, toMetadataText } from './metadata.ts'
import type { MetadataFilter } from './metadata-filter.ts'
import type { Share } from './rollout.ts'
import {
  findPersonaOrganizationInAny,
  findPersonaRow,
  insertPersona,
  listPersonaRows,
  lockPersonaRow,
  type PersonaChanges,
  type PersonaRow,
  updatePersonaRow,
} from './store.ts'
import { checkTemplate, isStorable, type Variables } from './template.ts'
import { findNewestVersion, insertVersion } from './version-store.ts'

/** A managed system prompt, with the text of its current version. */
export interface Persona {
  id: string
  organizationId: string
  name: string
  description: string | null
  /** Null: every user of the organization may use it. */
  userId: string | null
  externalUserId: string | null
  content: string
  variables: Variables
  metadata: Metadata | null
  isActive: boolean
  /** The version that calls get, unless there is a rollout. */
  version: number
  rollout: Rollout | undefined
  createdAt: Date
  updatedAt: Date
}

/** Which part of the calls gets which version, and what keeps to the version it once got. */
export interface Rollout {
  stickyBy: 'session' | 'user'
  versions: Share[]
}

export interface NewPersona {
  name: string
  content: string
  description?: string | null | undefined
  userId?: string | null | undefined
  variables?: Variables | null | undefined
  metadata?: Metadata | null | undefined
}

/** Undefined leaves a field as it is; null empties it. */
export interface PersonaUpdate {
  name?: string | undefined
  description?: string | null | undefined
  userId?: string | null | undefined
  metadata?: Metadata | null | undefined
  isActive?: boolean | undefined
  /** A change of content or variables is a new version. */
  content?: string | undefined
  variables?: Variables | undefined
  /** Makes the new version without giving it to any call yet. */
  isDraft?: boolean | undefined
}

interface Deps {
  db: Db
}

/** Creates a persona, whose content is its version 1. */
export async function createPersona({ db }: Deps, caller: Caller, input: NewPersona): Promise<Persona> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  const row = {
    name: checkName(input.name),
    description: checkDescription(input.description),
    user_id: await checkUser({ db }, caller, input.userId ?? null),
    metadata: toMetadataText(input.metadata),
  }
  const template = { content: input.content, variables: input.variables ?? {} }
  checkTemplate(template)
  return db.forOrganization(organizationId, async (tx) => {
    const id = await insertPersona(tx, organizationId, row)
    if (id === undefined) throw nameTaken(row.name)
    await insertVersion(tx, organizationId, id, {
      version: 1,
      content: template.content,
      variables: JSON.stringify(template.variables),
      created_by: caller.actor,
    })
    await recordAudit(tx, caller, {
      action: 'persona.create',
      target: id,
      details: { name: row.name, user_id: row.user_id },
    })
    return getRow(tx, organizationId, id)
  })
}

export interface PersonaFilter {
  /** Those of everyone and those of this user (internal id); null for those of everyone alone. */
  userId?: string | null | undefined
  includeInactive?: boolean
  metadata?: readonly MetadataFilter[]
  /** Names behind this one. */
  afterName?: string | undefined
  limit?: number
}

/** By name. */
export async function listPersonas({ db }: Deps, caller: Caller, filter: PersonaFilter = {}): Promise<Persona[]> {
  requireScope(caller, 'org:admin')
  const { userId, includeInactive = false, metadata = [], afterName, limit = 100_000 } = filter
  const rows = await db.forOrganization(caller.organizationId, (tx) =>
    listPersonaRows(tx, caller.organizationId, { userId, includeInactive, metadata, afterName, limit }),
  )
  return rows.map(toPersona)
}

export async function getPersona({ db }: Deps, caller: Caller, id: string): Promise<Persona> {
  requireScope(caller, 'org:admin')
  requirePersonaId(id)
  return db.forOrganization(caller.organizationId, (tx) => getRow(tx, caller.organizationId, id))
}

/** Changes what is given; holds on every replica within a second. */
export async function updatePersona({ db }: Deps, caller: Caller, id: string, update: PersonaUpdate): Promise<Persona> {
  requireScope(caller, 'org:admin')
  requirePersonaId(id)
  const changes: PersonaChanges = {}
  if (update.name !== undefined) changes.name = checkName(update.name)
  if (update.description !== undefined) changes.description = checkDescription(update.description)
  if (update.metadata !== undefined) changes.metadata = toMetadataText(update.metadata)
  if (update.isActive !== undefined) changes.is_active = update.isActive
  if (update.userId !== undefined) changes.user_id = await checkUser({ db }, caller, update.userId)
  else if (update.isActive === true) await refuseDeletedUser({ db }, caller, id)
  return db.forOrganization(caller.organizationId, (tx) => applyUpdate(tx, caller, id, changes, update))
}

async function applyUpdate(
  tx: Tx,
  caller: Caller,
  id: string,
  changes: PersonaChanges,
  update: PersonaUpdate,
): Promise<Persona> {
  const { organizationId } = caller
  const before = await lockPersona(tx, organizationId, id)
  if (changes.user_id) await refuseRestrictingDefault(tx, organizationId, id)
  const version = await addVersion(tx, caller, before, update)
  if (version !== undefined && !update.isDraft) changes.current_version = version
  if (Object.keys(changes).length > 0) {
    const outcome = await updatePersonaRow(tx, organizationId, id, changes)
    if (outcome === 'name_taken') throw nameTaken(changes.name ?? before.name)
  }
  await recordAudit(tx, caller, {
    action: 'persona.update',
    target: id,
    details: {
      changed: Object.keys(changes),
      ...(version !== undefined && { version, is_draft: update.isDraft ?? false }),
      ...(update.isActive !== undefined && { is_active: update.isActive }),
    },
  })
  return getRow(tx, organizationId, id)
}

/** @returns the number of the new version; undefined when content and variables are what they were. */
async function addVersion(
  tx: Tx,
  caller: Caller,
  before: PersonaRow,
  update: PersonaUpdate,
): Promise<number | undefined> {
  const template = { content: update.content ?? before.content, variables: update.variables ?? before.variables }
  const isChanged =
    template.content !== before.content || variablesText(template.variables) !== variablesText(before.variables)
  if (!isChanged) {
    if (!update.isDraft) return undefined
    throw new AppError('invalid_request', 'A draft needs a content, or variables, that differ from the current ones.', {
      param: 'draft',
    })
  }
  checkTemplate(template)
  if (before.rollout.length > 0 && !update.isDraft) {
    throw new AppError(
      'conflict',
      'A rollout is under way. Make the new version as a draft and put it into the rollout, or end the rollout first.',
      { param: 'content' },
    )
  }
  const { organizationId } = caller
  const version = (await findNewestVersion(tx, organizationId, before.id)) + 1
  await insertVersion(tx, organizationId, before.id, {
    version,
    content: template.content,
    variables: JSON.stringify(template.variables),
    created_by: caller.actor,
  })
  return version
}

/** Deletes a persona, used or not: its name is free again, and what was asked with it keeps name and version. */
export async function deletePersona(
  { db }: Deps,
  caller: Caller,
  id: string,
): Promise<{ persona: Persona; removedDefaults: number }> {
  requireScope(caller, 'org:admin')
  requirePersonaId(id)
  const { organizationId } = caller
  return db.forOrganization(organizationId, async (tx) => {
    const persona = toPersona(await lockPersona(tx, organizationId, id))
    const removedDefaults = await deleteDefaultsOfPersona(tx, organizationId, id)
    await updatePersonaRow(tx, organizationId, id, { is_active: false, deleted_at: new Date() })
    await recordAudit(tx, caller, {
      action: 'persona.delete',
      target: id,
      details: { name: persona.name, removed_defaults: removedDefaults },
    })
    return { persona, removedDefaults }
  })
}

/** The persona an operator means by its id, with the caller that may administer it. */
export async function getPersonaInAnyOrganization({ db }: Deps, operator: Operator, id: string) {
  requirePersonaId(id)
  const organizationId = await db.forOperator((tx) => findPersonaOrganizationInAny(tx, id))
  if (organizationId === undefined) throw personaNotFound(id)
  const caller = asAdministrator(operator, organizationId)
  return { caller, persona: await getPersona({ db }, caller, id) }
}

/** The living persona, held until the transaction ends. */
export async function lockPersona(tx: Tx, organizationId: string, id: string): Promise<PersonaRow> {
  const row = await lockPersonaRow(tx, organizationId, id)
  if (!row) throw personaNotFound(id)
  return row
}

export async function getRow(tx: Tx, organizationId: string, id: string): Promise<Persona> {
  const row = await findPersonaRow(tx, organizationId, id)
  if (!row) throw personaNotFound(id)
  return toPersona(row)
}

export function requirePersonaId(id: string): void {
  if (!isUuid(id)) throw new AppError('invalid_request', `Invalid UUID format: ${id}`, { param: 'persona_id' })
}

const NAME_MAX = 255
const DESCRIPTION_MAX = 4000

function checkName(text: string): string {
  const name = text.trim()
  if (name !== '' && name.length <= NAME_MAX && isStorable(name)) return name
  throw new AppError('invalid_request', `A persona's name has 1 to ${NAME_MAX} characters of plain text.`, {
    param: 'name',
  })
}

function checkDescription(text: string | null | undefined): string | null {
  if (text === null || text === undefined) return null
  if (text.length <= DESCRIPTION_MAX && isStorable(text)) return text
  throw new AppError('invalid_request', `A description has up to ${DESCRIPTION_MAX} characters of plain text.`, {
    param: 'description',
  })
}

/** @throws {AppError} `not_found` for a user who is not there: a persona never falls to everyone for want of its user. */
async function checkUser(deps: Deps, caller: Caller, userId: string | null): Promise<string | null> {
  return userId === null ? null : (await getUser(deps, caller, userId)).id
}

/** The persona of a deleted user stays inactive until it is given to somebody else. */
async function refuseDeletedUser(deps: Deps, caller: Caller, id: string): Promise<void> {
  await checkUser(deps, caller, (await getPersona(deps, caller, id)).userId)
}

/** Else calls that get it by default would be left without, and nobody would have said so. */
async function refuseRestrictingDefault(tx: Tx, organizationId: string, id: string): Promise<void> {
  const bound = await listDefaultRows(tx, organizationId, { personaId: id, limit: 1, offset: 0 })
  if (bound.length === 0) return
  throw new AppError('conflict', 'The persona is a default: remove that before restricting it to a user.', {
    param: 'user_id',
  })
}

function variablesText(variables: Variables): string {
  return JSON.stringify(Object.entries(variables).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function nameTaken(name: string): AppError {
  return new AppError('conflict', `A persona named "${name}" already exists.`, { param: 'name' })
}

function personaNotFound(id: string): AppError {
  return new AppError('not_found', `Persona not found: ${id}`)
}

function toPersona(row: PersonaRow): Persona {
  return {
    id: row.id,
    organizationId: row.organization_id,
    name: row.name,
    description: row.description,
    userId: row.user_id,
    externalUserId: row.external_id,
    content: row.content,
    variables: row.variables,
    metadata: row.metadata,
    isActive: row.is_active,
    version: row.current_version,
    rollout:
      row.rollout.length === 0
        ? undefined
        : { stickyBy: row.rollout_sticky_by === 'user' ? 'user' : 'session', versions: row.rollout },
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}
