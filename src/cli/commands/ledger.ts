import { join } from 'node:path'
import type { Command } from 'commander'
import { AppError } from '../../errors.ts'
import { importJournals, repriceLedger, verifyLedger } from '../../ledger/maintenance.ts'
import { formatUsd } from '../../ledger/money.ts'
import { openPriceFile } from '../../ledger/price-file.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { type OutputOptions, printResult } from '../output.ts'
import { showProgress } from '../progress.ts'

/** Keeping the record true: verify it, ship what a dead replica left, price it again. */
export function addLedgerCommands(program: Command): void {
  const ledger = program
    .command('ledger')
    .description("verify the ledger, import a dead replica's journal, price history again")

  addCommand(
    ledger,
    'verify',
    'hold the daily sums against the rows, and journals of dead processes against both',
    'ledger verify',
  ).action(async (options: OutputOptions) => {
    await using foundation = await connect()
    const journalDirectory = join(foundation.config.dataDirectory, 'journal')
    const { days, wrongSums, unshipped } = await verifyLedger(
      { db: foundation.db, journalDirectory },
      showProgress('days'),
    )
    const isTrue = wrongSums.length === 0 && unshipped.length === 0
    printResult(options, { verified: isTrue, days, wrong_sums: wrongSums, unshipped_attempts: unshipped }, [
      `Days verified: ${days}`,
      `Sums that differ from their rows: ${wrongSums.length}`,
      ...wrongSums.map(
        (sum) =>
          `  ${sum.day} ${sum.organization_id} ${sum.sum}: rows ${sum.summed ?? 'none'}, recorded ${sum.recorded ?? 'none'}`,
      ),
      `Attempts in journals but not in the database: ${unshipped.length}`,
      ...unshipped.map((id) => `  ${id}`),
      isTrue ? 'The ledger is consistent.' : 'The ledger differs.',
    ])
    if (!isTrue) process.exitCode = 1
  })

  addCommand(
    ledger,
    'import',
    'ship the journal of a replica that will not come back',
    'ledger import /mnt/dead-replica/journal',
  )
    .argument('<directory>', 'a journal, or the directory that holds several')
    .action(async (directory: string, options: OutputOptions) => {
      await using foundation = await connect()
      using prices = await openPriceFile(foundation.config)
      const found = await importJournals({ db: foundation.db, prices }, directory)
      printResult(
        options,
        {
          journals: found.journals,
          settled: found.settled,
          interrupted: found.interrupted,
          damaged_bytes: found.damagedBytes,
        },
        [
          `Journals imported: ${found.journals}`,
          `Settled attempts: ${found.settled}`,
          `Interrupted attempts: ${found.interrupted}`,
          `Damaged bytes left out: ${found.damagedBytes}`,
        ],
      )
    })

  addCommand(
    ledger,
    'reprice',
    'price recorded requests again, each at the prices of its day',
    'ledger reprice --from 2026-11-01 --to 2026-12-01 --dry-run',
  )
    .requiredOption('--from <date>', 'the first day (UTC)')
    .requiredOption('--to <date>', 'the day after the last (UTC)')
    .option('--dry-run', 'only say what would change')
    .action(async (options: OutputOptions & { from: string; to: string; dryRun?: boolean }) => {
      const range = { from: parseDate(options.from, '--from'), to: parseDate(options.to, '--to') }
      await using foundation = await connect()
      using prices = await openPriceFile(foundation.config)
      const isDryRun = options.dryRun === true
      const done = await repriceLedger({ db: foundation.db, prices }, { ...range, isDryRun }, showProgress('requests'))
      printResult(
        options,
        {
          dry_run: isDryRun,
          requests: done.rows,
          changed: done.changed,
          difference_nano_usd: String(done.differenceNanoUsd),
        },
        [
          `Requests looked at: ${done.rows}`,
          `${isDryRun ? 'Would change' : 'Changed'}: ${done.changed}`,
          `Difference: ${formatUsd(done.differenceNanoUsd)}`,
        ],
      )
    })
}

function parseDate(text: string, option: string): Date {
  const date = new Date(/^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : text)
  if (Number.isNaN(date.getTime())) {
    throw new AppError(
      'invalid_request',
      `${option} is a day such as 2026-11-01 or a time such as 2026-11-01T12:00:00Z.`,
    )
  }
  return date
}
