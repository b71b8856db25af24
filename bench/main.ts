/** `npm run bench -- <name> [size]` */
import { benchAnalytics } from './analytics.ts'
import { benchLedger } from './ledger.ts'

const BENCHES: Record<string, { size: string; byDefault: number; run(size: number): Promise<void> }> = {
  ledger: { size: 'rounds', byDefault: 10, run: benchLedger },
  analytics: { size: 'request rows', byDefault: 10_000_000, run: benchAnalytics },
}

const [name = '', size] = process.argv.slice(2)
const bench = BENCHES[name]
const amount = size === undefined ? bench?.byDefault : Number(size.replaceAll('_', ''))
if (!bench || amount === undefined || !Number.isSafeInteger(amount) || amount < 1) {
  console.error('Usage: npm run bench -- <name> [size]')
  for (const [known, { size, byDefault }] of Object.entries(BENCHES)) {
    console.error(`  ${known} [${size}, ${byDefault} unless given]`)
  }
  process.exitCode = 2
} else {
  await bench.run(amount)
}
