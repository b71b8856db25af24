import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { restoreOwnership } from '../ownership/service.ts'
import { removeJournal } from './journal.ts'
import { recoveredItems } from './ledger.ts'
import type { PriceTable } from './pricing.ts'
import { findDeadJournals, type Recovered, recoverJournal } from './recovery.ts'
import { listMarks } from './retention-store.ts'
import {
  applyPriceChanges,
  findRecorded,
  findWrongSums,
  insertDeferred,
  insertSettledAttempts,
  listLedgerDays,
  lockRowsToPrice,
  type PriceChange,
  type PricedRow,
  type SettledRow,
  type WrongSum,
} from './store.ts'
import { NO_USAGE, readUsage } from './usage.ts'
import { readPart, type StoredPart } from './usage-parts.ts'

export interface Verification {
  days: number
  /** Sums that differ from their rows. */
  wrongSums: WrongSum[]
  /** Attempts that a journal of a dead process knows of and the database does not. */
  unshipped: string[]
}

/** Holds the sums against the rows, and the journals that dead processes left against both. Changes nothing. */
export async function verifyLedger(
  { db, journalDirectory }: { db: Db; journalDirectory: string },
  onProgress: (done: number, total: number) => void = () => {},
): Promise<Verification> {
  const days = await db.forOperator(async (tx) => {
    const marks = new Map((await listMarks(tx)).map(({ organization_id, rows_from }) => [organization_id, rows_from]))
    // Of the days before, only the sums are left.
    return (await listLedgerDays(tx)).filter(({ organization_id, day }) => day >= (marks.get(organization_id) ?? ''))
  }, LONG_MS)
  const wrongSums: WrongSum[] = []
  for (const [index, { organization_id, day }] of days.entries()) {
    wrongSums.push(...(await db.forOperator((tx) => findWrongSums(tx, organization_id, day), LONG_MS)))
    onProgress(index + 1, days.length)
  }
  const unshipped: string[] = []
  for (const directory of await findDeadJournals(journalDirectory)) {
    const ids = attemptIdsOf(await recoverJournal(directory))
    const recorded = await db.forOperator((tx) => findRecorded(tx, ids), LONG_MS)
    unshipped.push(...ids.filter((id) => !recorded.has(id)))
  }
  return { days: days.length, wrongSums, unshipped }
}

/** Ships the journal of a replica that will not come back, given its directory or the one above. Twice changes nothing. */
export async function importJournals(
  { db, prices }: { db: Db; prices: PriceTable },
  directory: string,
): Promise<{ journals: number; settled: number; interrupted: number; damagedBytes: number }> {
  const isDirectory = await stat(directory).then(
    (found) => found.isDirectory(),
    () => false,
  )
  if (!isDirectory) throw new AppError('not_found', `There is no directory ${directory}.`)
  const isJournal = await stat(join(directory, '00000001.journal')).then(
    () => true,
    () => false,
  )
  const total = { journals: 0, settled: 0, interrupted: 0, damagedBytes: 0 }
  for (const journal of isJournal ? [directory] : await findDeadJournals(directory)) {
    const recovered = await recoverJournal(journal)
    const { rows, deferred, interruptedCount } = recoveredItems(prices, recovered)
    await restoreOwnership({ db }, recovered.owned)
    for (let at = 0; at < rows.length; at += BATCH) {
      await db.forOperator((tx) => insertSettledAttempts(tx, rows.slice(at, at + BATCH)), LONG_MS)
    }
    if (deferred.length > 0) await db.forOperator((tx) => insertDeferred(tx, deferred), LONG_MS)
    await removeJournal(journal)
    total.journals += 1
    total.settled += recovered.settled.length
    total.interrupted += interruptedCount
    total.damagedBytes += recovered.damagedBytes
  }
  return total
}

/** A row of attempts that was made elsewhere. */
export type ImportedAttempt = SettledRow

/** Records attempts of another system by the way that every attempt takes, so that sums and sessions move with them. */
export async function importAttempts({ db }: { db: Db }, rows: readonly ImportedAttempt[]): Promise<void> {
  if (rows.length > 0) await db.forOperator((tx) => insertSettledAttempts(tx, rows), LONG_MS)
}

export interface Repricing {
  rows: number
  changed: number
  /** New sum of costs less the old one, over the rows that changed. */
  differenceNanoUsd: bigint
}

/** Prices rows again, from what each of them holds, at the prices that hold now for its day. The same prices change nothing. */
export async function repriceLedger(
  { db, prices }: { db: Db; prices: PriceTable },
  range: { from: Date; to: Date; isDryRun: boolean },
  onProgress: (rows: number) => void = () => {},
): Promise<Repricing> {
  const result: Repricing = { rows: 0, changed: 0, differenceNanoUsd: 0n }
  let after: { openedAt: Date; attemptId: string } | undefined
  for (;;) {
    const batch = await db.forOperator(async (tx) => {
      const rows = await lockRowsToPrice(tx, { from: range.from, to: range.to, after, limit: BATCH })
      const changes = rows.flatMap((row) => changeOf(prices, row) ?? [])
      if (changes.length > 0 && !range.isDryRun) await applyPriceChanges(tx, changes)
      return { rows, changes }
    }, LONG_MS)
    const last = batch.rows.at(-1)
    if (!last) return result
    after = { openedAt: last.opened_at, attemptId: last.attempt_id }
    result.rows += batch.rows.length
    result.changed += batch.changes.length
    for (const { old_cost, new_cost } of batch.changes) {
      result.differenceNanoUsd += BigInt(new_cost ?? 0) - BigInt(old_cost ?? 0)
    }
    onProgress(result.rows)
  }
}

const BATCH = 500
const LONG_MS = 600_000

function attemptIdsOf({ settled, deferred, unsettled }: Recovered): string[] {
  return [
    ...settled.map((row) => row.attempt_id),
    ...deferred.map(({ opened }) => opened.id),
    ...unsettled.map(({ opened }) => opened.id),
  ]
}

function changeOf(prices: PriceTable, row: PricedRow): PriceChange | undefined {
  const isReported = row.usage_source === 'reported' && row.usage !== null
  // OpenAI's refusals are reported without a usage object, and cost nothing at any price.
  if (row.usage_source === 'reported' && !isReported) return undefined
  const counts = { inputTokens: Number(row.input_tokens ?? 0), outputTokens: Number(row.output_tokens ?? 0) }
  const usage = isReported
    ? readUsage(row.usage)
    : { ...NO_USAGE, ...counts, totalTokens: counts.inputTokens + counts.outputTokens }
  const tools = { webSearchCalls: row.web_search_calls, fileSearchCalls: row.file_search_calls }
  const priced = prices.price({
    model: row.model_used,
    serviceTier: row.service_tier,
    usage,
    parts: (row.usage_parts as StoredPart[] | null)?.map(readPart),
    tools,
    at: row.opened_at,
  })
  const oldCost = row.cost_nano_usd === null ? null : String(row.cost_nano_usd)
  const newCost = priced.kind === 'priced' ? String(priced.costNanoUsd) : null
  const version = priced.kind === 'priced' ? priced.priceVersion : null
  if (oldCost === newCost && row.price_version === version) return undefined
  return {
    organization_id: row.organization_id,
    attempt_id: row.attempt_id,
    opened_at: row.opened_at.toISOString(),
    old_cost: oldCost,
    new_cost: newCost,
    price_version: version,
  }
}
