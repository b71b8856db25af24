import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { hasLiveLease } from '../db/process-lock.ts'
import type { OwnedObject } from '../ownership/service.ts'
import { isBehind, LEASES, readJournal } from './journal.ts'
import type { DeferredRecord, OpenedRecord, ProgressRecord } from './ledger.ts'
import type { SettledRow } from './store.ts'

/** What a dead process's journal still has to tell the database. */
export interface Recovered {
  /** Settled, but perhaps never shipped. */
  settled: SettledRow[]
  /** Opened and never settled, with the last that was known of each. */
  unsettled: { opened: OpenedRecord; progress: ProgressRecord | undefined }[]
  deferred: DeferredRecord[]
  owned: OwnedObject[]
  damagedBytes: number
}

/** The journals below `directory` whose writers are dead. */
export async function findDeadJournals(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  const dead: string[] = []
  for (const entry of entries) {
    const journal = join(directory, entry.name)
    if (entry.isDirectory() && !(await hasLiveLease(join(journal, LEASES)).catch(() => false))) dead.push(journal)
  }
  return dead
}

export async function recoverJournal(directory: string): Promise<Recovered> {
  const { records, shipped, damagedBytes } = await readJournal(directory)
  const open = new Map<string, { opened: OpenedRecord; progress: ProgressRecord | undefined }>()
  const settled: SettledRow[] = []
  const deferred: DeferredRecord[] = []
  const owned: OwnedObject[] = []
  for (const { record, position } of records) {
    const entry = record as JournalRecord
    if (entry.opened) {
      open.set(entry.opened.id, { opened: entry.opened, progress: undefined })
    } else if (entry.progress) {
      const attempt = open.get(entry.progress.id)
      if (attempt) attempt.progress = entry.progress
    } else if (entry.settled) {
      open.delete(entry.settled.attempt_id)
      if (!isBehind(position, shipped)) settled.push(entry.settled)
    } else if (entry.deferred) {
      open.delete(entry.deferred.opened.id)
      if (!isBehind(position, shipped)) deferred.push(entry.deferred)
    } else if (entry.owned) {
      owned.push(entry.owned)
    }
  }
  return { settled, deferred, unsettled: [...open.values()], owned, damagedBytes }
}

interface JournalRecord {
  opened?: OpenedRecord
  progress?: ProgressRecord
  settled?: SettledRow
  deferred?: DeferredRecord
  owned?: OwnedObject
}
