import type { Tx } from '../db/database.ts'
import type { Share } from './rollout.ts'
import type { Variables } from './template.ts'

export interface NewVersionRow {
  version: number
  content: string
  variables: string
  created_by: string
}

export async function insertVersion(tx: Tx, organizationId: string, personaId: string, row: NewVersionRow) {
  await tx
    .insertInto('persona_versions')
    .values({ ...row, organization_id: organizationId, persona_id: personaId })
    .execute()
}

export interface VersionRow {
  version: number
  content: string
  variables: Variables
  created_at: Date
  created_by: string
}

/** Newest first. */
export async function listVersionRows(
  tx: Tx,
  organizationId: string,
  personaId: string,
  page: { before: number | undefined; limit: number },
): Promise<VersionRow[]> {
  const query = versionRows(tx, organizationId, personaId)
  return (page.before === undefined ? query : query.where('version', '<', page.before))
    .orderBy('version', 'desc')
    .limit(page.limit)
    .execute()
}

export async function findVersionRow(
  tx: Tx,
  organizationId: string,
  personaId: string,
  version: number,
): Promise<VersionRow | undefined> {
  return versionRows(tx, organizationId, personaId).where('version', '=', version).executeTakeFirst()
}

export async function findNewestVersion(tx: Tx, organizationId: string, personaId: string): Promise<number> {
  const row = await tx
    .selectFrom('persona_versions')
    .select((eb) => eb.fn.max('version').as('newest'))
    .where('organization_id', '=', organizationId)
    .where('persona_id', '=', personaId)
    .executeTakeFirst()
  return row?.newest ?? 0
}

/** Ends whatever rollout there was. */
export async function replaceShares(tx: Tx, organizationId: string, personaId: string, shares: readonly Share[]) {
  await tx
    .deleteFrom('persona_rollouts')
    .where('organization_id', '=', organizationId)
    .where('persona_id', '=', personaId)
    .execute()
  if (shares.length === 0) return
  await tx
    .insertInto('persona_rollouts')
    .values(shares.map((share) => ({ ...share, organization_id: organizationId, persona_id: personaId })))
    .execute()
}

export interface ServedVersionRow {
  user_id: string | null
  is_active: boolean
  rollout_sticky_by: string
  version: number
  content: string
  variables: Variables
  percent: number | null
}

/** What calls get of a persona: the versions of its rollout, else its current one; nothing of one that is not there. */
export async function findServedVersions(tx: Tx, organizationId: string, id: string): Promise<ServedVersionRow[]> {
  return tx
    .selectFrom('personas')
    .innerJoin('persona_versions as versions', (join) =>
      join
        .onRef('versions.organization_id', '=', 'personas.organization_id')
        .onRef('versions.persona_id', '=', 'personas.id'),
    )
    .leftJoin('persona_rollouts as rollouts', (join) =>
      join
        .onRef('rollouts.organization_id', '=', 'versions.organization_id')
        .onRef('rollouts.persona_id', '=', 'versions.persona_id')
        .onRef('rollouts.version', '=', 'versions.version'),
    )
    .select(['personas.user_id', 'personas.is_active', 'personas.rollout_sticky_by'])
    .select(['versions.version', 'versions.content', 'versions.variables', 'rollouts.percent'])
    .where('personas.organization_id', '=', organizationId)
    .where('personas.id', '=', id)
    .where('personas.deleted_at', 'is', null)
    .where((eb) =>
      eb.or([
        eb('rollouts.version', 'is not', null),
        eb.and([
          eb('versions.version', '=', eb.ref('personas.current_version')),
          eb.not(
            eb.exists(
              eb
                .selectFrom('persona_rollouts as others')
                .select('others.version')
                .whereRef('others.organization_id', '=', 'personas.organization_id')
                .whereRef('others.persona_id', '=', 'personas.id'),
            ),
          ),
        ]),
      ]),
    )
    .orderBy('versions.version')
    .execute()
}

function versionRows(tx: Tx, organizationId: string, personaId: string) {
  return tx
    .selectFrom('persona_versions')
    .select(['version', 'content', 'variables', 'created_at', 'created_by'])
    .where('organization_id', '=', organizationId)
    .where('persona_id', '=', personaId)
}
