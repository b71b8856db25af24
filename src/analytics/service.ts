import { type Caller, requireScope } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { isUuid } from '../ids.ts'
import { type Period, type PeriodAsked, placePeriod } from './period.ts'
import {
  findModelsOf,
  findNames,
  findPersona,
  findPersonaInAny,
  findUserIds,
  listSessions,
  type Page,
  type PersonaUsageRow,
  type SessionFilter,
  type SessionRow,
  type SessionTotals,
  sumByModel,
  sumByPersona,
  sumByUser,
  sumPersonaBy,
  sumSessions,
  type Totals,
  type UserUsageRow,
} from './store.ts'
import { type SeriesRow, sumSeries, type UsageFilter } from './usage-store.ts'

interface Deps {
  db: Db
}

/** What reports on people have in common. */
export interface Asked {
  period: PeriodAsked
  /** An external id. */
  userId?: string | undefined
}

/** What each model was used for; its sums are those of all models, also of those that are too many to list. */
export async function reportModels({ db }: Deps, caller: Caller, asked: Asked) {
  return report(db, caller, asked, async (tx, { organizationId, period }) => {
    const models = await sumByModel(tx, organizationId, period, MODELS_MAX)
    return { period, models, totals: totalsOf(models) }
  })
}

/** Models are named by clients: a list of them needs an end. */
const MODELS_MAX = 1000

export async function reportUsers({ db }: Deps, caller: Caller, asked: Asked & Page) {
  return report(db, caller, asked, async (tx, { organizationId, period, filter }) => {
    const page = (at: Page) => sumByUser(tx, organizationId, period, filter, at)
    const rows: UserUsageRow[] = await page(asked)
    const models = await findModelsOf(
      tx,
      organizationId,
      period,
      rows.map((row) => row.user_id),
    )
    const users = rows.map((row) => ({ ...row, models: models.get(row.user_id) ?? [] }))
    return { period, users, totals: totalsOf(rows.length > 0 ? rows : await firstOf(page, asked)) }
  })
}

export async function reportPersonas({ db }: Deps, caller: Caller, asked: Asked & Page & { includeInactive: boolean }) {
  return report(db, caller, asked, async (tx, { organizationId, period, filter }) => {
    const { includeInactive } = asked
    const page = (at: Page) => sumByPersona(tx, organizationId, period, filter, { includeInactive, ...at })
    const personas: PersonaUsageRow[] = await page(asked)
    return { period, personas, totals: totalsOf(personas.length > 0 ? personas : await firstOf(page, asked)) }
  })
}

/** Totals come with rows: those of a page behind the last one are read from the first. */
async function firstOf<T>(page: (at: Page) => Promise<T[]>, { offset }: Page): Promise<T[]> {
  return offset === 0 ? [] : page({ limit: 1, offset: 0 })
}

export type PersonaReport = Awaited<ReturnType<typeof reportPersona>>

/** One persona in all the ways there are. @throws {AppError} `not_found`, for another organization's as for one that never was. */
export async function reportPersona({ db }: Deps, caller: Caller, personaId: string, asked: Asked) {
  if (!isUuid(personaId)) throw invalidPersonaId(personaId)
  return report(db, caller, asked, async (tx, { organizationId, period, filter }) => {
    const persona = await findPersona(tx, organizationId, personaId)
    if (!persona) throw personaNotFound(personaId)
    const which = { includeInactive: true, personaId, limit: 1, offset: 0 }
    const [row] = await sumByPersona(tx, organizationId, period, filter, which)
    const ofPersona = { ...filter, personaId }
    const days: SeriesRow[] = await sumSeries(tx, organizationId, {
      period,
      interval: 'day',
      columns: [],
      filter: ofPersona,
      after: undefined,
      limit: DAYS_MAX,
    })
    const models = await sumPersonaBy(tx, organizationId, period, ofPersona, 'model', MODELS_MAX)
    const users = filter.userIds ? [] : await sumPersonaBy(tx, organizationId, period, ofPersona, 'user_id', TOP_USERS)
    const names = await findNames(tx, organizationId, { users: users.map(({ key }) => key), keys: [], personas: [] })
    return {
      period,
      id: persona.id,
      name: persona.name,
      /** Undefined when the user that was asked for never used it. */
      persona: row,
      days,
      models,
      users: users.map((user) => ({ ...user, externalId: names.get(user.key) ?? null })).sort(busiestFirst),
    }
  })
}

const DAYS_MAX = 5000
const TOP_USERS = 10

/** The organization a persona belongs to, deleted or not, for operators who only have the persona's id. */
export async function getOrganizationOfPersona({ db }: Deps, personaId: string): Promise<string> {
  if (!isUuid(personaId)) throw invalidPersonaId(personaId)
  const found = await db.forOperator((tx) => findPersonaInAny(tx, personaId))
  if (!found) throw personaNotFound(personaId)
  return found.organization_id
}

function invalidPersonaId(id: string): AppError {
  return new AppError('invalid_request', `Invalid UUID format: ${id}`, { param: 'persona_id' })
}

function personaNotFound(id: string): AppError {
  return new AppError('not_found', `Persona not found: ${id}`)
}

export interface SessionsAsked extends Asked {
  includeActive: boolean
  includeCompleted: boolean
  limit: number
  offset: number
  after: { startedAt: Date; ownerId: string; sessionId: string } | undefined
}

/** Sessions that began in the period. Nobody ends a session: it is over when it was not used for half an hour. */
export async function reportSessions({ db }: Deps, caller: Caller, asked: SessionsAsked) {
  return report(db, caller, asked, async (tx, { organizationId, period, filter }) => {
    const which: SessionFilter = {
      period,
      userIds: filter.userIds,
      activeSince: new Date(Date.now() - SESSION_IDLE_MS),
      // Neither of the two is a way of not asking.
      isActive: asked.includeActive === asked.includeCompleted ? undefined : asked.includeActive,
    }
    const sessions: SessionRow[] = await listSessions(tx, organizationId, which, asked)
    const totals: SessionTotals = await sumSessions(tx, organizationId, which)
    return { period, sessions, totals }
  })
}

const SESSION_IDLE_MS = 30 * 60_000

interface Placed {
  organizationId: string
  period: Period
  filter: UsageFilter
}

/** What every report begins with: may the caller, which time, which user. */
export async function report<T>(
  db: Db,
  caller: Caller,
  { period, userId }: Asked,
  work: (tx: Tx, placed: Placed) => Promise<T>,
): Promise<T> {
  requireScope(caller, 'org:admin')
  const { organizationId } = caller
  return db.forOrganization(
    organizationId,
    async (tx) =>
      work(tx, {
        organizationId,
        period: await placePeriod(tx, period),
        filter: userId === undefined ? {} : { userIds: await findUserIds(tx, organizationId, userId) },
      }),
    REPORT_TIMEOUT_MS,
  )
}

/** Longer than a request may wait for its identity: a person waits for this. */
const REPORT_TIMEOUT_MS = 5000

function totalsOf(rows: readonly Totals[]): Totals {
  return rows[0] ?? { all_rows: 0n, all_requests: 0n, all_unpriced: 0n, all_cost_nano_usd: 0n }
}

/** Equally busy users by name, so that a report reads the same every time. */
function busiestFirst(a: NamedUser, b: NamedUser): number {
  return Number(b.request_count - a.request_count) || (a.externalId ?? '').localeCompare(b.externalId ?? '')
}

interface NamedUser {
  request_count: bigint
  externalId: string | null
}
