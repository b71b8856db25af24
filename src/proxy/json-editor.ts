import {
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  CR,
  countBackslashesBefore,
  decodeString,
  LF,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
  SPACE,
  TAB,
} from './json-bytes.ts'

/** What becomes of a value, given its bytes; undefined when they were too many to be held. */
export type EditValue = (raw: Buffer | undefined) => Buffer

/**
 * Replaces values of a JSON object that arrives in pieces, and passes every other byte on as it came and when it came. Only the values
 * in question are held. What is no JSON object is not passed on: nobody could say what is in it.
 */
export class JsonEditor {
  /** This is no JSON object, or none any more: nothing passes. */
  isLost = false
  readonly #edits: ReadonlyMap<string, EditValue>
  readonly #descend: string

  #state: State = State_START
  readonly #containers: boolean[] = []
  /** Within the object that is the value of the outer field named by `descend`. */
  #isDescended = false
  #outerKey = ''
  /** The name of the value to come, if it may be one of those in question. */
  #path: string | undefined
  #isInString = false
  #isEscaped = false
  #isInToken = false
  #key: Buffer[] | undefined
  #keyBytes = 0
  #held: { edit: EditValue; depth: number; pieces: Buffer[] | undefined; bytes: number } | undefined

  /**
   * @param edits by the names of outer fields, and `outer.inner` for those within the one named by `descend`.
   */
  constructor(edits: ReadonlyMap<string, EditValue>, descend: string) {
    this.#edits = edits
    this.#descend = descend
  }

  /** A value is being held: what comes next belongs to it. */
  get isHolding(): boolean {
    return this.#held !== undefined
  }

  /** Nothing but blanks has come. */
  get isFresh(): boolean {
    return this.#state === State_START && !this.isLost
  }

  /** @param pass takes what may go on, in order. */
  push(chunk: Buffer, pass: (piece: Buffer) => void): void {
    let at = 0
    /** The first byte that was neither passed nor held. */
    let from = 0
    while (at < chunk.length && !this.isLost) {
      if (this.#isInString) {
        at = this.#scanString(chunk, at)
        if (!this.#isInString) from = this.#endValue(chunk, from, at, pass)
        continue
      }
      const byte = chunk[at] as number
      if (this.#isInToken && DELIMITERS.has(byte)) {
        this.#isInToken = false
        from = this.#endValue(chunk, from, at, pass)
      }
      switch (byte) {
        case SPACE:
        case TAB:
        case LF:
        case CR:
          break
        case QUOTE:
          from = this.#startString(chunk, from, at, pass)
          break
        case OPEN_OBJECT:
        case OPEN_ARRAY:
          from = this.#open(byte === OPEN_OBJECT, chunk, from, at, pass)
          break
        case CLOSE_OBJECT:
        case CLOSE_ARRAY:
          this.#close(byte === CLOSE_OBJECT)
          from = this.#endValue(chunk, from, at + 1, pass)
          break
        case COMMA:
          this.#expect(State_NEXT, this.#containers.at(-1) ? State_KEY : State_VALUE)
          break
        case COLON:
          this.#expect(State_COLON, State_VALUE)
          break
        default:
          if (this.#isInToken) break
          this.#expectValue(State_NEXT)
          this.#isInToken = true
          from = this.#startValue(chunk, from, at, pass)
      }
      at += 1
    }
    if (this.isLost) this.#held = undefined
    else if (this.#held) this.#hold(chunk.subarray(from))
    else if (from < chunk.length) pass(chunk.subarray(from))
  }

  #scanString(chunk: Buffer, from: number): number {
    let at = from
    if (this.#isEscaped) {
      this.#isEscaped = false
      at += 1
    }
    for (;;) {
      const quote = chunk.indexOf(QUOTE, at)
      const end = quote === -1 ? chunk.length : quote
      const isEscaped = countBackslashesBefore(chunk, end, at) % 2 === 1
      if (quote === -1) {
        this.#isEscaped = isEscaped
        this.#addToKey(chunk.subarray(from))
        return chunk.length
      }
      at = quote + 1
      if (isEscaped) continue
      this.#addToKey(chunk.subarray(from, quote))
      this.#isInString = false
      this.#endKey()
      return at
    }
  }

  #startString(chunk: Buffer, from: number, at: number, pass: (piece: Buffer) => void): number {
    this.#isInString = true
    if (this.#state === State_KEY || this.#state === State_KEY_OR_END) {
      const depth = this.#containers.length
      this.#key = depth === 1 || (depth === 2 && this.#isDescended) ? [] : undefined
      this.#keyBytes = 0
      this.#state = State_COLON
      return from
    }
    this.#expectValue(State_NEXT)
    return this.#startValue(chunk, from, at, pass)
  }

  #addToKey(piece: Buffer): void {
    this.#keyBytes += piece.length
    // Longer than any name in question, however it is escaped.
    if (this.#keyBytes > KEY_BYTES_MAX) this.#key = undefined
    else this.#key?.push(Buffer.from(piece))
  }

  #endKey(): void {
    if (this.#state !== State_COLON) return
    const isOuter = this.#containers.length === 1
    const key = this.#key && decodeString(Buffer.concat(this.#key).toString())
    this.#key = undefined
    if (isOuter) this.#outerKey = key ?? ''
    this.#path = key === undefined || isOuter ? key : `${this.#descend}.${key}`
  }

  #open(isObject: boolean, chunk: Buffer, from: number, at: number, pass: (piece: Buffer) => void): number {
    if (this.#state === State_START) this.isLost = !isObject
    else this.#expectValue(State_NEXT)
    const next = this.#startValue(chunk, from, at, pass)
    if (this.#containers.length === 1) this.#isDescended = isObject && this.#outerKey === this.#descend
    this.#containers.push(isObject)
    if (this.#containers.length > DEPTH_MAX) this.isLost = true
    this.#state = isObject ? State_KEY_OR_END : State_VALUE_OR_END
    return next
  }

  #close(isObject: boolean): void {
    const isAllowed = this.#state === State_NEXT || this.#state === (isObject ? State_KEY_OR_END : State_VALUE_OR_END)
    if (!isAllowed || this.#containers.pop() !== isObject) this.isLost = true
    if (this.#containers.length === 1) this.#isDescended = false
    this.#state = this.#containers.length === 0 ? State_DONE : State_NEXT
  }

  /** @returns the first byte that was neither passed nor held. */
  #startValue(chunk: Buffer, from: number, at: number, pass: (piece: Buffer) => void): number {
    const edit = this.#path === undefined || this.#held ? undefined : this.#edits.get(this.#path)
    this.#path = undefined
    if (!edit || this.isLost) return from
    if (at > from) pass(chunk.subarray(from, at))
    this.#held = { edit, depth: this.#containers.length, pieces: [], bytes: 0 }
    return at
  }

  #endValue(chunk: Buffer, from: number, end: number, pass: (piece: Buffer) => void): number {
    if (!this.#held || this.#held.depth !== this.#containers.length || this.isLost) return from
    this.#hold(chunk.subarray(from, end))
    const { edit, pieces } = this.#held
    this.#held = undefined
    pass(edit(pieces && Buffer.concat(pieces)))
    return end
  }

  #hold(piece: Buffer): void {
    const held = this.#held
    if (!held?.pieces) return
    held.bytes += piece.length
    if (held.bytes > HELD_BYTES_MAX) held.pieces = undefined
    else held.pieces.push(Buffer.from(piece))
  }

  #expect(state: State, next: State): void {
    if (this.#state !== state) this.isLost = true
    this.#state = next
  }

  #expectValue(next: State): void {
    if (this.#state !== State_VALUE && this.#state !== State_VALUE_OR_END) this.isLost = true
    this.#state = next
  }
}

type State = number
const State_START = 0
const State_KEY_OR_END = 1
const State_KEY = 2
const State_COLON = 3
const State_VALUE = 4
const State_VALUE_OR_END = 5
const State_NEXT = 6
const State_DONE = 7

const DEPTH_MAX = 1024
const KEY_BYTES_MAX = 256
const HELD_BYTES_MAX = 64 * 1024

const DELIMITERS: ReadonlySet<number> = new Set([
  ...[TAB, LF, CR, SPACE, QUOTE, COMMA, COLON],
  ...[OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT],
])
