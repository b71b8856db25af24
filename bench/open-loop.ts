import { type Agent, request } from 'node:http'

/** One answer's latency in milliseconds, counted from when the request should have left, whether it could or not. */
export type Latencies = number[]

/** Calls at a fixed rate, whatever the answers take: what queues is measured, not hidden. */
export function openLoop(options: {
  port: number
  token: string
  body: string
  perSecond: number
  seconds: number
  agent: Agent
}): Promise<Latencies> {
  const total = options.perSecond * options.seconds
  const latencies: Latencies = []
  const startAt = performance.now() + 50
  let sent = 0
  let failed = 0

  return new Promise((resolve, reject) => {
    const timer = setInterval(() => {
      while (sent < total && performance.now() >= startAt + (sent * 1000) / options.perSecond) {
        call(startAt + (sent * 1000) / options.perSecond)
        sent += 1
      }
      if (sent === total) clearInterval(timer)
    }, 1)

    function call(intendedAt: number): void {
      const outgoing = request(
        {
          port: options.port,
          host: '127.0.0.1',
          path: '/v1/responses',
          method: 'POST',
          agent: options.agent,
          headers: {
            authorization: `Bearer ${options.token}`,
            'x-user-id': 'bench',
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(options.body),
          },
        },
        (incoming) => {
          if (incoming.statusCode !== 200) failed += 1
          incoming.resume()
          incoming.on('end', () => done(intendedAt))
        },
      )
      outgoing.on('error', reject)
      outgoing.end(options.body)
    }

    function done(intendedAt: number): void {
      latencies.push(performance.now() - intendedAt)
      if (latencies.length < total) return
      if (failed > 0) reject(new Error(`${failed} of ${total} calls failed.`))
      else resolve(latencies)
    }
  })
}

export function percentile(latencies: Latencies, share: number): number {
  const sorted = [...latencies].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}
