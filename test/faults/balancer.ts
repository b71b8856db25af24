import { setTimeout as sleep } from 'node:timers/promises'
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
  /** What each said last of its readiness. */
  readonly #servers = new Map<ServerProcess, string>()
  readonly #timer: NodeJS.Timeout
  #turn = 0

  constructor() {
    this.#timer = setInterval(() => {
      for (const server of this.#servers.keys()) this.#probe(server)
    }, PROBE_INTERVAL_MS)
  }

  add(server: ServerProcess): void {
    this.#servers.set(server, 'not asked yet')
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
        if (this.#servers.has(server)) this.#servers.set(server, 'no connection')
      } else if (performance.now() > giveUpAt) {
        return { server, sentAt, seen: { ...UNSENT } }
      } else {
        await sleep(50)
      }
    }
  }

  async readyCount(count: number): Promise<void> {
    const giveUpAt = performance.now() + START_TIMEOUT_MS
    while ([...this.#servers.values()].filter((state) => state === 'ready').length < count) {
      if (performance.now() > giveUpAt) {
        throw new Error(
          `There are no ${count} servers that are ready: they say ${[...this.#servers.values()].join(', ')}.`,
        )
      }
      await sleep(50)
    }
  }

  #next(): ServerProcess | undefined {
    const ready = [...this.#servers].filter(([, state]) => state === 'ready').map(([server]) => server)
    this.#turn += 1
    return ready[this.#turn % ready.length]
  }

  async #probe(server: ServerProcess): Promise<void> {
    const state = await fetch(`${server.url}/readyz`, {
      headers: { connection: 'close' },
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    }).then(
      async (answer) => ((await answer.json()) as { status: string }).status,
      (error: Error) => error.name,
    )
    if (this.#servers.has(server)) this.#servers.set(server, state)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

const PROBE_INTERVAL_MS = 1000
const PROBE_TIMEOUT_MS = 5000
const START_TIMEOUT_MS = 60_000
const QUEUE_TIMEOUT_MS = 30_000
const UNSENT: Seen = {
  requestId: undefined,
  sawEnd: false,
  sawError: false,
  isBroken: true,
  status: undefined,
  fault: 'no server was ready',
}
