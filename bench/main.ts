import { Argument, Command } from 'commander'
import { benchAnalytics } from './analytics.ts'
import { benchLedger } from './ledger.ts'
import { benchRelay, RELAY_PARTS } from './relay/run.ts'

/** `npm run bench`: what the proxy costs, in ratios of one run. */
const program = new Command('npm run bench --').description(
  'Measures the proxy beside what it is compared with, on this machine, in one run.',
)
program
  .command('relay', { isDefault: true })
  .description('calls through the whole proxy against a bare pass-through, nginx and another gateway')
  .addArgument(new Argument('[parts...]', 'which parts; all but the soak unless named').choices(RELAY_PARTS))
  .option('--quick', 'a tenth of the time: for a look, not for a figure')
  .option('--json <file>', 'write the results as JSON as well')
  .action(benchRelay)
program
  .command('ledger')
  .description('what journal and ledger add to a call')
  .argument('[rounds]', 'rounds', toCount, 10)
  .action(benchLedger)
program
  .command('analytics')
  .description('how long the reports take')
  .argument('[rows]', 'request rows', toCount, 10_000_000)
  .action(benchAnalytics)
await program.parseAsync()

function toCount(text: string): number {
  const count = Number(text.replaceAll('_', ''))
  if (Number.isSafeInteger(count) && count > 0) return count
  return program.error(`"${text}" is not a number above zero.`)
}
