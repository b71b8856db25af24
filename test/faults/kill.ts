import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { type Simulator, startSimulator } from '../../simulator/server.ts'
import { createApiKey } from '../../src/api-keys/service.ts'
import { asAdministrator, OPERATOR } from '../../src/auth/caller.ts'
import { readConfig } from '../../src/config.ts'
import { openFoundation } from '../../src/foundation.ts'
import { generateSecrets } from '../../src/instance-secrets.ts'
import { createOrganization } from '../../src/organizations/service.ts'
import { Secret } from '../../src/secret.ts'
import { createToken } from '../../src/tokens/service.ts'
import { createDatabase, temporaryDirectory } from '../harness.ts'
import { callRelay, type Seen, seededRandom } from './client.ts'
import { checkInvariants, type Outcome } from './invariants.ts'
import { startServerProcess } from './server-process.ts'

/** A database, a simulator and an organization, for a server that is started and killed again and again. */
export async function openKillRun(stack: AsyncDisposableStack) {
  const { databaseUrl, client } = await createDatabase(stack)
  const simulator = stack.use(await startSimulator({ ledgerEntriesMax: CALLS_MAX }))
  const env = {
    DATABASE_URL: databaseUrl,
    DATA_DIR: await temporaryDirectory(stack),
    OPENAI_API_BASE_URL: simulator.url,
    SHUTDOWN_TIMEOUT: '10',
    MAX_EVENT_LOOP_DELAY_MS: '60000',
    ...generateSecrets(),
  }
  await using foundation = await openFoundation(readConfig({ ...env, LOG_LEVEL: 'silent' }))
  const { id } = await createOrganization(foundation, OPERATOR, { name: 'Killed' })
  const admin = asAdministrator(OPERATOR, id)
  await createApiKey(foundation, admin, { upstreamKey: new Secret('sk-upstream-kill-run') })
  const { jwt } = await createToken(foundation, admin, { days: 1 })
  return { client, simulator, env, token: jwt.reveal(), admin }
}

/** Kills the server at random moments under load, `kills` times, then lets it recover and checks the ledger. */
export async function killRun(options: {
  kills: number
  seed: number
  onRound?: (round: number) => void
}): Promise<Outcome & { kills: number }> {
  await using stack = new AsyncDisposableStack()
  const { client, simulator, env, token } = await openKillRun(stack)
  const random = seededRandom(options.seed)
  const seen: Seen[] = []

  for (let round = 0; round < options.kills; round += 1) {
    const server = await startServerProcess(env)
    const calls = Array.from({ length: 20 }, async () => {
      for (let turn = 0; turn < 5; turn += 1) {
        const answer = await callRelay(
          server.url,
          token,
          randomBody(random),
          random() < 0.1 ? random() * 4000 : undefined,
        )
        seen.push(answer)
        if (answer.isBroken && answer.requestId === undefined) return
      }
    })
    await sleep(random() * 500)
    await server.kill('SIGKILL')
    await Promise.all(calls)
    options.onRound?.(round + 1)
  }

  const server = await startServerProcess(env)
  await waitForRecovery(client, simulator)
  await server.kill('SIGTERM')
  return { ...(await checkInvariants(client, simulator, seen)), kills: options.kills }
}

/** More than any run makes: each call is held against its row. */
const CALLS_MAX = 1_000_000

function randomBody(random: () => number): Record<string, unknown> {
  const tokens = 1 + Math.floor(random() * 40)
  const tps = random() < 0.5 ? 10_000 : 100
  return {
    model: `sim:tokens=${tokens},tps=${tps},model=gpt-4o-mini,tag=${Math.floor(random() * 1e9)}`,
    input: 'x'.repeat(1 + Math.floor(random() * 400)),
    stream: random() < 0.7,
  }
}

/** Until there are as many rows as calls; a run that loses some ends at the bound and says so by its figures. */
async function waitForRecovery(client: pg.Client, simulator: Simulator): Promise<void> {
  await simulator.ledger.idle()
  const calls = simulator.ledger.entries().filter(({ path }) => path === '/v1/responses').length
  for (let tries = 0; tries < 100; tries += 1) {
    const { rows } = await client.query<{ count: string }>('select count(distinct request_id) from attempts')
    if (Number(rows[0]?.count) >= calls) return
    await sleep(100)
  }
}
