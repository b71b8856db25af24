import {
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COMMA,
  countBackslashesBefore,
  decodeString,
  OPEN_ARRAY,
  OPEN_OBJECT,
  QUOTE,
} from './json-bytes.ts'

/** What a walk asks at each value. An undefined state says that nothing below it matters. */
export interface JsonVisitor<State> {
  /** The state of the value with this name, in an object of that state; every occurrence of a name is asked for. */
  under(state: State, name: string): State | undefined
  /** The state of a value in an array of that state. */
  element(state: State): State | undefined
  wantsText(state: State): boolean
  /** A string, unescaped; undefined when it is longer than any that matters, or its escapes are broken. */
  text(state: State, text: string | undefined): void
  /** An object or array is closed. */
  left(state: State): void
}

/**
 * Walks a JSON text that arrives in pieces (RFC 8259) to its last level, in one pass, token by token: a parser would hide all but the last
 * of repeated names, and hold everything. Whether the text is well-formed is for others to say; of one that is, nothing is missed.
 */
export class JsonWalk<State> {
  readonly #visitor: JsonVisitor<State>
  readonly #root: State
  /** One entry for each open container. */
  readonly #states: (State | undefined)[] = []
  readonly #areObjects: boolean[] = []
  /** The state of the value that the last name announced. */
  #announced: State | undefined
  #isNameNext = false
  #isInString = false
  #isName = false
  #isEscaped = false
  /** Of the string under way; undefined when nobody wants it. */
  #pieces: Buffer[] | undefined
  #bytes = 0
  #textState: State | undefined
  #isDone = false

  constructor(visitor: JsonVisitor<State>, root: State) {
    this.#visitor = visitor
    this.#root = root
  }

  push(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length && !this.#isDone) {
      if (this.#isInString) {
        at = this.#scanString(chunk, at)
        continue
      }
      switch (chunk[at]) {
        case QUOTE:
          this.#startString()
          break
        case OPEN_OBJECT:
          this.#open(true)
          break
        case OPEN_ARRAY:
          this.#open(false)
          break
        case CLOSE_OBJECT:
        case CLOSE_ARRAY:
          this.#close()
          break
        case COMMA:
          this.#isNameNext = this.#areObjects.at(-1) ?? false
          break
      }
      at += 1
    }
  }

  #open(isObject: boolean): void {
    const state = this.#valueState()
    this.#states.push(state)
    this.#areObjects.push(isObject)
    this.#isNameNext = isObject
    if (this.#states.length > DEPTH_MAX) this.#isDone = true
  }

  #close(): void {
    const state = this.#states.pop()
    this.#areObjects.pop()
    this.#isNameNext = false
    if (state !== undefined) this.#visitor.left(state)
    if (this.#states.length === 0) this.#isDone = true
  }

  #valueState(): State | undefined {
    if (this.#states.length === 0) return this.#root
    if (this.#areObjects.at(-1)) return this.#announced
    const array = this.#states.at(-1)
    return array === undefined ? undefined : this.#visitor.element(array)
  }

  #startString(): void {
    this.#isInString = true
    this.#isEscaped = false
    this.#isName = this.#isNameNext
    this.#textState = this.#isName ? this.#states.at(-1) : this.#valueState()
    const isWanted = this.#textState !== undefined && (this.#isName || this.#visitor.wantsText(this.#textState))
    this.#pieces = isWanted ? [] : undefined
    this.#bytes = 0
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
        this.#keep(chunk.subarray(from))
        return chunk.length
      }
      at = quote + 1
      if (isEscaped) continue
      this.#endString(chunk, from, quote)
      return at
    }
  }

  #keep(piece: Buffer): void {
    if (!this.#pieces) return
    this.#bytes += piece.length
    // A copy: the piece may be part of a buffer that is used again.
    if (this.#bytes <= TEXT_BYTES_MAX) this.#pieces.push(Buffer.from(piece))
  }

  #endString(chunk: Buffer, from: number, to: number): void {
    this.#isInString = false
    const pieces = this.#pieces
    this.#pieces = undefined
    const state = this.#textState
    const isWanted = pieces !== undefined && state !== undefined
    if (this.#isName) {
      this.#isNameNext = false
      this.#announced = isWanted
        ? this.#visitor.under(state, this.#textOf(pieces, chunk, from, to) ?? NO_NAME)
        : undefined
    } else if (isWanted) {
      this.#visitor.text(state, this.#textOf(pieces, chunk, from, to))
    }
  }

  /** Most strings stand in one piece, and need not be put together. */
  #textOf(pieces: Buffer[], chunk: Buffer, from: number, to: number): string | undefined {
    if (this.#bytes + to - from > TEXT_BYTES_MAX) return undefined
    const text =
      pieces.length === 0
        ? chunk.toString('utf8', from, to)
        : Buffer.concat([...pieces, chunk.subarray(from, to)]).toString()
    return decodeString(text)
  }
}

/** More than an id or a name that means something has, written in escapes. */
const TEXT_BYTES_MAX = 4096
const DEPTH_MAX = 512
/** A name that none of ours equals. */
const NO_NAME = '\0'
