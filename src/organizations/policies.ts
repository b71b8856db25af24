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
  /** Requests under way at one time on each server; null: as many as `MAX_CONCURRENT_REQUESTS_PER_ORGANIZATION` says. */
  maxConcurrentRequests: number | null
  /**
   * What becomes of a caller's own instructions where a persona applies: it takes their place (`replace`), both are sent (`append`),
   * or nothing displaces it (`enforce`). A persona by default gives way to them under `replace`.
   */
  personas: 'replace' | 'append' | 'enforce'
  /** Where personas are enforced: messages of the roles system and developer are sent, dropped, or the call is refused. */
  systemItems: 'allow' | 'drop' | 'refuse'
  /** Who may use the responses, files and other objects made through the proxy: the `user` who made them, or the `organization`. */
  shareObjects: 'user' | 'organization'
  /** The models that may be used; null: every one. A name that ends in `*` stands for all that begin so. */
  models: string[] | null
  /**
   * How `prompt_cache_key`, `safety_identifier` and `user` reach OpenAI: `namespaced`, as a keyed hash for each organization and user;
   * `always`, so too, and with a `safety_identifier` where the caller sends none; or `as_sent`.
   */
  identifiers: 'namespaced' | 'as_sent' | 'always'
  /** Realtime client secrets, with which an application talks to OpenAI past the proxy, unaccounted for: `refuse` or `allow` them. */
  clientSecrets: 'refuse' | 'allow'
  /** Calls over WebSockets: `allow` them, or `refuse` them, upon which clients use HTTP. */
  websockets: 'allow' | 'refuse'
}

const DEFAULT_POLICIES: Policies = {
  clientGone: 'abort',
  unpricedModels: 'allow',
  content: 'full',
  contentDays: 30,
  rowsDays: null,
  maxConcurrentRequests: null,
  personas: 'replace',
  systemItems: 'allow',
  shareObjects: 'user',
  models: null,
  identifiers: 'namespaced',
  clientSecrets: 'refuse',
  websockets: 'allow',
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
  if (!isWholeNumberTo(CONTENT_DAYS_MAX, contentDays)) {
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
  const { maxConcurrentRequests = null } = changes
  if (maxConcurrentRequests !== null && !isWholeNumberTo(CONCURRENT_REQUESTS_MAX, maxConcurrentRequests)) {
    throw new AppError('invalid_request', `An organization has 1 to ${CONCURRENT_REQUESTS_MAX} requests under way.`, {
      param: 'max_concurrent_requests',
    })
  }
  if (changes.models) checkModels(changes.models)
  return db.forOrganization(caller.organizationId, async (tx) => {
    const policies = { ...toPolicies(await findPolicies(tx, caller.organizationId)), ...changes }
    const row = toPoliciesRow(policies)
    await upsertPolicies(tx, caller.organizationId, row)
    await recordAudit(tx, caller, {
      action: 'organization.policies',
      target: caller.organizationId,
      details: row,
    })
    return policies
  })
}

/** Under the names of the table, of the audit log and of the command line's documents. */
export function toPoliciesRow(policies: Policies) {
  return {
    client_gone: policies.clientGone,
    unpriced_models: policies.unpricedModels,
    content: policies.content,
    content_days: policies.contentDays,
    rows_days: policies.rowsDays,
    max_concurrent_requests: policies.maxConcurrentRequests,
    personas: policies.personas,
    system_items: policies.systemItems,
    share_objects: policies.shareObjects,
    models: policies.models,
    identifiers: policies.identifiers,
    client_secrets: policies.clientSecrets,
    websockets: policies.websockets,
  }
}

const CONTENT_DAYS_MAX = 3650
const ROWS_DAYS_MIN = 31
const ROWS_DAYS_MAX = 36_500
const CONCURRENT_REQUESTS_MAX = 100_000

function isWholeNumberTo(max: number, value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= max
}

function checkModels(models: readonly string[]): void {
  const isValid = models.length > 0 && models.length <= MODELS_MAX && models.every((model) => MODEL.test(model))
  if (isValid) return
  throw new AppError(
    'invalid_request',
    `Name 1 to ${MODELS_MAX} models, such as gpt-5 or gpt-5-*; the word "all" allows every one.`,
    { param: 'models' },
  )
}

const MODELS_MAX = 200
const MODEL = /^[\w.:/-]{1,255}\*?$/

/** Whether an organization may use a model. */
export function isModelAllowed({ models }: Pick<Policies, 'models'>, model: string): boolean {
  if (models === null) return true
  return models.some((allowed) => (allowed.endsWith('*') ? model.startsWith(allowed.slice(0, -1)) : model === allowed))
}

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
    maxConcurrentRequests: row.max_concurrent_requests,
    personas: row.personas === 'append' || row.personas === 'enforce' ? row.personas : 'replace',
    systemItems: row.system_items === 'drop' || row.system_items === 'refuse' ? row.system_items : 'allow',
    shareObjects: row.share_objects === 'organization' ? 'organization' : 'user',
    models: row.models,
    identifiers: row.identifiers === 'as_sent' || row.identifiers === 'always' ? row.identifiers : 'namespaced',
    clientSecrets: row.client_secrets === 'allow' ? 'allow' : 'refuse',
    websockets: row.websockets === 'refuse' ? 'refuse' : 'allow',
  }
}
