import { databaseFaultRun } from './database.ts'
import { killRun } from './kill.ts'
import { replicasRun } from './replicas.ts'
import { resetRun } from './resets.ts'

/** The long form of the fault tests: `npm run test:faults [kills] [seed]`. Fails when a row is missing, doubled or wrong. */
const kills = Number(process.argv[2] ?? 200)
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000)
console.log(`seed ${seed}`)

const replicas = await replicasRun({ requestsPerSecond: 200, seed, drainSeconds: 5 })
const { failedOnKilled, failedElsewhere, exitCodes, retired, migrated, isVerified, seenAfterMs, silenceNoticedMs } =
  replicas
console.log('two replicas', {
  failedOnKilled,
  failedElsewhere: failedElsewhere.length,
  exitCodes,
  retired,
  migrated,
  isVerified,
  seenAfterMs,
  silenceNoticedMs,
})
for (const failure of failedElsewhere.slice(0, 20)) console.log(failure)

const results = {
  'two replicas: kill -9, lost listener, restarts, rotation, next schema': replicas,
  [`${kills} x kill -9`]: await killRun({ kills, seed, onRound: (round) => progress(round, kills) }),
  'database cut every second for 30 s': await databaseFaultRun({ fault: 'cut_repeatedly', faultMs: 30_000, seed }),
  'database away for 30 s': await databaseFaultRun({ fault: 'refused', faultMs: 30_000, seed }),
  'database silent for 30 s': await databaseFaultRun({ fault: 'blackholed', faultMs: 30_000, seed }),
  'upstream reset after every byte': await resetRun({ step: 1 }),
}

console.table(
  Object.entries(results).map(([run, { calls, rows, missing, doubled, wrongTokens, interrupted }]) => ({
    run,
    calls,
    rows,
    missing,
    doubled,
    wrongTokens,
    interrupted,
  })),
)
const bad = Object.values(results).filter(({ missing, doubled, wrongTokens }) => missing + doubled + wrongTokens > 0)
const slowestMs = Math.max(...Object.values(seenAfterMs).flatMap((seen) => Object.values(seen)))
const isSlow = slowestMs > 1000 || silenceNoticedMs > 4000
const isBad = failedElsewhere.length > 0 || isVerified.includes(false) || bad.length > 0
process.exitCode = isBad || isSlow ? 1 : 0

function progress(round: number, total: number): void {
  if (round % 20 === 0) console.log(`${round} of ${total} kills`)
}
