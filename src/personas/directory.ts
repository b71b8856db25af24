import type { Db } from '../db/database.ts'
import type { OrganizationCache } from '../db/organization-cache.ts'
import { AppError } from '../errors.ts'
import { findDefaultRows, hasDefaults } from './default-store.ts'
import { chooseVersion, type Share } from './rollout.ts'
import type { Template } from './template.ts'
import { findServedVersions, findVersionRow, type ServedVersionRow } from './version-store.ts'

/** Whose call it is, and what it says about personas. */
export interface PersonaCall {
  organizationId: string
  userId: string | null
  /** The key that the call is made with. */
  apiKeyId: string
  sessionId: string
  /** The persona that the call names. */
  personaId: string | undefined
  /** What the response was made with that the call continues. */
  continues: { id: string; version: number } | undefined
}

/** A persona as one call gets it. */
export interface ServedPersona extends Template {
  id: string
  version: number
  /** The call did not name it. */
  isDefault: boolean
  /** Variables of any version that is being served. */
  knownVariables: ReadonlySet<string>
}

/** What the data plane needs of personas: cached, and dropped within a second when one changes. */
export interface PersonaDirectory {
  /**
   * The persona of a call: the one it names, else the default of its user, of its key, of its organization.
   * @param whenInactive what becomes of a call whose default is inactive: it gets the `next` default, or is refused (`refuse`).
   * @throws {AppError} `not_found`, the same for a persona that is unknown, inactive, another user's or another organization's.
   */
  choose(call: PersonaCall, whenInactive: 'next' | 'refuse'): Promise<ServedPersona | undefined>
  /** A version as it was written, of a deleted persona too. */
  content(organizationId: string, personaId: string, version: number): string | Promise<string>
}

export function openPersonaDirectory({ db, cache }: { db: Db; cache: OrganizationCache }): PersonaDirectory {
  /** What is not there is not remembered, or made-up ids could fill the cache. */
  function read(organizationId: string, personaId: string): CachedPersona | Promise<CachedPersona> {
    return cache.read(`persona:${organizationId}:${personaId}`, async () => {
      const rows = await db.forOrganization(organizationId, (tx) => findServedVersions(tx, organizationId, personaId))
      const [first] = rows
      if (!first) throw notFound()
      return { organizationId, value: toCached(personaId, first, rows) }
    })
  }

  /** Ids in the order in which they apply. Most organizations have no default, and are asked once. */
  async function readDefaults({ organizationId, userId, apiKeyId }: PersonaCall): Promise<readonly string[]> {
    const hasAny = await cache.read(`persona-defaults:${organizationId}`, async () => ({
      organizationId,
      value: await db.forOrganization(organizationId, (tx) => hasDefaults(tx, organizationId)),
    }))
    if (!hasAny) return []
    return cache.read(`persona-defaults:${organizationId}:${userId ?? ''}:${apiKeyId}`, async () => {
      const targets = [...(userId === null ? [] : [userId]), apiKeyId, organizationId]
      const rows = await db.forOrganization(organizationId, (tx) => findDefaultRows(tx, organizationId, targets))
      const value = ['user', 'key', 'organization'].flatMap((scope) =>
        rows.filter((row) => row.scope === scope).map((row) => row.persona_id),
      )
      return { organizationId, value }
    })
  }

  return {
    async choose(call, whenInactive) {
      const { organizationId, personaId } = call
      if (personaId !== undefined) {
        const named = await read(organizationId, personaId.toLowerCase())
        if (!isUsable(named, call)) throw notFound()
        return serve(named, call)
      }
      for (const id of await readDefaults(call)) {
        const bound = await read(organizationId, id)
        if (isUsable(bound, call)) return serve(bound, call)
        if (whenInactive === 'refuse') throw inactiveDefault()
      }
      return undefined
    },
    content(organizationId, personaId, version) {
      return cache.read(`persona-content:${organizationId}:${personaId}:${version}`, async () => {
        const row = await db.forOrganization(organizationId, (tx) =>
          findVersionRow(tx, organizationId, personaId, version),
        )
        return { organizationId, value: row?.content ?? '' }
      })
    },
  }
}

interface CachedPersona {
  id: string
  userId: string | null
  isActive: boolean
  stickyBy: 'session' | 'user'
  shares: Share[]
  templates: ReadonlyMap<number, Template>
  variables: ReadonlySet<string>
}

function toCached(id: string, first: ServedVersionRow, rows: readonly ServedVersionRow[]): CachedPersona {
  return {
    id,
    userId: first.user_id,
    isActive: first.is_active,
    stickyBy: first.rollout_sticky_by === 'user' ? 'user' : 'session',
    shares: rows.map(({ version, percent }) => ({ version, percent: percent ?? 100 })),
    templates: new Map(rows.map(({ version, content, variables }) => [version, { content, variables }])),
    variables: new Set(rows.flatMap(({ variables }) => Object.keys(variables))),
  }
}

function isUsable(persona: CachedPersona, { userId }: PersonaCall): boolean {
  return persona.isActive && (persona.userId === null || persona.userId === userId)
}

function serve(persona: CachedPersona, call: PersonaCall): ServedPersona {
  const version = versionFor(persona, call)
  const template = persona.templates.get(version)
  if (!template) throw new Error('A persona is served in a version that was not read.')
  return {
    ...template,
    id: persona.id,
    version,
    isDefault: call.personaId === undefined,
    knownVariables: persona.variables,
  }
}

/** A conversation keeps the version it began with for as long as that is served at all. */
function versionFor({ id, shares, stickyBy, templates }: CachedPersona, call: PersonaCall): number {
  const { continues, userId, apiKeyId, sessionId } = call
  if (continues?.id === id && templates.has(continues.version)) return continues.version
  const owner = userId ?? apiKeyId
  const isByUser = stickyBy === 'user' && userId !== null
  return chooseVersion(shares, id, isByUser ? owner : `${owner}:${sessionId}`)
}

function notFound(): AppError {
  return new AppError('not_found', 'There is no such persona for this user.', { param: 'persona_id' })
}

function inactiveDefault(): AppError {
  return new AppError(
    'conflict',
    'The default persona of this call is not active, and your organization makes no call without it. Ask an administrator.',
    { param: 'persona_id' },
  )
}
