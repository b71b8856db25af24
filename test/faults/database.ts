import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Simulator } from '../../simulator/server.ts'
import { callRelay, type Seen, seededRandom } from './client.ts'
import { checkInvariants, type Outcome } from './invariants.ts'
import { openKillRun } from './kill.ts'
import { startServerProcess } from './server-process.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

/** What is done to the connection between the server and its database while requests come in. */
export type DatabaseFault = 'cut_repeatedly' | 'refused' | 'blackholed'

/** Serves under load while the database is in trouble for `faultMs`, then lets everything settle and checks the ledger. */
export async function databaseFaultRun(options: {
  fault: DatabaseFault
  faultMs: number
  seed: number
}): Promise<Outcome & { statuses: Record<string, number> }> {
  await using stack = new AsyncDisposableStack()
  const { client, simulator, env, token } = await openKillRun(stack)
  const proxy = stack.use(await startTcpProxy({ path: `${client.host}/.s.PGSQL.${client.port}` }))
  const server = await startServerProcess({ ...env, DATABASE_URL: throughProxy(env.DATABASE_URL, proxy) })
  stack.defer(async () => {
    server.child.kill('SIGKILL')
  })
  const random = seededRandom(options.seed)
  const seen: Seen[] = []
  let isLoading = true
  // Known before the fault, as in any running system.
  seen.push(await callRelay(server.url, token, { model: 'gpt-4o-mini', input: 'warm up' }))

  const load = Array.from({ length: 10 }, async () => {
    while (isLoading) {
      const body = { model: 'sim:tokens=10,tps=200,model=gpt-4o-mini', input: 'x'.repeat(random() * 200), stream: true }
      seen.push(await callRelay(server.url, token, body))
    }
  })
  await inflict(proxy, options.fault, options.faultMs)
  isLoading = false
  await Promise.all(load)

  await waitForRows(client, simulator)
  const exitCode = await server.kill('SIGTERM')
  if (exitCode !== 0) throw new Error(`The server ended with ${exitCode}: ${JSON.stringify(server.log.slice(-3))}`)
  const statuses: Record<string, number> = {}
  for (const { status } of seen) statuses[String(status)] = (statuses[String(status)] ?? 0) + 1
  return { ...(await checkInvariants(client, simulator, seen)), statuses }
}

async function inflict(proxy: TcpProxy, fault: DatabaseFault, faultMs: number): Promise<void> {
  await sleep(300)
  if (fault === 'cut_repeatedly') {
    for (let elapsed = 0; elapsed < faultMs; elapsed += 1000) {
      proxy.cutAll()
      await sleep(1000)
    }
    return
  }
  proxy.mode = fault === 'refused' ? 'refuse' : 'blackhole'
  await sleep(faultMs)
  proxy.mode = 'pass'
  await sleep(500)
}

export async function waitForRows(client: pg.Client, simulator: Simulator): Promise<void> {
  await simulator.ledger.idle()
  const calls = simulator.ledger.entries().filter(({ path }) => path === '/v1/responses').length
  for (let tries = 0; tries < 150; tries += 1) {
    const { rows } = await client.query<{ count: string }>('select count(distinct request_id) from attempts')
    if (Number(rows[0]?.count) >= calls) return
    await sleep(100)
  }
}

/** The same database, by way of the proxy. */
export function throughProxy(databaseUrl: string, proxy: TcpProxy): string {
  const url = new URL(databaseUrl)
  url.hostname = '127.0.0.1'
  url.port = String(proxy.port)
  url.search = ''
  return url.href
}
