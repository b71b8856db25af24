import type { Balancer, Call } from './balancer.ts'
import { seededRandom } from './client.ts'

/** Requests at a constant rate, whatever becomes of them. `token` may be exchanged meanwhile. */
export interface Load {
  token: string
  end(): Promise<Call[]>
  [Symbol.dispose](): void
}

export function startLoad(options: {
  requestsPerSecond: number
  seed: number
  token: string
  balancer: Balancer
}): Load {
  const random = seededRandom(options.seed)
  const calls: Promise<Call>[] = []
  const startedAt = performance.now()
  let due = 0
  const timer = setInterval(() => {
    // What a late timer has left out is made up for.
    for (; due < ((performance.now() - startedAt) / 1000) * options.requestsPerSecond; due += 1) {
      const tokens = random() < 0.1 ? 150 : 20
      const body = {
        model: `sim:tokens=${tokens},tps=100,model=gpt-4o-mini`,
        input: 'x'.repeat(random() * 400),
        stream: random() < 0.7,
      }
      calls.push(options.balancer.call(load.token, body))
    }
  }, 10)
  const load: Load = {
    token: options.token,
    end() {
      clearInterval(timer)
      return Promise.all(calls)
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
  return load
}
