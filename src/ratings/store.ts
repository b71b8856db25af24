import type { Tx } from '../db/database.ts'

export interface RatingRow {
  request_id: string
  response_id: string | null
  rating: number
  feedback: string | null
}

/** The last rating of a request wins. */
export async function upsertRating(tx: Tx, organizationId: string, row: RatingRow): Promise<Date> {
  const ratedAt = new Date()
  await tx
    .insertInto('ratings')
    .values({ ...row, organization_id: organizationId, rated_at: ratedAt })
    .onConflict((conflict) =>
      conflict
        .columns(['organization_id', 'request_id'])
        .doUpdateSet({ rating: row.rating, feedback: row.feedback, rated_at: ratedAt }),
    )
    .execute()
  return ratedAt
}
