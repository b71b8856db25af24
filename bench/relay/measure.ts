import { setTimeout as sleep } from 'node:timers/promises'
import { type RunningSystem, usageOf } from './systems.ts'
import { connectWire, type WireClient } from './wire-client.ts'

export function requestOf(system: RunningSystem, body: Buffer): Buffer {
  const head = `POST /v1/responses HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n${system.headers}content-length: ${body.length}\r\n\r\n`
  return Buffer.concat([Buffer.from(head), body])
}

/** A request of about this many bytes. */
export function bodyOf(bytes: number, isStream: boolean): Buffer {
  const start = `{"model":"gpt-4o-mini","stream":${isStream},"input":"`
  return Buffer.from(
    `${start}${'All work and no play makes a dull boy. '.repeat(bytes / 39 + 1).slice(0, bytes - start.length - 2)}"}`,
  )
}

export interface Throughput {
  perSecond: number
  cpuMsPerCall: number
  p50Ms: number
  p99Ms: number
}

/** Each connection makes one call after the other, as many as it can. */
export async function closedLoop(
  system: RunningSystem,
  options: { connections: number; seconds: number; bodyBytes: number },
): Promise<Throughput> {
  const request = requestOf(system, bodyOf(options.bodyBytes, false))
  const clients = await connectAll(system, options.connections)
  const latencies: number[] = []
  const cpuBefore = usageOf(system).cpuMs
  const startedAt = performance.now()
  const endsAt = startedAt + options.seconds * 1000
  await Promise.all(
    clients.map(async (client) => {
      for (;;) {
        const sentAt = performance.now()
        if (sentAt >= endsAt) return
        expectOk(await client.call(request), system)
        latencies.push(performance.now() - sentAt)
      }
    }),
  )
  const seconds = (performance.now() - startedAt) / 1000
  const cpuMs = usageOf(system).cpuMs - cpuBefore
  for (const client of clients) client.close()
  return {
    perSecond: latencies.length / seconds,
    cpuMsPerCall: cpuMs / latencies.length,
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
  }
}

/** Calls on a fixed schedule; each latency counts from when its call should have left, so that what queues is seen. */
export async function openLoop(
  system: RunningSystem,
  options: { perSecond: number; seconds: number; isStream?: boolean },
): Promise<number[]> {
  const request = requestOf(system, bodyOf(1000, options.isStream ?? false))
  const idle = await connectAll(system, Math.max(8, options.perSecond / 10))
  const all = [...idle]
  const total = options.perSecond * options.seconds
  const latencies: number[] = []
  const startAt = performance.now() + 20
  const running: Promise<void>[] = []
  for (let sent = 0; sent < total; ) {
    const dueAt = startAt + (sent * 1000) / options.perSecond
    if (performance.now() < dueAt) {
      await sleep(1)
      continue
    }
    sent += 1
    running.push(one(dueAt))
  }
  await Promise.all(running)
  for (const client of all) client.close()
  return latencies

  async function one(dueAt: number): Promise<void> {
    let client = idle.pop()
    if (!client) {
      client = await connectWire(system.port)
      all.push(client)
    }
    let firstEventMs: number | undefined
    const onData = options.isStream
      ? () => {
          firstEventMs ??= performance.now() - dueAt
        }
      : undefined
    expectOk(await client.call(request, onData), system)
    latencies.push(firstEventMs ?? performance.now() - dueAt)
    idle.push(client)
  }
}

export interface Streams {
  failed: number
  events: number
  /** How long events, one in sixteen of them, were on their way from the upstream's socket to the client's. */
  waysMs: number[]
  cpuUsPerEvent: number
  rssBytesPerStream: number
}

/** So many streams at once; the memory is looked at while all are open. */
export async function streams(system: RunningSystem, options: { count: number; openMs: number }): Promise<Streams> {
  const request = requestOf(system, bodyOf(1000, true))
  const clients = await connectAll(system, options.count)
  const ways: number[] = []
  let failed = 0
  let events = 0
  const before = usageOf(system)
  const calls = clients.map(async (client) => {
    let hasEnd = false
    const status = await client
      .call(request, (piece) => {
        const text = piece.toString('latin1')
        const now = process.hrtime.bigint()
        for (const [, at = '0'] of text.matchAll(/"at":"(\d+)"/g)) {
          events += 1
          if (events % 16 === 0) ways.push(Number(now - BigInt(at)) / 1e6)
        }
        hasEnd ||= text.includes('"type":"response.completed"')
      })
      .catch(() => 0)
    if (status !== 200 || !hasEnd) failed += 1
  })
  await sleep(options.openMs)
  const rssBytes = usageOf(system).rssBytes - before.rssBytes
  await Promise.all(calls)
  const cpuMs = usageOf(system).cpuMs - before.cpuMs
  for (const client of clients) client.close()
  return {
    failed,
    events,
    waysMs: ways,
    cpuUsPerEvent: (cpuMs * 1000) / events,
    rssBytesPerStream: rssBytes / options.count,
  }
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}

async function connectAll(system: RunningSystem, count: number): Promise<WireClient[]> {
  const clients: WireClient[] = []
  // Some at a time: more at once would overflow a listener's backlog.
  while (clients.length < count) {
    const some = Math.min(100, count - clients.length)
    clients.push(...(await Promise.all(Array.from({ length: some }, () => connectWire(system.port)))))
  }
  return clients
}

function expectOk(status: number, system: RunningSystem): void {
  if (status !== 200) throw new Error(`${system.name} answered with status ${status}.`)
}
