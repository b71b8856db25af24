import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { takeLease } from '../db/process-lock.ts'
import { crc32c } from './crc32c.ts'

const syncData = promisify(fdatasync)

/** Where a record ends: shipping has reached it when everything up to here is in the database. */
export interface Position {
  segment: number
  offset: number
}

/**
 * A file of records on this machine's disk, so that no call upstream is forgotten when the process or the database dies.
 *
 * An append is in the hands of the operating system when it returns: it survives `kill -9`. It survives a power cut once it has been
 * synced, at most `syncIntervalMs` later or before the append returns. Records are framed by length and CRC-32C; what a crash left torn is cut off on reading.
 */
export interface Journal {
  /** @throws the file system's error when the disk is full; nothing half-written stays behind. */
  append(record: unknown): Position
  /** As `append`, but may use the space kept in reserve. Never throws: what cannot be written is reported. */
  appendWithReserve(record: unknown): Position
  /** True while there is no room to promise that what is begun can also be ended. */
  readonly isFull: boolean
  readonly bytes: number
  readonly segmentCount: number
  /** An attempt opened in this segment is settled no more, or again. */
  hold(segment: number): void
  release(segment: number): void
  /** Everything up to here is in the database: old segments without open attempts may go. */
  shipped(position: Position): void
  [Symbol.asyncDispose](): Promise<void>
}

export interface JournalOptions {
  directory: string
  syncIntervalMs: number
  /** `every`: each record is on the disk when its append returns. */
  sync: 'interval' | 'every'
  bytesMax: number
  onFault(error: Error, what: string): void
}

/** Opens a journal of this process's own below `directory`, beside those that others left. */
export async function openJournal(options: JournalOptions & { name: string }): Promise<Journal> {
  const directory = join(options.directory, options.name)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const giveLeaseBack = await takeLease(join(directory, LEASES))
  return new FileJournal(directory, options, giveLeaseBack)
}

/** What reading a journal found: its records in order, and how far they had been shipped. */
export interface JournalContent {
  records: { record: unknown; position: Position }[]
  shipped: Position
  /** Bytes cut off segments whose end was torn or damaged. */
  damagedBytes: number
}

/** Reads a journal that nobody writes any more. Each segment is read up to its last good record. */
export async function readJournal(directory: string): Promise<JournalContent> {
  const records: JournalContent['records'] = []
  let shipped: Position = { segment: 0, offset: 0 }
  let damagedBytes = 0
  for (const segment of listSegments(directory)) {
    // One segment at a time, so that requests are served in between.
    const bytes = await readFile(join(directory, fileName(segment)))
    let offset = 0
    for (;;) {
      const frame = readFrame(bytes, offset)
      if (!frame) break
      offset = frame.end
      if (isShippedMark(frame.record)) shipped = frame.record.shipped
      else records.push({ record: frame.record, position: { segment, offset } })
    }
    damagedBytes += bytes.length - offset
  }
  return { records, shipped, damagedBytes }
}

export function isBehind(position: Position, mark: Position): boolean {
  return position.segment < mark.segment || (position.segment === mark.segment && position.offset <= mark.offset)
}

/** The file in a journal's directory that says who is writing it. */
export const LEASES = 'writer'

const FORMAT_VERSION = 1
/** Length and CRC-32C of the payload, which is the version byte and the record as JSON. */
const HEADER_BYTES = 8
const RECORD_BYTES_MAX = 1024 * 1024
const SEGMENT_BYTES = 8 * 1024 * 1024
/** Enough to settle some ten thousand attempts that were open when the disk filled up. */
const RESERVE_BYTES = 16 * 1024 * 1024
const SPACE_CHECK_INTERVAL_MS = 1000
/** A database that failed over to a standby may have lost its last commits: what was shipped lately is kept. */
const KEEP_MS = 15 * 60_000

class FileJournal implements Journal {
  readonly #directory: string
  readonly #options: JournalOptions
  readonly #giveLeaseBack: () => Promise<void>
  readonly #timers: NodeJS.Timeout[]
  /** Attempts opened in each segment and not settled yet. */
  readonly #held = new Map<number, number>()
  readonly #sizes = new Map<number, number>()
  #segment = 1
  #file: number
  #offset = 0
  #isDirty = false
  #isSyncing = false
  /** One sync at a time, in order: no file is closed while it is being synced. */
  #syncing: Promise<void> = Promise.resolve()
  #isFull = false
  /** Nothing that matters was appended since the last mark. */
  #isShipped = true

  constructor(directory: string, options: JournalOptions, giveLeaseBack: () => Promise<void>) {
    this.#directory = directory
    this.#options = options
    this.#giveLeaseBack = giveLeaseBack
    this.#file = openSync(join(directory, fileName(this.#segment)), 'ax', 0o600)
    this.#checkSpace()
    this.#timers = [
      setInterval(() => this.#sync(), options.syncIntervalMs),
      setInterval(() => this.#checkSpace(), SPACE_CHECK_INTERVAL_MS),
    ]
    for (const timer of this.#timers) timer.unref()
  }

  append(record: unknown): Position {
    const frame = toFrame(record)
    if (this.#offset > 0 && this.#offset + frame.length > SEGMENT_BYTES) this.#rotate()
    this.#write(frame)
    if (this.#options.sync === 'every') this.#syncNow(frame)
    this.#isShipped = false
    return { segment: this.#segment, offset: this.#offset }
  }

  appendWithReserve(record: unknown): Position {
    for (const isLastTry of [false, true]) {
      try {
        return this.append(record)
      } catch (error) {
        this.#isFull = true
        rmSync(join(this.#directory, RESERVE), { force: true })
        if (isLastTry) this.#options.onFault(error as Error, 'a settlement could not be written to the journal')
      }
    }
    return { segment: this.#segment, offset: this.#offset }
  }

  get isFull(): boolean {
    return this.#isFull
  }

  get bytes(): number {
    let bytes = this.#offset
    for (const size of this.#sizes.values()) bytes += size
    return bytes
  }

  get segmentCount(): number {
    return this.#sizes.size + 1
  }

  hold(segment: number): void {
    this.#held.set(segment, (this.#held.get(segment) ?? 0) + 1)
  }

  release(segment: number): void {
    const count = (this.#held.get(segment) ?? 1) - 1
    if (count === 0) this.#held.delete(segment)
    else this.#held.set(segment, count)
  }

  shipped(position: Position): void {
    const isLast = position.segment === this.#segment && position.offset === this.#offset
    try {
      this.append({ shipped: position })
      this.#isShipped = isLast
    } catch {
      // A mark only saves work: without it records are shipped again, which changes nothing.
    }
    for (const segment of [...this.#sizes.keys()].sort((a, b) => a - b)) {
      if (segment >= position.segment || this.#held.has(segment)) break
      const file = join(this.#directory, fileName(segment))
      if (Date.now() - statSync(file).mtimeMs < KEEP_MS && this.bytes < this.#options.bytesMax / 2) break
      rmSync(file, { force: true })
      this.#sizes.delete(segment)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await this.#syncing
    if (this.#isDirty) fsyncSync(this.#file)
    closeSync(this.#file)
    rmSync(join(this.#directory, RESERVE), { force: true })
    await this.#giveLeaseBack()
    if (this.#isShipped && this.#held.size === 0) await removeJournal(this.#directory)
  }

  /** A frame goes in whole or not at all. */
  #write(frame: Buffer): void {
    let written = 0
    try {
      while (written < frame.length) written += writeSync(this.#file, frame, written)
    } catch (error) {
      if (written > 0) ftruncateSync(this.#file, this.#offset)
      throw error
    }
    this.#offset += frame.length
    this.#isDirty = true
  }

  /** What may not be on the disk counts as not written: the frame is taken back and its writer told. */
  #syncNow(frame: Buffer): void {
    try {
      fdatasyncSync(this.#file)
      this.#isDirty = false
    } catch (error) {
      this.#offset -= frame.length
      ftruncateSync(this.#file, this.#offset)
      throw error
    }
  }

  #rotate(): void {
    const next = openSync(join(this.#directory, fileName(this.#segment + 1)), 'ax', 0o600)
    const full = this.#file
    this.#syncing = this.#syncing.then(() => this.#syncFile(full)).then(() => closeSync(full))
    this.#sizes.set(this.#segment, this.#offset)
    this.#segment += 1
    this.#file = next
    this.#offset = 0
  }

  #sync(): void {
    if (!this.#isDirty || this.#isSyncing) return
    this.#isDirty = false
    this.#isSyncing = true
    const file = this.#file
    this.#syncing = this.#syncing
      .then(() => this.#syncFile(file))
      .then(() => {
        this.#isSyncing = false
      })
  }

  async #syncFile(file: number): Promise<void> {
    try {
      await syncData(file)
    } catch (error) {
      this.#options.onFault(error as Error, 'the journal could not be synced')
    }
  }

  /** Keeps the reserve, and closes admission while it cannot be kept or the journal has outgrown its bound. */
  #checkSpace(): void {
    try {
      const reserve = join(this.#directory, RESERVE)
      const { bavail, bsize } = statfsSync(this.#directory)
      const free = Number(bavail) * Number(bsize)
      const hasReserve = (statSync(reserve, { throwIfNoEntry: false })?.size ?? 0) >= RESERVE_BYTES
      if (!hasReserve && free > RESERVE_BYTES * 2) {
        writeFileSync(reserve, Buffer.alloc(RESERVE_BYTES), { mode: 0o600 })
        this.#isFull = false
      } else if (!hasReserve || free < RESERVE_BYTES) {
        this.#isFull = true
      } else {
        this.#isFull = this.bytes > this.#options.bytesMax
      }
    } catch (error) {
      this.#isFull = true
      this.#options.onFault(error as Error, 'the space for the journal could not be checked')
    }
  }
}

const RESERVE = 'reserve'

function toFrame(record: unknown): Buffer {
  const json = JSON.stringify(record)
  const frame = Buffer.allocUnsafe(HEADER_BYTES + 1 + Buffer.byteLength(json))
  frame[HEADER_BYTES] = FORMAT_VERSION
  frame.write(json, HEADER_BYTES + 1)
  frame.writeUInt32LE(frame.length - HEADER_BYTES, 0)
  frame.writeUInt32LE(crc32c(frame.subarray(HEADER_BYTES)), 4)
  return frame
}

function readFrame(bytes: Buffer, offset: number): { record: unknown; end: number } | undefined {
  if (offset + HEADER_BYTES > bytes.length) return undefined
  const length = bytes.readUInt32LE(offset)
  const end = offset + HEADER_BYTES + length
  if (length < 1 || length > RECORD_BYTES_MAX || end > bytes.length) return undefined
  const payload = bytes.subarray(offset + HEADER_BYTES, end)
  if (crc32c(payload) !== bytes.readUInt32LE(offset + 4) || payload[0] !== FORMAT_VERSION) return undefined
  return { record: JSON.parse(payload.toString('utf8', 1)), end }
}

function isShippedMark(record: unknown): record is { shipped: Position } {
  return typeof record === 'object' && record !== null && 'shipped' in record
}

function listSegments(directory: string): number[] {
  return readdirSync(directory)
    .map((file) => /^(\d{8})\.journal$/.exec(file)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((a, b) => a - b)
}

function fileName(segment: number): string {
  return `${String(segment).padStart(8, '0')}.journal`
}

/** Removes a journal whose every record is in the database. */
export async function removeJournal(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true })
}
