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

/** A field found in a passing JSON text: where its value stands, and its bytes if it was asked for and is not too large. */
export interface JsonField {
  /** Offset of the opening quote of the field's name. */
  keyStart: number
  /** Offset of the value's first byte in the whole text. */
  start: number
  /** Offset behind the value's last byte. */
  end: number
  /** The value's bytes as they came; undefined when not captured. */
  raw: Buffer | undefined
}

/**
 * Finds fields of a JSON object (RFC 8259) that arrives in pieces, in one pass, holding nothing but what was asked for.
 * Checks the structure of the text on the way; the inside of strings is left to whoever reads them.
 */
export class JsonFields {
  /** Fields of the outer object by name, and `outer.inner` for those inside the objects named to descend into. */
  readonly fields = new Map<string, JsonField>()
  /** Names of the outer object that came more than once. */
  readonly duplicates: string[] = []
  readonly #wanted: ReadonlySet<string>
  readonly #descend: ReadonlySet<string>
  readonly #captureMax: number

  #state: State = State_START
  /** One entry for each open container: true for an object. */
  readonly #containers: boolean[] = []
  /** Depth of the innermost container whose fields are told: 1, or 2 inside a descended object. */
  #toldDepth = 1
  #outerKey = ''
  #offset = 0
  /** Offset behind the last value that ended. */
  #valueEnd = 0
  #isInString = false
  /** Whether the string under way is a key of a told object. */
  #isKey = false
  /** An odd run of backslashes at the end of the last piece: the next byte is escaped. */
  #isEscaped = false
  #keyPieces: Buffer[] = []
  #keyBytes = 0
  #token = ''
  #keyStart = 0
  #value: { path: string; keyStart: number; start: number; pieces: Buffer[] | undefined; bytes: number } | undefined
  #outerValue: { path: string; keyStart: number; start: number } | undefined

  constructor(options: { wanted: Iterable<string>; descend?: Iterable<string>; captureMax?: number }) {
    this.#wanted = new Set(options.wanted)
    this.#descend = new Set(options.descend)
    this.#captureMax = options.captureMax ?? CAPTURE_MAX
  }

  /** True once the outer object is closed. */
  get isComplete(): boolean {
    return this.#state === State_DONE
  }

  get isInvalid(): boolean {
    return this.#state === State_INVALID
  }

  /** The value of a captured field, parsed; undefined when it is absent or was too large. */
  value(path: string): unknown {
    const raw = this.fields.get(path)?.raw
    if (!raw) return undefined
    try {
      return JSON.parse(raw.toString())
    } catch {
      return undefined
    }
  }

  push(chunk: Buffer): void {
    const length = chunk.length
    let at = 0
    let captureFrom = 0
    while (at < length && this.#state !== State_INVALID) {
      if (this.#isInString) {
        at = this.#scanString(chunk, at)
        continue
      }
      const byte = chunk[at] as number
      if (this.#token !== '' && !isTokenByte(byte)) this.#endToken(at)
      switch (byte) {
        case SPACE:
        case TAB:
        case LF:
        case CR:
          break
        case QUOTE:
          this.#startString(at)
          if (this.#value?.start === this.#offset + at) captureFrom = at
          break
        case OPEN_OBJECT:
        case OPEN_ARRAY:
          this.#open(byte === OPEN_OBJECT, at)
          if (this.#value?.start === this.#offset + at) captureFrom = at
          break
        case CLOSE_OBJECT:
        case CLOSE_ARRAY:
          captureFrom = this.#close(byte === CLOSE_OBJECT, chunk, captureFrom, at)
          break
        case COMMA:
          captureFrom = this.#comma(chunk, captureFrom, at)
          break
        case COLON:
          this.#state = this.#state === State_COLON ? State_VALUE : State_INVALID
          break
        default:
          if (this.#addToToken(byte, at)) captureFrom = at
      }
      at += 1
    }
    if (this.#value) this.#capture(chunk, captureFrom, length)
    this.#offset += length
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
        if (this.#isKey) this.#addToKey(chunk.subarray(from))
        return chunk.length
      }
      at = quote + 1
      if (isEscaped) continue
      if (this.#isKey) this.#addToKey(chunk.subarray(from, quote))
      this.#valueEnd = this.#offset + at
      this.#endString()
      return at
    }
  }

  #startString(at: number): void {
    if (this.#state === State_VALUE || this.#state === State_VALUE_OR_END) {
      this.#startValue(at)
      this.#isKey = false
    } else if (this.#state === State_KEY || this.#state === State_KEY_OR_END) {
      this.#isKey = this.#containers.length === this.#toldDepth
      this.#keyStart = this.#offset + at
      this.#keyPieces = []
      this.#keyBytes = 0
    } else {
      this.#state = State_INVALID
      return
    }
    this.#isInString = true
    this.#isEscaped = false
  }

  #endString(): void {
    this.#isInString = false
    const isKeyPosition = this.#state === State_KEY || this.#state === State_KEY_OR_END
    this.#state = isKeyPosition ? State_COLON : State_NEXT
    if (!this.#isKey) return
    this.#isKey = false
    const key = decodeString(Buffer.concat(this.#keyPieces).toString())
    if (key === undefined) {
      this.#state = State_INVALID
      return
    }
    const path = this.#toldDepth === 1 ? this.#outerPath(key) : `${this.#outerKey}.${key}`
    if (this.#toldDepth === 1) {
      this.#outerKey = key
      if (this.fields.has(path)) this.#addDuplicate(key)
    }
    this.fields.delete(path)
    const pieces = this.#wanted.has(path) ? [] : undefined
    this.#value = { path, keyStart: this.#keyStart, start: -1, pieces, bytes: 0 }
  }

  /** `outer.inner` as one name of the outer object is not the field inside: it gets a path that none has. */
  #outerPath(key: string): string {
    const dot = key.indexOf('.')
    return dot !== -1 && this.#descend.has(key.slice(0, dot)) ? `\0${key}` : key
  }

  /** The value that comes now replaces the one before with all that is in it. */
  #addDuplicate(key: string): void {
    this.duplicates.push(key)
    if (!this.#descend.has(key)) return
    for (const path of this.fields.keys()) if (path.startsWith(`${key}.`)) this.fields.delete(path)
  }

  #startValue(at: number): void {
    if (this.#value && this.#value.start === -1 && this.#containers.length === this.#toldDepth) {
      this.#value.start = this.#offset + at
    }
  }

  #open(isObject: boolean, at: number): void {
    if (this.#state === State_START) {
      if (!isObject) {
        this.#state = State_INVALID
        return
      }
    } else if (this.#state === State_VALUE || this.#state === State_VALUE_OR_END) {
      this.#startValue(at)
    } else {
      this.#state = State_INVALID
      return
    }
    if (this.#containers.length >= DEPTH_MAX) {
      this.#state = State_INVALID
      return
    }
    if (isObject && this.#containers.length === 1 && this.#value && this.#descend.has(this.#value.path)) {
      this.#outerValue = { path: this.#value.path, keyStart: this.#value.keyStart, start: this.#value.start }
      this.#value = undefined
      this.#toldDepth = 2
    }
    this.#containers.push(isObject)
    this.#state = isObject ? State_KEY_OR_END : State_VALUE_OR_END
  }

  #close(isObject: boolean, chunk: Buffer, captureFrom: number, at: number): number {
    const isAllowed = this.#state === State_NEXT || this.#state === (isObject ? State_KEY_OR_END : State_VALUE_OR_END)
    if (!isAllowed || this.#containers.at(-1) !== isObject) {
      this.#state = State_INVALID
      return captureFrom
    }
    if (this.#containers.length === this.#toldDepth) this.#endValue(chunk, captureFrom, at)
    this.#containers.pop()
    this.#valueEnd = this.#offset + at + 1
    if (this.#toldDepth === 2 && this.#containers.length === 1) {
      this.#toldDepth = 1
      if (this.#outerValue) {
        this.fields.set(this.#outerValue.path, {
          keyStart: this.#outerValue.keyStart,
          start: this.#outerValue.start,
          end: this.#offset + at + 1,
          raw: undefined,
        })
      }
      this.#outerValue = undefined
    }
    this.#state = this.#containers.length === 0 ? State_DONE : State_NEXT
    return captureFrom
  }

  #comma(chunk: Buffer, captureFrom: number, at: number): number {
    if (this.#state !== State_NEXT) {
      this.#state = State_INVALID
      return captureFrom
    }
    if (this.#containers.length === this.#toldDepth) this.#endValue(chunk, captureFrom, at)
    this.#state = this.#containers.at(-1) ? State_KEY : State_VALUE
    return captureFrom
  }

  #endValue(chunk: Buffer, captureFrom: number, at: number): void {
    const value = this.#value
    if (!value) return
    this.#capture(chunk, captureFrom, at)
    this.#value = undefined
    const end = this.#valueEnd
    const raw = value.pieces && Buffer.concat(value.pieces).subarray(0, end - value.start)
    this.fields.set(value.path, { keyStart: value.keyStart, start: value.start, end, raw })
  }

  #capture(chunk: Buffer, from: number, to: number): void {
    const value = this.#value
    if (!value?.pieces || value.start === -1) return
    value.bytes += to - from
    if (value.bytes > this.#captureMax) value.pieces = undefined
    else value.pieces.push(Buffer.from(chunk.subarray(from, to)))
  }

  #addToKey(piece: Buffer): void {
    this.#keyBytes += piece.length
    if (this.#keyBytes > KEY_BYTES_MAX) this.#state = State_INVALID
    else this.#keyPieces.push(Buffer.from(piece))
  }

  /** A number or a literal. @returns true at the first byte of a told value. */
  #addToToken(byte: number, at: number): boolean {
    const isFirst = this.#token === ''
    if (isFirst) {
      if (this.#state !== State_VALUE && this.#state !== State_VALUE_OR_END) {
        this.#state = State_INVALID
        return false
      }
      this.#startValue(at)
    }
    this.#token += String.fromCharCode(byte)
    if (this.#token.length > TOKEN_LENGTH_MAX) this.#state = State_INVALID
    return isFirst && this.#value?.start === this.#offset + at
  }

  #endToken(at: number): void {
    this.#valueEnd = this.#offset + at
    this.#state = TOKEN.test(this.#token) ? State_NEXT : State_INVALID
    this.#token = ''
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
const State_INVALID = 8

const CAPTURE_MAX = 64 * 1024
const DEPTH_MAX = 512
const KEY_BYTES_MAX = 64 * 1024
const TOKEN_LENGTH_MAX = 4096
const TOKEN = /^(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/

function isTokenByte(byte: number): boolean {
  return (
    byte !== COMMA &&
    byte !== CLOSE_OBJECT &&
    byte !== CLOSE_ARRAY &&
    byte !== SPACE &&
    byte !== LF &&
    byte !== CR &&
    byte !== TAB &&
    byte !== COLON &&
    byte !== QUOTE &&
    byte !== OPEN_OBJECT &&
    byte !== OPEN_ARRAY
  )
}
