import { recordAudit } from '../audit/service.ts'
import { type Caller, requireScope } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { type DiffLine, diffLines } from './diff.ts'
import { checkShares, type Share } from './rollout.ts'
import { getRow, lockPersona, type Persona, type Rollout, requirePersonaId } from './service.ts'
import { updatePersonaRow } from './store.ts'
import type { Variables } from './template.ts'
import { findVersionRow, listVersionRows, replaceShares, type VersionRow } from './version-store.ts'

/** A content as it was written once, and never changed. */
export interface PersonaVersion {
  version: number
  content: string
  variables: Variables
  createdAt: Date
  /** Who wrote it: `token:<id>` or `operator`. */
  createdBy: string
  /** Of the calls, how many in a hundred get it now. */
  percent: number
}

interface Deps {
  db: Db
}

/** Newest first. */
export async function listVersions(
  { db }: Deps,
  caller: Caller,
  id: string,
  page: { before?: number | undefined; limit?: number } = {},
): Promise<PersonaVersion[]> {
  requireScope(caller, 'org:admin')
  requirePersonaId(id)
  const { before, limit = 100_000 } = page
  return db.forOrganization(caller.organizationId, async (tx) => {
    const persona = await getRow(tx, caller.organizationId, id)
    const rows = await listVersionRows(tx, caller.organizationId, id, { before, limit })
    return rows.map((row) => toVersion(row, persona))
  })
}

export async function getVersion({ db }: Deps, caller: Caller, id: string, version: number): Promise<PersonaVersion> {
  requireScope(caller, 'org:admin')
  requirePersonaId(id)
  return db.forOrganization(caller.organizationId, async (tx) => {
    const persona = await getRow(tx, caller.organizationId, id)
    return toVersion(await getVersionRow(tx, caller.organizationId, id, version), persona)
  })
}

/** What changed in the content from one version to another. */
export async function diffVersions(
  deps: Deps,
  caller: Caller,
  id: string,
  { from, to }: { from: number; to: number },
): Promise<DiffLine[]> {
  const former = await getVersion(deps, caller, id, from)
  return diffLines(former.content, (await getVersion(deps, caller, id, to)).content)
}

/** Gives every call this version again, on every replica within a second. A rollout ends with it. */
export async function rollBackPersona({ db }: Deps, caller: Caller, id: string, version: number): Promise<Persona> {
  requireScope(caller, 'org:admin')
  requirePersonaId(id)
  const { organizationId } = caller
  return db.forOrganization(organizationId, async (tx) => {
    const before = await lockPersona(tx, organizationId, id)
    await getVersionRow(tx, organizationId, id, version)
    await replaceShares(tx, organizationId, id, [])
    await updatePersonaRow(tx, organizationId, id, { current_version: version })
    await recordAudit(tx, caller, {
      action: 'persona.rollback',
      target: id,
      details: { from_version: before.current_version, version },
    })
    return getRow(tx, organizationId, id)
  })
}

/** Divides the calls between versions; undefined ends that, and every call gets the current version. */
export async function setRollout(
  { db }: Deps,
  caller: Caller,
  id: string,
  rollout: Rollout | undefined,
): Promise<Persona> {
  requireScope(caller, 'org:admin')
  requirePersonaId(id)
  const { organizationId } = caller
  const shares: readonly Share[] = rollout?.versions ?? []
  if (rollout) checkShares(shares)
  return db.forOrganization(organizationId, async (tx) => {
    await lockPersona(tx, organizationId, id)
    for (const { version } of shares) await getVersionRow(tx, organizationId, id, version)
    await replaceShares(tx, organizationId, id, shares)
    await updatePersonaRow(tx, organizationId, id, rollout ? { rollout_sticky_by: rollout.stickyBy } : {})
    await recordAudit(tx, caller, {
      action: 'persona.rollout',
      target: id,
      details: {
        shares: shares.map(({ version, percent }) => `${version}=${percent}`),
        sticky_by: rollout?.stickyBy ?? null,
      },
    })
    return getRow(tx, organizationId, id)
  })
}

const VERSION_MAX = 2 ** 31 - 1

async function getVersionRow(tx: Tx, organizationId: string, id: string, version: number): Promise<VersionRow> {
  const isPossible = Number.isInteger(version) && version > 0 && version <= VERSION_MAX
  const row = isPossible ? await findVersionRow(tx, organizationId, id, version) : undefined
  if (!row) throw new AppError('not_found', `The persona has no version ${version}.`, { param: 'version' })
  return row
}

function toVersion(row: VersionRow, persona: Persona): PersonaVersion {
  const shares = persona.rollout?.versions ?? [{ version: persona.version, percent: 100 }]
  return {
    version: row.version,
    content: row.content,
    variables: row.variables,
    createdAt: row.created_at,
    createdBy: row.created_by,
    percent: shares.find(({ version }) => version === row.version)?.percent ?? 0,
  }
}
