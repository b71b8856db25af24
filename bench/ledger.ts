import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startSimulator } from '../simulator/server.ts'
import { type Latencies, openLoop, percentile } from './open-loop.ts'

const PER_SECOND = 200
const SECONDS = 3

/** What journal and ledger add to a call at 200 a second, with and without in turn, in one run. */
export async function benchLedger(rounds: number): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'openai-proxy-bench-'))
  const simulator = await startSimulator()
  const server = fork(join(import.meta.dirname, 'ledger-server.ts'), [directory, simulator.url])
  const [{ on, off, token }] = (await once(server, 'message')) as [{ on: number; off: number; token: string }]
  const agent = new Agent({ keepAlive: true, maxSockets: 256 })
  const body = JSON.stringify({ model: 'gpt-4o-mini', input: 'x'.repeat(1000) })
  const run = (port: number) => openLoop({ port, token, body, perSecond: PER_SECOND, seconds: SECONDS, agent })

  await run(on)
  await run(off)
  const all: { on: Latencies; off: Latencies } = { on: [], off: [] }
  const differences: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const [withLedger, without] = round % 2 === 0 ? [await run(on), await run(off)] : await inReverse()
    all.on.push(...withLedger)
    all.off.push(...without)
    differences.push(percentile(withLedger, 0.5) - percentile(without, 0.5))
    process.stderr.write(`\rround ${round + 1} of ${rounds}`)
  }
  process.stderr.write('\n')

  const row = (latencies: Latencies) => ({
    p50: percentile(latencies, 0.5).toFixed(3),
    p90: percentile(latencies, 0.9).toFixed(3),
    p99: percentile(latencies, 0.99).toFixed(3),
  })
  console.log(`Latency in ms at ${PER_SECOND} requests a second, open loop, ${all.on.length} calls each:`)
  console.table({ 'journal and ledger on': row(all.on), 'journal and ledger off': row(all.off) })
  console.log(
    `Added p50, median of ${rounds} rounds: ${percentile(differences, 0.5).toFixed(3)} ms ` +
      `(from ${Math.min(...differences).toFixed(3)} to ${Math.max(...differences).toFixed(3)})`,
  )
  server.send('stop')
  await once(server, 'exit')
  agent.destroy()
  await simulator[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true, maxRetries: 10 })

  async function inReverse(): Promise<[Latencies, Latencies]> {
    const without = await run(off)
    return [await run(on), without]
  }
}
