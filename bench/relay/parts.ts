import { closedLoop, openLoop, percentile, streams } from './measure.ts'
import type { Bench } from './run.ts'
import type { RunningSystem } from './systems.ts'

export type Row = Record<string, string | number>

/** One question that is measured, and its answer. */
export type Part = (bench: Bench) => Promise<{ title: string; rows: Row[] }>

/** How many calls a second one process makes, and what each costs it. */
export const throughput: Part = async ({ rounds, isQuick, systems }) => {
  const seconds = isQuick ? 1 : 5
  const results = new Map([...systems.keys()].map((name) => [name, [] as Awaited<ReturnType<typeof closedLoop>>[]]))
  // Once without counting: what the compiler and the caches do once is not what a day's work costs.
  for (const system of systems.values()) await closedLoop(system, { connections: 64, seconds, bodyBytes: 1000 })
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, system] of systems) {
      results.get(name)?.push(await closedLoop(system, { connections: 64, seconds, bodyBytes: 1000 }))
    }
  }
  const ours = results.get('proxy') ?? []
  const rows = [...results].map(([system, runs]) => ({
    system,
    'calls/s': Math.round(median(runs.map(({ perSecond }) => perSecond))),
    'proxy/it': spread(ours.map(({ perSecond }, round) => perSecond / (runs[round]?.perSecond ?? perSecond))),
    'cpu us/call': Math.round(median(runs.map(({ cpuMsPerCall }) => cpuMsPerCall * 1000))),
    'p50 ms': fixed(median(runs.map(({ p50Ms }) => p50Ms))),
    'p99 ms': fixed(median(runs.map(({ p99Ms }) => p99Ms))),
  }))
  return { title: 'Throughput: 64 connections, each one call after the other, 1 KB bodies', rows }
}

/** What a call takes longer through the proxy, at rates that do not depend on the answers. */
export const latencies: Part = async (bench) => {
  const proxy = ourselves(bench)
  const rows: Row[] = []
  for (const perSecond of [100, 200, 500]) {
    const options = { perSecond, seconds: bench.isQuick ? 2 : 6 }
    rows.push({ 'calls/s': perSecond, ...(await added(bench, (system) => openLoop(system, options), proxy)) })
  }
  return { title: 'Added latency in ms: fixed schedule, directly and through the proxy in turn', rows }
}

/** The same to the first event of a stream, and from event to event. */
export const firstEvents: Part = async (bench) => {
  const proxy = ourselves(bench)
  bench.setStreams({ events: 20, gapMs: 20 })
  const options = { perSecond: 50, seconds: bench.isQuick ? 2 : 6, isStream: true }
  const first = await added(bench, (system) => openLoop(system, options), proxy)
  bench.setStreams({ events: 100, gapMs: 20 })
  const rows: Row[] = [{ what: 'first event', ...first }]
  const ways = async (system: RunningSystem) => (await streams(system, { count: 20, openMs: 500 })).waysMs
  rows.push({ what: 'each event', ...(await added(bench, ways, proxy)) })
  return { title: 'Added time in ms to the first event (50 streams/s), and to each event (20 streams)', rows }
}

/** Many streams at once. */
export const manyStreams: Part = async (bench) => {
  const rows: Row[] = []
  bench.setStreams({ events: bench.isQuick ? 20 : 60, gapMs: 100 })
  for (const count of [500, 2000]) {
    for (const [name, system] of bench.systems) {
      if (name === 'portkey') continue
      system.child?.send?.('reset')
      const result = await streams(system, { count, openMs: 1500 })
      rows.push({
        streams: count,
        system: name,
        failed: result.failed,
        'cpu us/event': fixed(result.cpuUsPerEvent),
        'KiB/stream': Math.round(result.rssBytesPerStream / 1024),
        'event p50 ms': fixed(percentile(result.waysMs, 0.5)),
        'event p99 ms': fixed(percentile(result.waysMs, 0.99)),
        'loop delay p99 ms': name === 'proxy' ? fixed(await loopDelay(system)) : '',
      })
    }
  }
  return { title: 'Streams at once, 10 events a second each', rows }
}

/** Bodies of every size. */
export const bodySizes: Part = async ({ rounds, isQuick, systems }) => {
  const rows: Row[] = []
  for (const [label, bodyBytes] of [
    ['1 KB', 1e3],
    ['100 KB', 1e5],
    ['1 MB', 1e6],
    ['10 MB', 1e7],
  ] as const) {
    const measured = new Map<string, number[]>()
    for (let round = 0; round < rounds; round += 1) {
      for (const name of ['proxy', 'pass-through']) {
        const system = systems.get(name)
        if (!system) continue
        const { perSecond } = await closedLoop(system, { connections: 8, seconds: isQuick ? 1 : 3, bodyBytes })
        measured.set(name, [...(measured.get(name) ?? []), perSecond])
      }
    }
    const [ours = [], theirs = []] = [measured.get('proxy'), measured.get('pass-through')]
    rows.push({
      body: label,
      'proxy calls/s': fixed(median(ours)),
      'pass-through calls/s': fixed(median(theirs)),
      ratio: spread(ours.map((perSecond, round) => perSecond / (theirs[round] ?? perSecond))),
    })
  }
  return { title: 'Request bodies by size, 8 connections', rows }
}

export function ourselves({ systems }: Bench): RunningSystem {
  const proxy = systems.get('proxy')
  if (!proxy) throw new Error('The proxy did not start.')
  return proxy
}

/** What a figure is above the same without anything in between, round by round, so that the machine's moods cancel out. */
async function added(
  bench: Bench,
  measure: (system: RunningSystem) => Promise<number[]>,
  proxy: RunningSystem,
): Promise<Row> {
  const differences: Record<'p50' | 'p99', number[]> = { p50: [], p99: [] }
  await measure(proxy)
  for (let round = 0; round < bench.rounds; round += 1) {
    const without = await measure(bench.direct)
    const through = await measure(proxy)
    differences.p50.push(percentile(through, 0.5) - percentile(without, 0.5))
    differences.p99.push(percentile(through, 0.99) - percentile(without, 0.99))
  }
  return { 'added p50': spread(differences.p50), 'added p99': spread(differences.p99) }
}

async function loopDelay(system: RunningSystem): Promise<number> {
  const answer = new Promise<{ loopDelayP99Ms: number }>((resolve) => {
    system.child?.once('message', (message) => resolve(message as { loopDelayP99Ms: number }))
  })
  system.child?.send('loop-delay')
  return (await answer).loopDelayP99Ms
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5)
}

/** The median, and between what it lay. */
function spread(values: readonly number[]): string {
  return `${fixed(median(values))} (${fixed(Math.min(...values))} to ${fixed(Math.max(...values))})`
}

export function fixed(value: number): string {
  return value.toFixed(Math.abs(value) >= 100 ? 0 : 2)
}
