import { recordAudit } from '../audit/service.ts'
import { asAdministrator, OPERATOR } from '../auth/caller.ts'
import { deleteContentBefore } from '../content/purge.ts'
import type { Db } from '../db/database.ts'
import { ensurePartitions, limitLockWaits, withoutBlocking } from '../db/migrate.ts'
import { startPeriodic } from '../periodic.ts'
import {
  countRowsByOrganization,
  deleteRows,
  dropMonth,
  findDueMarks,
  isMonthKept,
  listMarks,
  listMonths,
  lockAttempts,
  type Month,
  type RowsMark,
  raiseMark,
} from './retention-store.ts'

interface Deps {
  db: Db
  /** For organizations whose policy does not say; null: for ever. */
  rowsDays: number | null
}

/** A month some of whose rows are no longer kept. */
export interface MonthPlan {
  /** `2026-01` */
  month: string
  rows: number
  expiredRows: number
}

export interface Retention {
  months: string[]
  rows: number
  contents: number
}

/** What `applyRetention` would do now. Changes nothing. */
export async function planRetention({ db, rowsDays }: Deps): Promise<MonthPlan[]> {
  const { due, marks, months } = await db.forOperator(async (tx) => ({
    due: await findDueMarks(tx, rowsDays),
    marks: await listMarks(tx),
    months: await listMonths(tx),
  }))
  const allowed = new Map([...marks, ...due].map(({ organization_id, rows_from }) => [organization_id, rows_from]))
  const plans: MonthPlan[] = []
  for (const month of months) {
    if (![...allowed.values()].some((from) => from >= month.to)) continue
    const counts = await db.forOwner((tx) => countRowsByOrganization(tx, month))
    const isExpired = ({ organization_id }: { organization_id: string }) =>
      (allowed.get(organization_id) ?? '') >= month.to
    plans.push({ month: nameOf(month), rows: sum(counts), expiredRows: sum(counts.filter(isExpired)) })
  }
  return plans
}

/**
 * Lets go of the rows that no policy keeps: a month that nobody keeps is dropped whole, of others the rows of those who do not. Content
 * goes with its rows; sums stay for ever. Stopped at any point, doing it again goes on where it stopped.
 */
export async function applyRetention(deps: Deps, signal?: AbortSignal): Promise<Retention> {
  const { db } = deps
  const done: Retention = { months: [], rows: 0, contents: 0 }
  await ensurePartitions(db)
  for (const mark of await db.forOperator((tx) => findDueMarks(tx, deps.rowsDays))) await announce(db, mark)
  const { marks, months } = await db.forOperator(async (tx) => ({
    marks: await listMarks(tx),
    months: await listMonths(tx),
  }))
  for (const { organization_id, rows_from } of marks) {
    if (signal?.aborted) return done
    done.contents += await deleteContentBefore({ db }, organization_id, rows_from)
  }
  for (const month of months) {
    const expired = marks.filter(({ rows_from }) => rows_from >= month.to)
    if (expired.length === 0) continue
    if (signal?.aborted) return done
    const dropped = await dropIfNobodyKeeps(db, month)
    done.rows += dropped ?? 0
    if (dropped !== undefined) done.months.push(nameOf(month))
    else for (const { organization_id } of expired) done.rows += await deleteAll(db, organization_id, month)
  }
  return done
}

/** Looks after the table of attempts: partitions for the months to come, and none for those that nobody keeps. */
export function startRetention(
  deps: Deps & { onDone: (retention: Retention) => void; onFault: (error: Error) => void },
): AsyncDisposable {
  return startPeriodic({
    async work(signal) {
      const done = await applyRetention(deps, signal)
      if (done.rows > 0 || done.contents > 0 || done.months.length > 0) deps.onDone(done)
    },
    intervalMs: 6 * 3_600_000,
    retryMs: 60_000,
    onFault: deps.onFault,
  })
}

const BATCH = 2000
const BATCH_TIMEOUT_MS = 5000

/** Before anything goes: from here on verification, and rows that come late, know that it may be gone. */
async function announce(db: Db, mark: RowsMark): Promise<void> {
  await db.forOrganization(mark.organization_id, async (tx) => {
    await raiseMark(tx, mark)
    await recordAudit(tx, asAdministrator(OPERATOR, mark.organization_id), {
      action: 'organization.drop_rows',
      target: mark.organization_id,
      details: { rows_from: mark.rows_from },
    })
  })
}

/** @returns how many rows went with it; undefined when somebody keeps some. */
async function dropIfNobodyKeeps(db: Db, month: Month): Promise<number | undefined> {
  if (await db.forOwner((tx) => isMonthKept(tx, month))) return undefined
  const rows = sum(await db.forOwner((tx) => countRowsByOrganization(tx, month)))
  return withoutBlocking(() =>
    db.forOwner(async (tx) => {
      await limitLockWaits(tx)
      await lockAttempts(tx)
      // Somebody's row may have come meanwhile; from here on none can.
      if (await isMonthKept(tx, month)) return undefined
      await dropMonth(tx, month)
      return rows
    }),
  )
}

async function deleteAll(db: Db, organizationId: string, month: Month): Promise<number> {
  let deleted = 0
  for (;;) {
    const count = await db.forOrganization(
      organizationId,
      (tx) => deleteRows(tx, organizationId, month, BATCH),
      BATCH_TIMEOUT_MS,
    )
    deleted += count
    if (count < BATCH) return deleted
  }
}

function nameOf(month: Month): string {
  return month.from.slice(0, 7)
}

function sum(counts: readonly { rows: bigint }[]): number {
  return counts.reduce((total, { rows }) => total + Number(rows), 0)
}
