import type { Tx } from '../db/database.ts'
import { divideHalfUp } from '../ledger/money.ts'
import {
  listRated,
  type RatedRow,
  type RatingColumn,
  type RatingFilter,
  type SatisfactionRow,
  sumRatings,
} from './store.ts'
import { type Share, wilsonInterval } from './wilson.ts'

export type { RatedRow, RatingFilter } from './store.ts'

/** How a group of answers was rated, and what that cost. */
export interface Satisfaction {
  ratingCount: number
  satisfiedCount: number
  /** Of the ratings those that say it helped; undefined without ratings. */
  share: Share | undefined
  /** What the rated answers cost that have a price. */
  costNanoUsd: bigint
  /** Rated answers without a price; they are in no figure of cost. */
  unpricedCount: number
  /**
   * What the rated answers cost for each of them that helped, half up. Only of rated ones, since of the others nobody knows; null when
   * none helped.
   */
  costPerSatisfiedNanoUsd: bigint | null
}

/** By what satisfaction is grouped. */
export const RATING_GROUPS = {
  none: [],
  persona: ['persona_id'],
  version: ['persona_id', 'persona_version'],
  model: ['model'],
  user: ['user_id'],
} as const satisfies Record<string, readonly RatingColumn[]>

export type RatingGroup = keyof typeof RATING_GROUPS

/** Satisfaction by group, the most rated first; `keys` are those of the group's columns, null for "none". */
export async function measureSatisfaction(
  tx: Tx,
  organizationId: string,
  filter: RatingFilter,
  group: RatingGroup,
  limit: number,
): Promise<{ keys: (string | null)[]; satisfaction: Satisfaction }[]> {
  const rows = await sumRatings(tx, organizationId, filter, RATING_GROUPS[group], limit)
  return rows.map((row) => ({ keys: row.keys, satisfaction: toSatisfaction(row) }))
}

/** Rated requests, the newest rating first. */
export async function listRatedRequests(
  tx: Tx,
  organizationId: string,
  filter: RatingFilter,
  page: { limit: number; offset: number; after: { ratedAt: Date; requestId: string } | undefined },
): Promise<RatedRow[]> {
  return listRated(tx, organizationId, filter, page)
}

function toSatisfaction(row: Omit<SatisfactionRow, 'keys'>): Satisfaction {
  return {
    ratingCount: Number(row.rating_count),
    satisfiedCount: Number(row.satisfied_count),
    share: wilsonInterval(Number(row.satisfied_count), Number(row.rating_count)),
    costNanoUsd: row.cost_nano_usd,
    unpricedCount: Number(row.unpriced_count),
    costPerSatisfiedNanoUsd:
      row.priced_satisfied_count === 0n ? null : divideHalfUp(row.cost_nano_usd, row.priced_satisfied_count),
  }
}
