import { VERSION } from '../version.ts'
import type { ProcessLoad } from './process-load.ts'
import type { Registry } from './registry.ts'

/** What running parts know of themselves anyway. */
export interface GaugeSources {
  capacity: { readonly count: number; readonly bodyBytes: number }
  relay: { readonly inFlightCount: number }
  journal: { readonly bytes: number; readonly segmentCount: number; readonly isFull: boolean }
  ledger: { readonly pendingCount: number; readonly oldestUnshippedMs: number }
  contents: { readonly droppedCount: number; readonly pendingBytes: number }
  db: { readonly pool: { busy: number; idle: number; waiting: number } }
  channel: { readonly isUp: boolean }
  cache: { readonly staleServedCount: number }
  heartbeat: { readonly clockSkewMs: number }
  logOutput: { readonly droppedCount: number }
  spans: { readonly droppedCount: number } | undefined
  load: ProcessLoad
}

export function observeGauges(registry: Registry, from: GaugeSources): void {
  const gauge = registry.observe.bind(registry, 'gauge')
  const counter = registry.observe.bind(registry, 'counter')
  gauge('openai_proxy_info', 'The version that runs.', () => [{ labels: { version: VERSION }, value: 1 }])
  gauge(
    'openai_proxy_in_flight_requests',
    'Relayed requests that were let in and are not over.',
    () => from.capacity.count,
  )
  gauge('openai_proxy_in_flight_upstream_calls', 'Calls to OpenAI that are under way.', () => from.relay.inFlightCount)
  gauge('openai_proxy_request_body_bytes', 'Request bodies held in memory.', () => from.capacity.bodyBytes)
  gauge('openai_proxy_journal_bytes', 'Size of the journal on disk.', () => from.journal.bytes)
  gauge('openai_proxy_journal_segments', 'Files of the journal.', () => from.journal.segmentCount)
  gauge('openai_proxy_journal_full', '1 while calls are refused because the journal has no room.', () =>
    Number(from.journal.isFull),
  )
  gauge(
    'openai_proxy_ledger_pending_records',
    'Calls that are open or not in the database yet.',
    () => from.ledger.pendingCount,
  )
  gauge(
    'openai_proxy_oldest_unshipped_seconds',
    'For how long the oldest record has waited for the database.',
    () => from.ledger.oldestUnshippedMs / 1000,
  )
  gauge('openai_proxy_content_pending_bytes', 'Content that waits to be written.', () => from.contents.pendingBytes)
  counter('openai_proxy_content_dropped_total', 'Calls whose content was not kept.', () => from.contents.droppedCount)
  gauge('openai_proxy_database_connections', 'Connections of the pool, and requests that wait for one.', () =>
    Object.entries(from.db.pool).map(([state, value]) => ({ labels: { state }, value })),
  )
  gauge(
    'openai_proxy_invalidation_channel_down',
    '1 while changes of keys and tokens are not heard of, but read again.',
    () => Number(!from.channel.isUp),
  )
  counter(
    'openai_proxy_stale_identity_served_total',
    'Reads answered from memory because the database did not answer.',
    () => from.cache.staleServedCount,
  )
  gauge(
    'openai_proxy_clock_skew_seconds',
    "This machine's clock less the database's.",
    () => from.heartbeat.clockSkewMs / 1000,
  )
  counter('openai_proxy_log_lines_dropped_total', 'Log lines that nobody took.', () => from.logOutput.droppedCount)
  counter('openai_proxy_spans_dropped_total', 'Spans that reached no collector.', () => from.spans?.droppedCount ?? 0)
  gauge('openai_proxy_event_loop_delay_seconds', 'How late the event loop was in the last second.', () => [
    { labels: { quantile: '0.99' }, value: from.load.loopDelayP99Ms / 1000 },
    { labels: { quantile: '1' }, value: from.load.loopDelayMaxMs / 1000 },
  ])
  gauge('process_resident_memory_bytes', 'Memory of the process.', () => from.load.residentBytes)
  gauge('nodejs_heap_used_bytes', 'Memory of its objects.', () => process.memoryUsage().heapUsed)
  gauge('process_start_time_seconds', 'When the process started, since 1970.', () => performance.timeOrigin / 1000)
  counter('process_cpu_seconds_total', 'Processor time of the process.', () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
}
