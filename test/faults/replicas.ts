import { readConfig } from '../../src/config.ts'
import { type Foundation, openFoundation } from '../../src/foundation.ts'
import { generateSecrets } from '../../src/instance-secrets.ts'
import { createToken } from '../../src/tokens/service.ts'
import { runCommand } from '../command.ts'
import { temporaryDirectory } from '../harness.ts'
import { migrateToNextVersion } from '../next-version.ts'
import { askUntil } from '../poll.ts'
import { Balancer, type Call } from './balancer.ts'
import { changesSeenAfter, type SeenAfter } from './changes.ts'
import { throughProxy, waitForRows } from './database.ts'
import { checkInvariants, type Outcome } from './invariants.ts'
import { openKillRun } from './kill.ts'
import { startLoad } from './load.ts'
import { type ServerProcess, startServerProcess } from './server-process.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

export interface ReplicasOutcome extends Outcome {
  /** Calls that did not get their whole answer: on the process that was killed, and why on any other. */
  failedOnKilled: number
  failedElsewhere: string[]
  exitCodes: (number | null)[]
  /** What `rotate-encryption-key` retired: keys of the installation, and with `--data-keys` of organizations. */
  retired: { masterKeys: number; dataKeys: number }
  migrated: string[]
  /** What `ledger verify` says, for each server's journal. */
  isVerified: boolean[]
  /** From a change to the moment when both go by it: hearing of it, with the listener cut, and with it silent. */
  seenAfterMs: { heard: SeenAfter; cut: SeenAfter; silent: SeenAfter }
  /** From the silence of a listener to the moment its process knew. */
  silenceNoticedMs: number
}

/**
 * Two servers on one database under load: one is killed, a listener is lost, both are restarted in turn with new secrets, the keys are
 * rotated, the next version's migration is applied, and both are restarted in turn without the former secrets.
 */
export async function replicasRun(options: {
  requestsPerSecond: number
  seed: number
  drainSeconds: number
}): Promise<ReplicasOutcome> {
  await using stack = new AsyncDisposableStack()
  const { client, simulator, env, token, admin } = await openKillRun(stack)
  const directory = await temporaryDirectory(stack)
  const listener = stack.use(await startTcpProxy({ path: `${client.host}/.s.PGSQL.${client.port}` }))
  const balancer = stack.use(new Balancer())
  const shared: Record<string, string> = { ...env, ...RUN_SETTINGS, DRAIN_DELAY: String(options.drainSeconds) }
  const own: [Record<string, string>, Record<string, string>] = [
    { REPLICA_NAME: 'first', DATA_DIR: env.DATA_DIR },
    {
      REPLICA_NAME: 'second',
      DATA_DIR: await temporaryDirectory(stack),
      DATABASE_LISTEN_URL: throughProxy(env.DATABASE_URL, listener),
    },
  ]
  const names = new Map<ServerProcess, string>()
  const start = async (place: 0 | 1, secrets: Record<string, string> = {}) => {
    const server = await startServerProcess({ ...shared, ...own[place], ...secrets })
    stack.defer(() => void server.child.kill('SIGKILL'))
    names.set(server, `${own[place].REPLICA_NAME}, the ${names.size + 1}. process`)
    balancer.add(server)
    return server
  }
  const exitCodes: (number | null)[] = []
  const restartInTurn = async (secrets: Record<string, string>) => {
    for (const place of [0, 1] as const) {
      exitCodes.push(await servers[place].kill('SIGTERM'))
      balancer.remove(servers[place])
      servers[place] = await start(place, secrets)
      await balancer.readyCount(2)
    }
  }
  const servers: [ServerProcess, ServerProcess] = [await start(0), await start(1)]
  await balancer.readyCount(2)
  const load = stack.use(startLoad({ ...options, token, balancer }))
  const servedCount = async () => simulator.ledger.entries().length
  await askUntil(servedCount, (count) => count >= options.requestsPerSecond)

  const [killed] = servers
  await killed.kill('SIGKILL')
  balancer.remove(killed)
  servers[0] = await start(0)
  await balancer.readyCount(2)
  const foundation = stack.use(await openFoundation(readConfig({ ...env, LOG_LEVEL: 'silent' })))
  const changes = await loseListener(foundation, servers, listener)

  const fresh = generateSecrets()
  const both = {
    ...fresh,
    ENCRYPTION_KEY_PREVIOUS: env.ENCRYPTION_KEY,
    JWT_SECRET_KEY_PREVIOUS: env.JWT_SECRET_KEY,
  }
  await restartInTurn(both)
  const rotated = await runForJson(['rotate-encryption-key'], { ...shared, ...both }, directory)
  const rotatedData = await runForJson(['rotate-encryption-key', '--data-keys'], { ...shared, ...both }, directory)
  const renewed = stack.use(await openFoundation(readConfig({ ...env, ...both, LOG_LEVEL: 'silent' })))
  load.token = (await createToken(renewed, admin, { days: 1 })).jwt.reveal()
  const migrated = await migrateToNextVersion(stack, renewed.db)
  await restartInTurn(fresh)

  const calls = await load.end()
  await waitForRows(client, simulator)
  exitCodes.push(...(await Promise.all(servers.map((server) => server.kill('SIGTERM')))))
  const verified = []
  for (const settings of own) {
    verified.push(await runForJson(['ledger', 'verify'], { ...shared, ...settings, ...fresh }, directory))
  }
  const failed = calls.filter(({ seen }) => !(seen.status === 200 && seen.sawEnd && !seen.isBroken))
  const outcome = await checkInvariants(
    client,
    simulator,
    calls.map(({ seen }) => seen),
  )
  return {
    ...outcome,
    ...changes,
    failedOnKilled: failed.filter(({ server }) => server === killed).length,
    failedElsewhere: failed.filter(({ server }) => server !== killed).map((call) => describe(call, names)),
    exitCodes,
    retired: { masterKeys: rotated.retired.length, dataKeys: rotatedData.data_keys.retired },
    migrated: migrated.map(({ name }) => name),
    isVerified: verified.map((found) => found.verified),
  }
}

/** What is changed is seen by both while one of them hears of changes, while it cannot, and while it does not know that it cannot. */
async function loseListener(
  foundation: Foundation,
  servers: [ServerProcess, ServerProcess],
  listener: TcpProxy,
): Promise<Pick<ReplicasOutcome, 'seenAfterMs' | 'silenceNoticedMs'>> {
  const [, second] = servers
  const heard = await changesSeenAfter(foundation, servers)
  listener.mode = 'refuse'
  await channelIs(second, 'down')
  const cut = await changesSeenAfter(foundation, servers)
  listener.mode = 'pass'
  await channelIs(second, 'up')
  listener.mode = 'blackhole'
  const silentAt = performance.now()
  await channelIs(second, 'down')
  const silenceNoticedMs = performance.now() - silentAt
  const silent = await changesSeenAfter(foundation, servers)
  listener.mode = 'pass'
  return { seenAfterMs: { heard, cut, silent }, silenceNoticedMs }
}

/** Whether a server hears of changes, by its own account. */
async function channelIs({ url }: ServerProcess, state: 'up' | 'down'): Promise<void> {
  const read = async () => {
    const answer = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${RUN_SETTINGS.METRICS_TOKEN}` } })
    return (await answer.text()).includes(`openai_proxy_invalidation_channel_down ${state === 'down' ? 1 : 0}\n`)
  }
  if (!(await askUntil(read, Boolean))) throw new Error(`The listener is not ${state}.`)
}

async function runForJson(args: readonly string[], env: Record<string, string>, directory: string) {
  const { stdout, stderr, code } = await runCommand([...args, '--json'], env, directory)
  if (code !== 0) throw new Error(`"${args.join(' ')}" ended with ${code}: ${stdout}${stderr}`)
  return JSON.parse(stdout)
}

function describe({ server, sentAt, seen }: Call, names: Map<ServerProcess, string>): string {
  const { fault = 'no end', requestId } = seen
  return `${sentAt.toISOString()} ${(server && names.get(server)) ?? 'nobody'}: ${fault} ${requestId ?? ''}`
}

const RUN_SETTINGS = {
  METRICS_TOKEN: 'metrics-of-this-fault-run',
  // A test process that was held up sends all that is due at once, which is no fault of the servers and nothing they should refuse here.
  MAX_CONCURRENT_REQUESTS_PER_ORGANIZATION: '4096',
  SHUTDOWN_TIMEOUT: '60',
}
