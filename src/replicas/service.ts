import type { Db } from '../db/database.ts'
import { VERSION } from '../version.ts'
import { deleteReplica, deleteReplicasNotSeenFor, listReplicasSeenWithin, upsertReplica } from './store.ts'

/** A server process that works on this database. */
export interface Replica {
  id: string
  version: string
  /** What the operator calls it (`REPLICA_NAME`). */
  name: string | null
  startedAt: Date
  lastSeenAt: Date
  /** Records of calls that are in its journal and not in the database yet. */
  unshippedRecords: number
  journalBytes: number
}

/** Tells the others, and whoever asks, that this process lives, until it is disposed of. */
export interface Heartbeat {
  /** How far this machine's clock is ahead of the database's, as of the last beat. */
  readonly clockSkewMs: number
  [Symbol.asyncDispose](): Promise<void>
}

export function startHeartbeat(deps: {
  db: Db
  id: string
  name: string | undefined
  measure: () => { unshippedRecords: number; journalBytes: number }
  onFault: (error: Error) => void
}): Heartbeat {
  const { db, id } = deps
  let clockSkewMs = 0
  let isClosed = false
  let timer: NodeJS.Timeout | undefined
  let beating = beat()

  async function beat(): Promise<void> {
    try {
      await db.forOperator(async (tx) => {
        const { unshippedRecords, journalBytes } = deps.measure()
        const row = { id, version: VERSION, name: deps.name ?? null, unshipped_records: unshippedRecords }
        const sentAt = Date.now()
        const databaseTime = await upsertReplica(tx, { ...row, journal_bytes: journalBytes })
        clockSkewMs = (sentAt + Date.now()) / 2 - databaseTime.getTime()
        await deleteReplicasNotSeenFor(tx, FORGOTTEN_AFTER_SECONDS)
      })
    } catch (error) {
      deps.onFault(error as Error)
    }
    if (isClosed) return
    timer = setTimeout(() => {
      beating = beat()
    }, INTERVAL_MS)
    timer.unref()
  }

  return {
    get clockSkewMs() {
      return clockSkewMs
    },
    async [Symbol.asyncDispose]() {
      isClosed = true
      clearTimeout(timer)
      await beating
      // Who leaves without a word is missed soon enough.
      await db.forOperator((tx) => deleteReplica(tx, id), LEAVE_TIMEOUT_MS).catch(() => {})
    },
  }
}

/** Those that live: a process that has missed three beats is taken for dead. */
export async function listReplicas({ db }: { db: Db }): Promise<Replica[]> {
  const rows = await db.forOperator((tx) => listReplicasSeenWithin(tx, DEAD_AFTER_SECONDS))
  return rows.map((row) => ({
    id: row.id,
    version: row.version,
    name: row.name,
    startedAt: row.started_at,
    lastSeenAt: row.last_seen_at,
    unshippedRecords: Number(row.unshipped_records),
    journalBytes: Number(row.journal_bytes),
  }))
}

const INTERVAL_MS = 5000
const DEAD_AFTER_SECONDS = 20
const FORGOTTEN_AFTER_SECONDS = 3600
const LEAVE_TIMEOUT_MS = 1000
