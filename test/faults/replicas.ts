import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { OPERATOR } from '../../src/auth/caller.ts'
import { readConfig } from '../../src/config.ts'
import { openFoundation } from '../../src/foundation.ts'
import { verifyLedger } from '../../src/ledger/maintenance.ts'
import { createToken, revokeToken } from '../../src/tokens/service.ts'
import { temporaryDirectory } from '../harness.ts'
import { askUntil } from '../poll.ts'
import { callRelay, type Seen, seededRandom } from './client.ts'
import { throughProxy, waitForRows } from './database.ts'
import { checkInvariants, type Outcome } from './invariants.ts'
import { openKillRun } from './kill.ts'
import { type ServerProcess, startServerProcess } from './server-process.ts'
import { startTcpProxy } from './tcp-proxy.ts'

export interface ReplicasOutcome extends Outcome {
  /** Calls that did not get their whole answer: on the process that was killed, and on any other. */
  failedOnKilled: number
  failedElsewhere: number
  exitCodes: (number | null)[]
  wrongSums: number
  unshipped: number
  /** From the revocation of a token to its refusal by both: hearing of it, with the listener cut, and with it silent. */
  revokedMs: { heard: number; cut: number; silent: number }
  /** From the silence of a listener to the moment its process knew. */
  silenceNoticedMs: number
}

/** Two servers on one database under load: one is killed, both are restarted in turn, tokens are revoked, a listener is lost. */
export async function replicasRun(options: { requestsPerSecond: number; seed: number }): Promise<ReplicasOutcome> {
  await using stack = new AsyncDisposableStack()
  const { client, simulator, env, token, admin } = await openKillRun(stack)
  const foundation = stack.use(await openFoundation(readConfig({ ...env, LOG_LEVEL: 'silent' })))
  const proxy = stack.use(await startTcpProxy({ path: `${client.host}/.s.PGSQL.${client.port}` }))
  const settings = { ...env, DRAIN_DELAY: '5', METRICS_TOKEN }
  const first: Record<string, string> = { ...settings, REPLICA_NAME: 'first' }
  const second: Record<string, string> = {
    ...settings,
    REPLICA_NAME: 'second',
    DATA_DIR: await temporaryDirectory(stack),
    DATABASE_LISTEN_URL: throughProxy(env.DATABASE_URL, proxy),
  }
  const balancer = stack.use(new Balancer())
  const start = async (environment: Record<string, string>) => {
    const server = await startServerProcess(environment)
    stack.defer(() => void server.child.kill('SIGKILL'))
    balancer.add(server)
    return server
  }
  let [one, two] = [await start(first), await start(second)]
  await balancer.readyCount(2)
  const load = stack.use(startLoad({ ...options, token, balancer }))
  await sleep(1000)

  const killed = one
  await killed.kill('SIGKILL')
  balancer.remove(killed)
  one = await start(first)
  await balancer.readyCount(2)
  const exitCodes: (number | null)[] = []
  for (const server of [one, two]) {
    exitCodes.push(await server.kill('SIGTERM'))
    balancer.remove(server)
    const again = await start(server === one ? first : second)
    if (server === one) one = again
    else two = again
    await balancer.readyCount(2)
  }

  const revoke = async () => {
    const { jwt, token: made } = await createToken(foundation, admin, { days: 1 })
    await bothAnswer([one, two], jwt.reveal(), 200)
    await revokeToken(foundation, OPERATOR, made.id)
    const revokedAt = performance.now()
    await bothAnswer([one, two], jwt.reveal(), 401)
    return performance.now() - revokedAt
  }
  const heard = await revoke()
  proxy.mode = 'refuse'
  await channelIs(two, 'down')
  const cut = await revoke()
  proxy.mode = 'pass'
  await channelIs(two, 'up')
  proxy.mode = 'blackhole'
  const silentAt = performance.now()
  await channelIs(two, 'down')
  const silenceNoticedMs = performance.now() - silentAt
  const silent = await revoke()
  proxy.mode = 'pass'

  const calls = await load.end()
  await waitForRows(client, simulator)
  exitCodes.push(await one.kill('SIGTERM'), await two.kill('SIGTERM'))
  let [wrongSums, unshipped] = [0, 0]
  for (const { DATA_DIR = '' } of [first, second]) {
    const found = await verifyLedger({ db: foundation.db, journalDirectory: join(DATA_DIR, 'journal') })
    wrongSums += found.wrongSums.length
    unshipped += found.unshipped.length
  }
  const failed = calls.filter(({ seen }) => !(seen.status === 200 && seen.sawEnd && !seen.isBroken))
  return {
    ...(await checkInvariants(
      client,
      simulator,
      calls.map(({ seen }) => seen),
    )),
    failedOnKilled: failed.filter(({ server }) => server === killed).length,
    failedElsewhere: failed.filter(({ server }) => server !== killed).length,
    exitCodes,
    wrongSums,
    unshipped,
    revokedMs: { heard, cut, silent },
    silenceNoticedMs,
  }
}

/** Sends requests to servers that say they are ready, as load balancers do; asks each of them many times a second. */
class Balancer {
  readonly #servers = new Map<ServerProcess, boolean>()
  readonly #probing = new Set<ServerProcess>()
  readonly #timer: NodeJS.Timeout
  #turn = 0

  constructor() {
    this.#timer = setInterval(() => {
      for (const server of this.#servers.keys()) this.#probe(server)
    }, 50)
  }

  add(server: ServerProcess): void {
    this.#servers.set(server, false)
  }

  remove(server: ServerProcess): void {
    this.#servers.delete(server)
  }

  next(): ServerProcess | undefined {
    const ready = [...this.#servers].filter(([, isReady]) => isReady).map(([server]) => server)
    this.#turn += 1
    return ready[this.#turn % ready.length]
  }

  async readyCount(count: number): Promise<void> {
    const isReached = async () => [...this.#servers.values()].filter(Boolean).length >= count
    if (!(await askUntil(isReached, Boolean))) throw new Error(`There are no ${count} servers that are ready.`)
  }

  async #probe(server: ServerProcess): Promise<void> {
    if (this.#probing.has(server)) return
    this.#probing.add(server)
    const isReady = await fetch(`${server.url}/readyz`, { headers: { connection: 'close' } }).then(
      ({ ok }) => ok,
      () => false,
    )
    this.#probing.delete(server)
    if (this.#servers.has(server)) this.#servers.set(server, isReady)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

interface Call {
  server: ServerProcess
  seen: Seen
}

/** Requests at a constant rate, whatever becomes of them. */
function startLoad(options: { requestsPerSecond: number; seed: number; token: string; balancer: Balancer }) {
  const random = seededRandom(options.seed)
  const calls: Promise<Call>[] = []
  const startedAt = performance.now()
  let due = 0
  const send = (server: ServerProcess) => {
    const tokens = random() < 0.1 ? 150 : 20
    const body = {
      model: `sim:tokens=${tokens},tps=100,model=gpt-4o-mini`,
      input: 'x'.repeat(random() * 400),
      stream: random() < 0.7,
    }
    calls.push(callRelay(server.url, options.token, body).then((seen) => ({ server, seen })))
  }
  const timer = setInterval(() => {
    // What a late timer has left out is made up for.
    for (; due < ((performance.now() - startedAt) / 1000) * options.requestsPerSecond; due += 1) {
      const server = options.balancer.next()
      if (server) send(server)
    }
  }, 10)
  return {
    end() {
      clearInterval(timer)
      return Promise.all(calls)
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
}

async function bothAnswer(servers: ServerProcess[], token: string, status: number): Promise<void> {
  const ask = () =>
    Promise.all(
      servers.map(({ url }) => callRelay(url, token, { model: 'sim:tokens=1,model=gpt-4o-mini', input: 'hi' })),
    )
  const seen = await askUntil(ask, (answers) => answers.every((answer) => answer.status === status))
  const statuses = seen.map((answer) => answer.status)
  if (statuses.some((one) => one !== status)) throw new Error(`The servers answer ${statuses}, not ${status}.`)
}

/** Whether a server hears of changes, by its own account. */
async function channelIs({ url }: ServerProcess, state: 'up' | 'down'): Promise<void> {
  const read = async () => {
    const answer = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${METRICS_TOKEN}` } })
    return (await answer.text()).includes(`openai_proxy_invalidation_channel_down ${state === 'down' ? 1 : 0}\n`)
  }
  if (!(await askUntil(read, Boolean))) throw new Error(`The listener is not ${state}.`)
}

const METRICS_TOKEN = 'metrics-of-this-fault-run'
