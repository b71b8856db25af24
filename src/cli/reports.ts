/** What the commands that report have in common: their period, and how they write figures. */
import type { Command } from 'commander'
import { type PeriodAsked, parsePeriod } from '../analytics/period.ts'
import { toCost } from '../analytics/wire.ts'
import { formatUsdRounded } from '../ledger/money.ts'
import type { Column, OutputOptions } from './output.ts'

export interface PeriodOptions extends OutputOptions {
  from?: string | undefined
  to?: string | undefined
  tz?: string | undefined
}

export function addPeriodOptions(command: Command, byDefault: string): Command {
  return command
    .option('--csv', 'print comma separated values instead of text')
    .option('--from <date>', `the first day; else ${byDefault}`)
    .option('--to <date>', 'the last day, included; else until now')
    .option('--tz <zone>', 'whose days they are, such as Europe/Berlin', 'UTC')
}

export function parsePeriodOptions({ from, to, tz }: PeriodOptions): PeriodAsked {
  return parsePeriod({ start: from, end: to, timeZone: tz }, { start: '--from', end: '--to', timeZone: '--tz' })
}

/** The organization as a first column, where a table has more than one. */
export function withOrganization<Row extends { organization: string }>(
  columns: Column<Row>[],
  isOfAll: boolean,
): Column<Row>[] {
  return isOfAll ? [{ title: 'Organization', value: ({ organization }) => organization }, ...columns] : columns
}

/** A sum with what it leaves out; never $0 for what has no price. */
export function formatSum(of: { request_count: bigint; unpriced_count: bigint; cost_nano_usd: bigint }): string {
  if (toCost(of).total_cost === null) return 'unpriced'
  const sum = formatUsdRounded(of.cost_nano_usd)
  return of.unpriced_count === 0n ? sum : `${sum} (${formatCount(of.unpriced_count)} unpriced)`
}

export function formatCount(value: number | bigint): string {
  return value.toLocaleString('en-US')
}

export function formatPercent(value: number | null | undefined): string {
  return value === null || value === undefined ? '-' : `${value.toFixed(1)}%`
}
