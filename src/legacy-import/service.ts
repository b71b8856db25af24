import { checkUpstreamKey, sealingContext } from '../api-keys/service.ts'
import { displayParts } from '../api-keys/synthetic-key.ts'
import type { Vault } from '../api-keys/vault.ts'
import { recordAudit } from '../audit/service.ts'
import { asAdministrator, OPERATOR } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { type Metadata, toMetadataText } from '../personas/metadata.ts'
import { checkTemplate, variablesAsTheyStand } from '../personas/template.ts'
import { Secret } from '../secret.ts'
import { parseExternalId } from '../users/external-id.ts'
import type { OpenFernet } from './fernet.ts'
import { type TableReport, Tally } from './report.ts'
import { importRequests } from './requests.ts'
import type { LegacyApiKey, LegacyPersona, LegacySource, LegacyUser } from './source.ts'
import {
  findPresent,
  insertApiKey,
  insertOrganization,
  insertPersona,
  insertUser,
  listExternalIds,
  listPersonaNames,
} from './store.ts'

export interface ImportReport {
  tables: Record<
    'organizations' | 'users' | 'api_keys' | 'personas' | 'requests' | 'ratings' | 'response_ids',
    TableReport
  >
  /** What has no place here, by table. */
  notImported: Record<string, number>
}

export interface ImportDeps {
  db: Db
  vault: Vault
  source: LegacySource
  openFernet: OpenFernet
  isDryRun: boolean
}

/** What has a place here, by the id it had there. */
export interface Known {
  /** Organizations by id. */
  organizations: Set<string>
  /** Here and there by id: a user who was here already keeps the id they have here. */
  users: Map<string, { id: string; organizationId: string }>
  apiKeys: Set<string>
  /** The organization of each persona. */
  personas: Map<string, string>
}

/**
 * Takes over everything of an installation of the earlier system that has a place here, under the ids it had. Whatever is here already
 * stays as it is, so that stopping and beginning anew, or importing again, is safe.
 * @throws {AppError} before anything is changed when the Fernet key opens none of the keys.
 */
export async function importLegacy(
  deps: ImportDeps,
  onProgress: (requests: number, total: number) => void = () => {},
): Promise<ImportReport> {
  const { source } = deps
  const apiKeys = await source.apiKeys()
  if (apiKeys.length > 0 && !apiKeys.some((key) => deps.openFernet(key.openai_api_key) !== undefined)) {
    throw new AppError(
      'invalid_request',
      `The Fernet key opens none of the ${apiKeys.length} API keys: it has to be the ENCRYPTION_KEY of the earlier system.`,
    )
  }
  const known: Known = { organizations: new Set(), users: new Map(), apiKeys: new Set(), personas: new Map() }
  const organizations = await importOrganizations(deps, known)
  const users = await importUsers(deps, known)
  const keys = await importApiKeys(deps, known, apiKeys)
  const personas = await importPersonas(deps, known)
  const { requests, ratings, responseIds, sessions } = await importRequests(deps, known, onProgress)
  return {
    tables: { organizations, users, api_keys: keys, personas, requests, ratings, response_ids: responseIds },
    notImported: {
      analysis_configs: await source.count('analysis_configs'),
      analysis_results: await source.count('analysis_results'),
      sessions_without_requests: (await source.count('sessions')) - sessions,
    },
  }
}

async function importOrganizations({ db, source, isDryRun }: ImportDeps, known: Known): Promise<Tally> {
  const tally = new Tally()
  const rows = await source.organizations()
  const present = await db.forOperator((tx) =>
    findPresent(
      tx,
      'organizations',
      rows.map(({ id }) => id),
    ),
  )
  for (const row of rows) {
    tally.found += 1
    known.organizations.add(row.id)
    if (present.has(row.id)) {
      tally.present += 1
      continue
    }
    const name = row.name.trim()
    if (name === '') tally.change(row.id, 'it had no name: called "Unnamed"')
    if (!isDryRun) {
      await db.forOperator(async (tx) => {
        await insertOrganization(tx, { ...row, name: name || 'Unnamed' })
        await recordAudit(tx, asAdministrator(OPERATOR, row.id), { action: 'organization.import', target: row.id })
      })
    }
    tally.imported += 1
  }
  return tally
}

async function importUsers({ db, source, isDryRun }: ImportDeps, known: Known): Promise<Tally> {
  const tally = new Tally()
  const rows = await source.users()
  const present = await db.forOperator((tx) =>
    findPresent(
      tx,
      'users',
      rows.map(({ id }) => id),
    ),
  )
  for (const [organizationId, users] of Map.groupBy(rows, (row) => row.organization_id)) {
    const taken = await db.forOperator((tx) => listExternalIds(tx, organizationId))
    const legacyIds = new Set(users.map(({ id }) => id))
    for (const user of users) {
      tally.found += 1
      const found = { id: user.id, organizationId }
      known.users.set(user.id, found)
      if (present.has(user.id)) {
        tally.present += 1
        continue
      }
      const externalId = externalIdOf(user)
      const holder = externalId === undefined ? undefined : taken.get(externalId)
      if (holder !== undefined && !legacyIds.has(holder)) {
        // Made here by a first request, before the import.
        found.id = holder
        tally.change(user.id, 'a user of this external id is here already: it gets what was theirs')
        tally.present += 1
        continue
      }
      const name = externalId === undefined || holder !== undefined ? `legacy-${user.id}` : externalId
      if (name !== user.user_id) {
        tally.change(
          user.id,
          name === externalId
            ? 'its external id had blanks around it, which no header can have'
            : 'its external id cannot be sent, or is another user\'s without its blanks: called "legacy-<id>"',
        )
      }
      taken.set(name, user.id)
      if (!isDryRun) {
        await db.forOrganization(organizationId, (tx) =>
          insertUser(tx, organizationId, { id: user.id, externalId: name, created_at: user.created_at }),
        )
      }
      tally.imported += 1
    }
  }
  return tally
}

/** As a header would bring it; undefined for one that no header can. */
function externalIdOf(user: LegacyUser): string | undefined {
  try {
    return parseExternalId(user.user_id, 'user_id')
  } catch {
    return undefined
  }
}

async function importApiKeys(deps: ImportDeps, known: Known, rows: readonly LegacyApiKey[]): Promise<Tally> {
  const { db, vault, openFernet, isDryRun } = deps
  const tally = new Tally()
  const present = await db.forOperator((tx) =>
    findPresent(
      tx,
      'api_keys',
      rows.map(({ id }) => id),
    ),
  )
  for (const row of rows) {
    tally.found += 1
    if (present.has(row.id)) {
      tally.present += 1
      known.apiKeys.add(row.id)
      continue
    }
    const upstreamKey = upstreamKeyOf(openFernet(row.openai_api_key))
    if (typeof upstreamKey === 'string') {
      tally.skip(row.id, upstreamKey)
      continue
    }
    const userId = ownerOf(known, row)
    if (userId === undefined) {
      tally.skip(row.id, FOREIGN_USER)
      continue
    }
    if (row.is_active === null) tally.change(row.id, 'it was neither active nor inactive: imported as inactive')
    const description = cut(row.description, DESCRIPTION_MAX)
    if (description !== row.description)
      tally.change(row.id, `its description was cut to ${DESCRIPTION_MAX} characters`)
    known.apiKeys.add(row.id)
    tally.imported += 1
    if (isDryRun) continue
    const { prefix, last4 } = displayParts(row.synthetic_key)
    await db.forOrganization(row.organization_id, async (tx) =>
      insertApiKey(tx, row.organization_id, {
        id: row.id,
        userId,
        name: row.name,
        description,
        keyHash: vault.hash(row.synthetic_key),
        keyPrefix: prefix,
        keyLast4: last4,
        sealed: await vault.seal(tx, row.organization_id, sealingContext(row.id), upstreamKey),
        isActive: row.is_active === true,
        created_at: row.created_at,
        updated_at: row.updated_at,
      }),
    )
  }
  return tally
}

const FOREIGN_USER = "its user is of another organization: nobody could use it, and it must not become everybody's"
const DESCRIPTION_MAX = 4000

/** The key, or why it is none. */
function upstreamKeyOf(opened: string | undefined): Secret | string {
  if (opened === undefined)
    return 'the Fernet key does not open its OpenAI key: import again with the key it was sealed under'
  try {
    return checkUpstreamKey(new Secret(opened))
  } catch {
    return 'what it holds is no OpenAI key: empty, too short, or with blanks in it'
  }
}

/** Null for everybody; undefined when its user is of another organization. */
function ownerOf(known: Known, row: { organization_id: string; user_id: string | null }): string | null | undefined {
  if (row.user_id === null) return null
  const user = known.users.get(row.user_id)
  return user?.organizationId === row.organization_id ? user.id : undefined
}

async function importPersonas({ db, source, isDryRun }: ImportDeps, known: Known): Promise<Tally> {
  const tally = new Tally()
  const rows = await source.personas()
  const present = await db.forOperator((tx) =>
    findPresent(
      tx,
      'personas',
      rows.map(({ id }) => id),
    ),
  )
  for (const [organizationId, personas] of Map.groupBy(rows, (row) => row.organization_id)) {
    const names = await db.forOperator((tx) => listPersonaNames(tx, organizationId))
    for (const row of personas) {
      tally.found += 1
      known.personas.set(row.id, organizationId)
      if (present.has(row.id)) {
        tally.present += 1
        continue
      }
      const userId = ownerOf(known, row)
      const template = { content: row.content, variables: variablesAsTheyStand(row.content) }
      const why = userId === undefined ? FOREIGN_USER : refusalOf(() => checkTemplate(template))
      if (why !== undefined || userId === undefined) {
        tally.skip(row.id, why ?? FOREIGN_USER)
        continue
      }
      const name = freeName(names, row)
      if (name !== row.name) tally.change(row.id, 'its name was empty, or is taken here: its id is in it now')
      const description = cut(row.description, DESCRIPTION_MAX)
      if (description !== row.description)
        tally.change(row.id, `its description was cut to ${DESCRIPTION_MAX} characters`)
      const metadata = metadataOf(row)
      if (metadata === undefined) tally.change(row.id, 'its metadata was no object, too large or too deep: left out')
      if (row.is_active === null) tally.change(row.id, 'it was neither active nor inactive: imported as inactive')
      names.add(name)
      tally.imported += 1
      if (isDryRun) continue
      await db.forOrganization(organizationId, (tx: Tx) =>
        insertPersona(tx, organizationId, {
          id: row.id,
          userId,
          name,
          description,
          metadata: metadata ?? null,
          content: row.content,
          variables: JSON.stringify(template.variables),
          isActive: row.is_active === true,
          created_at: row.created_at,
          updated_at: row.updated_at,
        }),
      )
    }
  }
  return tally
}

function freeName(taken: ReadonlySet<string>, { id, name }: LegacyPersona): string {
  const trimmed = name.trim()
  return trimmed === '' || taken.has(trimmed) ? `${trimmed.slice(0, 200)} (${id})`.trim() : trimmed
}

function metadataOf({ metadata }: LegacyPersona): string | null | undefined {
  try {
    return toMetadataText(metadata as Metadata | null)
  } catch {
    return undefined
  }
}

function refusalOf(check: () => void): string | undefined {
  try {
    check()
    return undefined
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return error.message
  }
}

function cut(text: string | null, max: number): string | null {
  return text === null ? null : text.slice(0, max).toWellFormed()
}
