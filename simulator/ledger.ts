import { createWriteStream } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { finished } from 'node:stream/promises'

/** What the simulator itself knows of one call: the truth that a proxy's own books are compared with. */
export type LedgerEntry = {
  /** Runs from 1 within a simulator and is never used twice. */
  id: number
  /** How it came; the lines of a batch are calls of their own, which the simulator makes to itself. */
  transport: 'http' | 'websocket' | 'batch'
  /** ISO 8601, the moment the head of the request had arrived. */
  at: string
  method: string
  /** As it came, query included. */
  path: string
  /** SHA-256 (hex) of the key, or null when none came. The key itself is kept nowhere. */
  keyHash: string | null
  /** As the request named it. */
  model: string | null
  stream: boolean
  background: boolean
  /** Null while nothing was answered. */
  status: number | null
  responseId: string | null
  /** As they came, but for the value of `authorization`. */
  requestHeaders: NodeJS.Dict<string | string[]>
  /** SHA-256 (hex) of the body as it came. */
  bodySha256: string | null
  /** The tokens really taken in and produced so far, whatever the answer claims; null when nothing was generated. */
  usage: ProducedTokens | null
  /** The answer was handed over whole: the terminal event of a stream, or the last byte of a JSON body. */
  terminalSent: boolean
  /** Everything that was to be sent has left, and the answer was ended properly. */
  finished: boolean
  /** The client went before that. */
  clientClosed: boolean
  /** Of the body, without transfer framing. */
  bytesSent: number
  /** SHA-256 (hex) of the body bytes sent; null while the call lasts. */
  bodyOutSha256: string | null
}

/** The entry of a call that has just begun. */
export function begunEntry(
  request: IncomingMessage,
  keyHash: string | null,
  transport: LedgerEntry['transport'],
): Omit<LedgerEntry, 'id'> {
  const { headers } = request
  return {
    transport,
    at: new Date().toISOString(),
    method: request.method ?? 'GET',
    path: request.url ?? '/',
    keyHash,
    model: null,
    stream: false,
    background: false,
    status: null,
    responseId: null,
    requestHeaders: headers.authorization === undefined ? headers : { ...headers, authorization: '[hidden]' },
    bodySha256: null,
    usage: null,
    terminalSent: false,
    finished: false,
    clientClosed: false,
    bytesSent: 0,
    bodyOutSha256: null,
  }
}

export type ProducedTokens = {
  input_tokens: number
  cached_tokens: number
  cache_write_tokens: number
  output_tokens: number
  reasoning_tokens: number
  /** Of the above, where an endpoint tells them apart. */
  input_image_tokens?: number
  input_audio_tokens?: number
  output_image_tokens?: number
  output_audio_tokens?: number
  /** What some models are billed by instead: audio heard, characters spoken, pictures made. */
  seconds?: number
  characters?: number
  images?: number
}

export type Ledger = {
  /** In the order of arrival, calls under way included. Live objects: they change while their call lasts. */
  entries(): readonly LedgerEntry[]
  /** How many entries were dropped from memory because there were too many. The file has them all. */
  forgotten(): number
  /** Resolves when no call is under way any more. */
  idle(): Promise<void>
  /** Empties the memory, not the file. */
  reset(): void
}

/** The ledger as its keeper sees it. */
export type LedgerBook = Ledger & {
  open(entry: Omit<LedgerEntry, 'id'>): LedgerEntry
  /** The call is over: its line goes to the file. Every opened entry is settled once. */
  settle(entry: LedgerEntry): void
  close(): Promise<void>
}

const ENTRIES_MAX = 20_000

/** @param entriesMax how many are kept in memory. */
export function openLedger(file?: string, entriesMax = ENTRIES_MAX): LedgerBook {
  const output = file === undefined ? undefined : createWriteStream(file, { flags: 'a' })
  let entries: LedgerEntry[] = []
  let forgotten = 0
  let lastId = 0
  let underWay = 0
  let waiting: (() => void)[] = []

  return {
    entries: () => entries,
    forgotten: () => forgotten,
    idle: () => (underWay === 0 ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve))),
    reset() {
      entries = []
      forgotten = 0
    },
    open(fields) {
      const entry = { id: ++lastId, ...fields }
      underWay++
      // Dropped by the thousand: one at a time would move the whole array on each call.
      if (entries.push(entry) > entriesMax) forgotten += entries.splice(0, 1000).length
      return entry
    },
    settle(entry) {
      output?.write(`${JSON.stringify(entry)}\n`)
      if (--underWay > 0) return
      const resolved = waiting
      waiting = []
      for (const resolve of resolved) resolve()
    },
    async close() {
      if (!output) return
      output.end()
      await finished(output)
    },
  }
}
