import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { bodySizes, firstEvents, latencies, manyStreams, type Part, type Row, throughput } from './parts.ts'
import { soak } from './soak.ts'
import { startUp } from './start-up.ts'
import { direct, NGINX, PASS_THROUGH, PORTKEY, PROXY, type RunningSystem } from './systems.ts'
import type { StreamShape } from './upstream.ts'

/** What every part measures with. */
export interface Bench {
  rounds: number
  /** A tenth of the time, for a look rather than a figure. */
  isQuick: boolean
  direct: RunningSystem
  systems: ReadonlyMap<string, RunningSystem>
  setStreams(shape: StreamShape): void
}

const PARTS: Record<string, Part> = {
  throughput,
  latency: latencies,
  'first-event': firstEvents,
  streams: manyStreams,
  bodies: bodySizes,
  'start-up': startUp,
  soak,
}

export const RELAY_PARTS = Object.keys(PARTS)

export interface RelayBenchOptions {
  quick?: boolean
  json?: string
}

/** The proxy against what it is compared with, in one run. */
export async function benchRelay(names: readonly string[], options: RelayBenchOptions): Promise<void> {
  const isQuick = options.quick === true

  keepOffFirstCore()
  const upstream = fork(join(import.meta.dirname, 'upstream.ts'))
  const [port] = (await once(upstream, 'message')) as [number]
  const systems = new Map<string, RunningSystem>()
  for (const kind of [PROXY, PASS_THROUGH, NGINX, PORTKEY]) {
    const system = await kind.start(port)
    if (system) systems.set(kind.name, system)
    else console.log(`${kind.name} is not to be had here and is left out.`)
  }
  const bench: Bench = {
    rounds: isQuick ? 2 : 5,
    isQuick,
    direct: direct(port),
    systems,
    setStreams: (shape) => upstream.send(shape),
  }
  console.log(
    `${cpus().length} cores (${cpus()[0]?.model}), Node ${process.version}; each system on one core, all else on the others`,
  )
  for (const { name, does } of systems.values()) console.log(`  ${name}: ${does}`)

  const results: Record<string, readonly Row[]> = {}
  for (const [name, part] of Object.entries(PARTS)) {
    if (names.length > 0 ? !names.includes(name) : name === 'soak') continue
    const { title, rows } = await part(bench)
    console.log(`\n${title}`)
    console.table(rows)
    results[name] = rows
  }
  for (const system of systems.values()) await system.stop()
  upstream.disconnect()
  if (options.json !== undefined)
    await writeFile(options.json, `${JSON.stringify({ node: process.version, results }, undefined, 2)}\n`)
}

/** Load, upstream and database leave the first core to what is measured. */
function keepOffFirstCore(): void {
  if (cpus().length < 2) return
  try {
    execFileSync('taskset', ['-acp', `1-${cpus().length - 1}`, String(process.pid)], { stdio: 'ignore' })
  } catch {
    // Not on this system: everything shares every core.
  }
}
