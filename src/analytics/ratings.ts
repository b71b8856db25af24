import type { Vault } from '../api-keys/vault.ts'
import type { Caller } from '../auth/caller.ts'
import { previewInput, previewOutput } from '../content/preview.ts'
import { readBodies } from '../content/service.ts'
import type { Db } from '../db/database.ts'
import {
  listRatedRequests,
  measureSatisfaction,
  type RatedRow,
  type RatingFilter,
  type RatingGroup,
  type Satisfaction,
} from '../ratings/satisfaction.ts'
import type { Period } from './period.ts'
import { type Asked, report } from './service.ts'
import { findNames } from './store.ts'

export interface SatisfactionAsked extends Asked {
  groupBy: RatingGroup
  personaId?: string | undefined
}

export interface SatisfactionGroup {
  /** Of the columns of the group, in their order; null for "none". */
  keys: (string | null)[]
  satisfaction: Satisfaction
}

export interface SatisfactionReport {
  period: Period
  groups: SatisfactionGroup[]
  all: Satisfaction
  names: ReadonlyMap<string, string>
}

/** Whether answers helped, and what one that did cost. A rating belongs to the time of its request. */
export async function reportSatisfaction(
  { db }: { db: Db },
  caller: Caller,
  asked: SatisfactionAsked,
): Promise<SatisfactionReport> {
  return report(db, caller, asked, async (tx, { organizationId, period, filter }) => {
    const which = { ...period, userIds: filter.userIds, personaId: asked.personaId }
    const groups = await measureSatisfaction(tx, organizationId, which, asked.groupBy, GROUPS_MAX)
    const [all] = await measureSatisfaction(tx, organizationId, which, 'none', 1)
    if (!all) throw new Error('An aggregate without groups has one row.')
    const first = groups.flatMap(({ keys }) => keys[0] ?? [])
    const names = await findNames(tx, organizationId, {
      users: asked.groupBy === 'user' ? first : [],
      keys: [],
      personas: asked.groupBy === 'persona' || asked.groupBy === 'version' ? first : [],
    })
    return { period, groups: asked.groupBy === 'none' ? [] : groups, all: all.satisfaction, names }
  })
}

const GROUPS_MAX = 1000

export interface RatedAsked extends Asked {
  rating?: number | undefined
  sessionId?: string | undefined
  limit: number
  offset: number
  after: { ratedAt: Date; requestId: string } | undefined
}

export interface RatedResponse {
  row: RatedRow
  /** Undefined when it is not kept, or cannot be read. */
  inputPreview: string | undefined
  outputPreview: string | undefined
}

/** Rated answers, the newest rating first, each with the beginning of what was asked and answered. */
export async function reportRated({ db, vault }: { db: Db; vault: Vault }, caller: Caller, asked: RatedAsked) {
  const { period, rows, positive, total } = await report(db, caller, asked, async (tx, placed) => {
    const { organizationId, period, filter } = placed
    const { rating, sessionId } = asked
    const which: RatingFilter = { ...period, userIds: filter.userIds, rating, sessionId }
    const [all] = await measureSatisfaction(tx, organizationId, which, 'none', 1)
    return {
      period,
      rows: await listRatedRequests(tx, organizationId, which, asked),
      positive: all?.satisfaction.satisfiedCount ?? 0,
      total: all?.satisfaction.ratingCount ?? 0,
    }
  })
  const attemptIds = rows.map((row) => row.attempt_id)
  const previews = await readBodies({ db, vault }, caller, attemptIds, (bodies) => ({
    inputPreview: previewInput(bodies.get('request'), PREVIEW_CHARACTERS),
    outputPreview: previewOutput(bodies.get('response'), PREVIEW_CHARACTERS),
  }))
  const responses: RatedResponse[] = rows.map((row) => ({
    row,
    inputPreview: previews.get(row.attempt_id)?.inputPreview,
    outputPreview: previews.get(row.attempt_id)?.outputPreview,
  }))
  return { period, responses, total, positive, negative: total - positive }
}

const PREVIEW_CHARACTERS = 100
