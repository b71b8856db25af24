import { setTimeout as sleep } from 'node:timers/promises'
import { askUntil } from '../poll.ts'
import { callRelay, type Seen } from './client.ts'
import type { ServerProcess } from './server-process.ts'

export interface Call {
  /** Where it was sent; nowhere when no server was ready. */
  server: ServerProcess | undefined
  sentAt: Date
  seen: Seen
}

/**
 * Sends requests to servers that say they are ready, as load balancers do: asks each of them once a second, and tries another one
 * where no connection was made. What was sent is never sent again.
 */
export class Balancer {
  readonly #servers = new Map<ServerProcess, boolean>()
  readonly #timer: NodeJS.Timeout
  #turn = 0

  constructor() {
    this.#timer = setInterval(() => {
      for (const server of this.#servers.keys()) this.#probe(server)
    }, PROBE_INTERVAL_MS)
  }

  add(server: ServerProcess): void {
    this.#servers.set(server, false)
  }

  remove(server: ServerProcess): void {
    this.#servers.delete(server)
  }

  async call(token: string, body: Record<string, unknown>): Promise<Call> {
    const giveUpAt = performance.now() + QUEUE_TIMEOUT_MS
    for (;;) {
      const server = this.#next()
      const sentAt = new Date()
      if (server) {
        const seen = await callRelay(server.url, token, body)
        if (seen.fault !== 'ECONNREFUSED') return { server, sentAt, seen }
        if (this.#servers.has(server)) this.#servers.set(server, false)
      } else if (performance.now() > giveUpAt) {
        return { server, sentAt, seen: { ...UNSENT } }
      } else {
        await sleep(50)
      }
    }
  }

  async readyCount(count: number): Promise<void> {
    const isReached = async () => [...this.#servers.values()].filter(Boolean).length >= count
    if (!(await askUntil(isReached, Boolean))) throw new Error(`There are no ${count} servers that are ready.`)
  }

  #next(): ServerProcess | undefined {
    const ready = [...this.#servers].filter(([, isReady]) => isReady).map(([server]) => server)
    this.#turn += 1
    return ready[this.#turn % ready.length]
  }

  async #probe(server: ServerProcess): Promise<void> {
    const isReady = await fetch(`${server.url}/readyz`, {
      headers: { connection: 'close' },
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    }).then(
      ({ ok }) => ok,
      () => false,
    )
    if (this.#servers.has(server)) this.#servers.set(server, isReady)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

const PROBE_INTERVAL_MS = 1000
const PROBE_TIMEOUT_MS = 5000
const QUEUE_TIMEOUT_MS = 30_000
const UNSENT: Seen = {
  requestId: undefined,
  sawEnd: false,
  sawError: false,
  isBroken: true,
  status: undefined,
  fault: 'no server was ready',
}
