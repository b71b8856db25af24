import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Vault } from '../api-keys/vault.ts'
import { openBatchWriter } from '../db/batch-writer.ts'
import type { Db, Tx } from '../db/database.ts'
import type { Captured } from './capture.ts'
import { type ContentKind, type ContentRow, insertContentsInAny } from './store.ts'

/** What went through one call upstream. */
export interface Content {
  organizationId: string
  attemptId: string
  /** How long it is to be kept. */
  days: number
  request: Captured | undefined
  response: Captured | undefined
}

/**
 * Writes content behind the requests' backs. What waits is bounded, by bytes and by number: beyond that content is dropped and
 * counted, never waited for. Accounting does not pass through here.
 */
export interface ContentWriter {
  /** Never waits and never fails. */
  keep(content: Content): void
  /** Calls whose content was not kept since this process started. */
  readonly droppedCount: number
  /** Bytes that wait to be written. */
  readonly pendingBytes: number
  /** Resolves when what is kept by now can be read from the database. */
  flush(signal?: AbortSignal): Promise<void>
  /** Writes what is left, for a bounded time. */
  [Symbol.asyncDispose](): Promise<void>
}

export const PENDING_CONTENT_BYTES_MAX = 64 * 1024 * 1024

export function openContentWriter(deps: {
  db: Db
  vault: Vault
  pendingBytesMax: number
  /** The database was away; what waits is tried again. */
  onFault: (error: Error, pendingCount: number) => void
  /** Content was dropped since the last time; called once a minute at most. */
  onDropped: (droppedCount: number, error: Error | undefined) => void
}): ContentWriter {
  const { db, vault } = deps
  let pendingBytes = 0
  let droppedCount = 0
  let lastReportAt = Number.NEGATIVE_INFINITY

  /** A batch may be tried again after some of it was written: what is done lets go of its content. */
  function release(item: Pending): void {
    pendingBytes -= item.bytes
    item.bytes = 0
    item.content = undefined
  }

  function drop(error?: Error): void {
    droppedCount += 1
    const now = performance.now()
    if (now - lastReportAt < REPORT_INTERVAL_MS) return
    lastReportAt = now
    deps.onDropped(droppedCount, error)
  }

  const writer = openBatchWriter<Pending>({
    async write(items) {
      for (const group of groupByBytes(items)) {
        await db.forOperator(async (tx) => insertContentsInAny(tx, await sealAll(tx, vault, group)), WRITE_TIMEOUT_MS)
        for (const item of group) release(item)
      }
    },
    intervalMs: WRITE_INTERVAL_MS,
    batchMax: BATCH_MAX,
    pendingMax: PENDING_MAX,
    closeTimeoutMs: CLOSE_TIMEOUT_MS,
    onFault: deps.onFault,
    onRefused(item, error) {
      release(item)
      drop(error)
    },
  })

  return {
    keep(content) {
      const bytes = (content.request?.bytes.length ?? 0) + (content.response?.bytes.length ?? 0) + OVERHEAD_BYTES
      if (writer.isFull || pendingBytes + bytes > deps.pendingBytesMax) {
        drop()
        return
      }
      pendingBytes += bytes
      writer.add({ content, keptAt: new Date(), bytes })
    },
    get droppedCount() {
      return droppedCount
    },
    get pendingBytes() {
      return pendingBytes
    },
    flush: (signal) => writer.flush(signal),
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  }
}

/** What is bound into a sealed body, beside its organization. */
export function contentContext(attemptId: string, kind: ContentKind): string {
  return `content|${attemptId}|${kind}`
}

interface Pending {
  /** Undefined once it is written or given up. */
  content: Content | undefined
  keptAt: Date
  bytes: number
}

const WRITE_INTERVAL_MS = 200
const WRITE_TIMEOUT_MS = 5000
const CLOSE_TIMEOUT_MS = 2000
const REPORT_INTERVAL_MS = 60_000
const BATCH_MAX = 500
const PENDING_MAX = 20_000
/** Of one transaction: what is being sealed and sent is held a second and a third time. */
const GROUP_BYTES_MAX = 4 * 1024 * 1024
/** What an item takes beside its bodies, roughly. */
const OVERHEAD_BYTES = 512
const DAY_MS = 86_400_000

/** What still has to be written, in groups that fit a transaction. */
function groupByBytes(items: readonly Pending[]): Pending[][] {
  const groups: Pending[][] = []
  let bytes = GROUP_BYTES_MAX
  for (const item of items) {
    if (!item.content) continue
    bytes += item.bytes
    if (bytes > GROUP_BYTES_MAX) {
      groups.push([])
      bytes = item.bytes
    }
    groups.at(-1)?.push(item)
  }
  return groups
}

async function sealAll(tx: Tx, vault: Vault, items: readonly Pending[]): Promise<ContentRow[]> {
  const rows: ContentRow[] = []
  // Always in one order, so that two servers never wait for each other.
  const byOrganization = Map.groupBy(items, ({ content }) => content?.organizationId ?? '')
  for (const organizationId of [...byOrganization.keys()].sort()) {
    const seal = await vault.sealer(tx, organizationId)
    for (const { content, keptAt } of byOrganization.get(organizationId) ?? []) {
      if (!content) continue
      rows.push(...toRows(seal, content, keptAt))
      // A mebibyte takes about a millisecond: requests get their turn in between.
      await nextTurn()
    }
  }
  return rows
}

function toRows(seal: (context: string, plain: Buffer) => Buffer, content: Content, keptAt: Date): ContentRow[] {
  const { organizationId, attemptId, days } = content
  const bodies: [ContentKind, Captured | undefined][] = [
    ['request', content.request],
    ['response', content.response],
  ]
  return bodies.flatMap(([kind, captured]) => {
    if (!captured) return []
    const { bytes, originalBytes } = captured
    return {
      organization_id: organizationId,
      attempt_id: attemptId,
      kind,
      sealed: seal(contentContext(attemptId, kind), bytes),
      original_bytes: originalBytes,
      is_cut: bytes.length < originalBytes,
      created_at: keptAt,
      expires_at: new Date(keptAt.getTime() + days * DAY_MS),
    }
  })
}
