import type { Command } from 'commander'
import { applyRetention, type MonthPlan, planRetention } from '../../ledger/retention.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { type Column, formatTable, type OutputOptions, printResult } from '../output.ts'

export function addRetentionCommand(program: Command): void {
  addCommand(
    program,
    'retention',
    'delete the rows of calls that no policy keeps any more (running servers do so too); sums stay',
    'retention --dry-run',
  )
    .option('--dry-run', 'only say what would go')
    .action(async (options: OutputOptions & { dryRun?: boolean }) => {
      await using foundation = await connect()
      const deps = { db: foundation.db, rowsDays: foundation.config.rowsDays ?? null }
      if (options.dryRun) showPlan(options, await planRetention(deps))
      else {
        const { months, rows, contents } = await applyRetention(deps)
        printResult(options, { dry_run: false, months_dropped: months, rows, contents }, [
          `Months dropped: ${months.join(', ') || 'none'}`,
          `Rows deleted: ${rows}`,
          `Contents deleted: ${contents}`,
        ])
      }
    })
}

function showPlan(options: OutputOptions, plans: MonthPlan[]): void {
  const rows = plans.reduce((total, plan) => total + plan.expiredRows, 0)
  printResult(
    options,
    {
      dry_run: true,
      months: plans.map(({ month, rows, expiredRows }) => ({ month, rows, expired_rows: expiredRows })),
      rows,
    },
    [...(plans.length === 0 ? [] : formatTable(COLUMNS, plans)), `Rows that would be deleted: ${rows}`],
  )
}

const COLUMNS: Column<MonthPlan>[] = [
  { title: 'Month', value: ({ month }) => month },
  { title: 'Rows', align: 'right', value: ({ rows }) => String(rows) },
  { title: 'Expired', align: 'right', value: ({ expiredRows }) => String(expiredRows) },
  {
    title: 'What happens',
    value: ({ rows, expiredRows }) => (rows === expiredRows ? 'dropped whole' : 'rows deleted'),
  },
]
