import { JsonFields } from './json-fields.ts'
import { WholeJson } from './whole-json.ts'

/** What is read of an event's data. */
export interface EventJson {
  /** Undefined for a field that is not there, was not asked for, or is too large to be kept. */
  value(path: string): unknown
  readonly isTooLarge?: boolean
}

/** An event that carried more than text: its type, and the fields that were asked for. */
export interface SseEvent {
  type: string
  json: EventJson
  /** The data is `[DONE]`, with which chat's streams end. */
  isDone: boolean
}

interface SseOptions {
  fields: Iterable<string>
  descend: Iterable<string>
  /** Where every event is read and is small: the largest that is. Then it is parsed as a whole, and `descend` is not needed. */
  wholeBytesMax?: number
  /** Asked at each event that is more than text for somebody who reads its data too. */
  tap?: () => SseTap
}

interface SseTap {
  push(piece: Buffer): void
}

/**
 * Watches server-sent events go by (WHATWG HTML, section 9.2) at whatever pieces they come in, without holding them.
 * Deltas are most of a stream and never carry usage: with an `event:` line they are counted and skipped unparsed.
 */
export class SseWatcher {
  /** What an estimate goes by when a stream is cut. */
  deltaCount = 0
  eventCount = 0
  readonly #options: SseOptions
  readonly #onEvent: (event: SseEvent) => void

  #line: Line = 'start'
  #head = ''
  #name = ''
  #eventType = ''
  #json: JsonFields | WholeJson | undefined
  #tap: SseTap | undefined
  /** The first bytes of the data. */
  #dataHead = ''
  #hasData = false
  #dataLines = 0
  #isFirstLine = true
  /** A CR ended the last line: an LF right behind it belongs to it. */
  #afterCr = false

  constructor(options: SseOptions, onEvent: (event: SseEvent) => void) {
    this.#options = options
    this.#onEvent = onEvent
  }

  /** True between two events: here, and only here, an event of our own can be put in. */
  get isBetweenEvents(): boolean {
    return this.#line === 'start' && this.#head === '' && !this.#hasData && this.#eventType === ''
  }

  push(chunk: Buffer): void {
    let at = 0
    if (this.#afterCr && chunk.length > 0) {
      if (chunk[0] === LF) at = 1
      this.#afterCr = false
    }
    let cr = chunk.indexOf(CR, at)
    while (at < chunk.length) {
      const lf = chunk.indexOf(LF, at)
      if (cr !== -1 && cr < at) cr = chunk.indexOf(CR, at)
      const end = cr !== -1 && (lf === -1 || cr < lf) ? cr : lf
      if (end === -1) {
        this.#linePiece(chunk.subarray(at))
        return
      }
      this.#linePiece(chunk.subarray(at, end))
      this.#endLine()
      at = end + 1
      if (end !== cr) continue
      if (at === chunk.length) this.#afterCr = true
      else if (chunk[at] === LF) at += 1
    }
  }

  /** The bytes are over: an event whose last line or blank line never came still counts, if its data did come whole. */
  finish(): void {
    if (this.#json?.isComplete || this.#isDone) this.#dispatch()
  }

  #linePiece(piece: Buffer): void {
    let rest = piece
    if (this.#line === 'start') {
      if (rest.length === 0) return
      rest = this.#readHead(rest)
    }
    if (this.#line === 'event') {
      if (this.#name.length < NAME_MAX) this.#name += rest.toString('latin1', 0, NAME_MAX)
    } else if (this.#line === 'data') {
      this.#data(rest)
    }
  }

  /** Reads the field's name; what follows its colon is returned. */
  #readHead(piece: Buffer): Buffer {
    const colon = piece.indexOf(COLON)
    if (colon === -1 || colon > HEAD_MAX) {
      this.#head += piece.toString('latin1', 0, HEAD_MAX)
      if (this.#head.length > HEAD_MAX) this.#line = 'other'
      return EMPTY
    }
    const head = this.#stripBom(this.#head + piece.toString('latin1', 0, colon))
    this.#head = ''
    this.#line = head === 'data' ? 'data' : head === 'event' ? 'event' : 'other'
    if (this.#line === 'data') this.#startData()
    return piece.subarray(colon + 1)
  }

  #startData(): void {
    this.#hasData = true
    this.#dataLines += 1
    const type = this.#eventType
    if (this.#dataLines === 1) {
      this.#json = isDelta(type) ? undefined : this.#newJson()
      this.#tap = this.#json && this.#options.tap?.()
    } else {
      this.#data(NEWLINE)
    }
  }

  #newJson(): JsonFields | WholeJson {
    const { fields, descend, wholeBytesMax } = this.#options
    return wholeBytesMax === undefined ? new JsonFields({ wanted: fields, descend }) : new WholeJson(wholeBytesMax)
  }

  #data(piece: Buffer): void {
    if (this.#dataHead.length < DATA_HEAD_MAX) this.#dataHead += piece.toString('latin1', 0, DATA_HEAD_MAX)
    this.#json?.push(piece)
    this.#tap?.push(piece)
  }

  #endLine(): void {
    if (this.#line === 'start') {
      if (this.#stripBom(this.#head) === '') this.#dispatch()
      // A field without a colon, such as a bare `data`, has an empty value.
    } else if (this.#line === 'event') {
      this.#eventType = this.#name.replace(/^ /, '')
    }
    this.#line = 'start'
    this.#head = ''
    this.#name = ''
    this.#isFirstLine = false
  }

  #dispatch(): void {
    if (this.#hasData) {
      this.eventCount += 1
      const jsonType = this.#json?.value('type')
      const type = typeof jsonType === 'string' ? jsonType : this.#eventType
      if (isDelta(type)) {
        this.deltaCount += 1
      } else if (this.#json) {
        this.#onEvent({ type, json: this.#json, isDone: this.#isDone })
      }
    }
    this.#eventType = ''
    this.#json = undefined
    this.#tap = undefined
    this.#dataHead = ''
    this.#hasData = false
    this.#dataLines = 0
  }

  get #isDone(): boolean {
    return this.#dataLines === 1 && DONE.test(this.#dataHead)
  }

  #stripBom(head: string): string {
    return this.#isFirstLine && head.startsWith(BOM_LATIN1) ? head.slice(BOM_LATIN1.length) : head
  }
}

type Line = 'start' | 'data' | 'event' | 'other'

const [LF, CR, COLON] = [0x0a, 0x0d, 0x3a] as const
const NEWLINE = Buffer.from('\n')
const EMPTY = Buffer.alloc(0)
const BOM_LATIN1 = '\u00ef\u00bb\u00bf'
const HEAD_MAX = 16
/** Twice as much as is looked for: a piece may begin anywhere. */
const DATA_HEAD_MAX = 16
const DONE = /^ ?\[DONE\] *$/
const NAME_MAX = 128

function isDelta(type: string): boolean {
  return type.endsWith('.delta')
}
