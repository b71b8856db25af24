import { connect } from 'node:net'
import { bodyOf, percentile, requestOf } from './measure.ts'
import { fixed, ourselves, type Part } from './parts.ts'
import { type RunningSystem, usageOf } from './systems.ts'
import { connectWire } from './wire-client.ts'

/** Memory over many calls, one in ten of which is given up by its client. */
export const soak: Part = async (bench) => {
  const proxy = ourselves(bench)
  const total = bench.isQuick ? 50_000 : 1_000_000
  const points: { calls: number; rssBytes: number }[] = []
  bench.setStreams({ events: 5, gapMs: 5 })
  const whole = requestOf(proxy, bodyOf(1000, false))
  let calls = 0
  await Promise.all(
    Array.from({ length: 32 }, async () => {
      const client = await connectWire(proxy.port)
      while (calls < total) {
        calls += 1
        if (calls % 10 === 0) await giveUp(proxy)
        else await client.call(whole)
        if (calls % (total / 200) === 0) {
          points.push({ calls, rssBytes: usageOf(proxy).rssBytes })
          process.stderr.write(`\r${calls} of ${total} calls`)
        }
      }
      client.close()
    }),
  )
  process.stderr.write('\n')
  // The first quarter is warm-up: compiled code and caches that fill once.
  const slope = theilSen(points.filter((point) => point.calls > total / 4))
  const row = {
    calls: total,
    'RSS at the end, MB': Math.round((points.at(-1)?.rssBytes ?? 0) / 1e6),
    'slope, MB per million calls': fixed(slope),
  }
  return { title: 'Soak: memory over many calls, one in ten given up', rows: [row] }
}

/** Asks for a stream and hangs up at the first byte of its answer. */
function giveUp(system: RunningSystem): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ port: system.port, host: '127.0.0.1' })
    socket.on('error', () => {})
    socket.on('close', () => resolve())
    socket.once('data', () => socket.destroy())
    socket.write(requestOf(system, bodyOf(1000, true)))
  })
}

/** The median of the slopes between all pairs (Sen, 1968): a few odd points do not move it. */
function theilSen(points: readonly { calls: number; rssBytes: number }[]): number {
  const slopes = points.flatMap((a, at) =>
    points.slice(at + 1).map((b) => (b.rssBytes - a.rssBytes) / 1e6 / ((b.calls - a.calls) / 1e6)),
  )
  return percentile(slopes, 0.5)
}
