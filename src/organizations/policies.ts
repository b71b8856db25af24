import { recordAudit } from '../audit/service.ts'
import { type Caller, requireScope } from '../auth/caller.ts'
import type { Db } from '../db/database.ts'
import type { OrganizationCache } from '../db/organization-cache.ts'
import { AppError } from '../errors.ts'
import { findPolicies, type PoliciesRow, upsertPolicies } from './store.ts'

/** How an organization wants its calls treated. */
export interface Policies {
  /** When the client goes: `abort` the call and estimate, or `drain` it to its end, within bounds, and know. */
  clientGone: 'abort' | 'drain'
  /** Calls to a model without a price: `allow` them, shown as unpriced, or `refuse` them. */
  unpricedModels: 'allow' | 'refuse'
  /** What is kept of requests and answers beside their accounting: `full`, sealed, or `none`. Holds for what comes next. */
  content: 'none' | 'full'
  /** How long content is kept, counted from the call: what is already kept goes at the deadline it was kept with. */
  contentDays: number
  /** How long the rows of calls are kept, by whole months; null: as the installation says. Sums are kept for ever. */
  rowsDays: number | null
  /**
   * What becomes of a caller's own instructions where a persona applies: it takes their place (`replace`), both are sent (`append`),
   * or nothing displaces it (`enforce`). A persona by default gives way to them under `replace`.
   */
  personas: 'replace' | 'append' | 'enforce'
  /** Where personas are enforced: messages of the roles system and developer are sent, dropped, or the call is refused. */
  systemItems: 'allow' | 'drop' | 'refuse'
}

const DEFAULT_POLICIES: Policies = {
  clientGone: 'abort',
  unpricedModels: 'allow',
  content: 'full',
  contentDays: 30,
  rowsDays: null,
  personas: 'replace',
  systemItems: 'allow',
}

export async function getPolicies({ db }: { db: Db }, caller: Caller): Promise<Policies> {
  requireScope(caller, 'org:admin')
  return db.forOrganization(caller.organizationId, async (tx) =>
    toPolicies(await findPolicies(tx, caller.organizationId)),
  )
}

/** Changes what is given and leaves the rest; holds on every replica within a second. */
export async function updatePolicies(
  { db }: { db: Db },
  caller: Caller,
  changes: Partial<Policies>,
): Promise<Policies> {
  requireScope(caller, 'org:admin')
  const { contentDays = DEFAULT_POLICIES.contentDays } = changes
  if (!Number.isInteger(contentDays) || contentDays < 1 || contentDays > CONTENT_DAYS_MAX) {
    throw new AppError('invalid_request', `Content is kept for 1 to ${CONTENT_DAYS_MAX} whole days.`, {
      param: 'content_days',
    })
  }
  const { rowsDays = null } = changes
  if (rowsDays !== null && (!Number.isInteger(rowsDays) || rowsDays < ROWS_DAYS_MIN || rowsDays > ROWS_DAYS_MAX)) {
    throw new AppError('invalid_request', `Rows are kept for ${ROWS_DAYS_MIN} to ${ROWS_DAYS_MAX} whole days.`, {
      param: 'rows_days',
    })
  }
  return db.forOrganization(caller.organizationId, async (tx) => {
    const policies = { ...toPolicies(await findPolicies(tx, caller.organizationId)), ...changes }
    const row = {
      client_gone: policies.clientGone,
      unpriced_models: policies.unpricedModels,
      content: policies.content,
      content_days: policies.contentDays,
      rows_days: policies.rowsDays,
      personas: policies.personas,
      system_items: policies.systemItems,
    }
    await upsertPolicies(tx, caller.organizationId, row)
    await recordAudit(tx, caller, {
      action: 'organization.policies',
      target: caller.organizationId,
      details: row,
    })
    return policies
  })
}

const CONTENT_DAYS_MAX = 3650
const ROWS_DAYS_MIN = 31
const ROWS_DAYS_MAX = 36_500

/** The data plane's view: cached, and dropped within a second of a change. */
export type PolicyReader = (organizationId: string) => Policies | Promise<Policies>

export function openPolicyReader({ db, cache }: { db: Db; cache: OrganizationCache }): PolicyReader {
  return (organizationId) =>
    cache.read(`policies:${organizationId}`, async () => {
      const row = await db.forOrganization(organizationId, (tx) => findPolicies(tx, organizationId))
      return { organizationId, value: toPolicies(row) }
    })
}

function toPolicies(row: PoliciesRow | undefined): Policies {
  if (!row) return DEFAULT_POLICIES
  return {
    clientGone: row.client_gone === 'drain' ? 'drain' : 'abort',
    unpricedModels: row.unpriced_models === 'refuse' ? 'refuse' : 'allow',
    content: row.content === 'none' ? 'none' : 'full',
    contentDays: row.content_days,
    rowsDays: row.rows_days,
    personas: row.personas === 'append' || row.personas === 'enforce' ? row.personas : 'replace',
    systemItems: row.system_items === 'drop' || row.system_items === 'refuse' ? row.system_items : 'allow',
  }
}
