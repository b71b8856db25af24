import { HIDDEN_MESSAGE, type HiddenText } from './hidden-text.ts'
import { type EditValue, JsonEditor } from './json-editor.ts'

/**
 * Keeps a persona from its caller: OpenAI repeats `instructions` in every response object. What is repeated becomes null, an error that
 * quotes the persona loses its text, and every other byte passes as it came.
 */
export interface Redactor {
  /** What may pass, now that this has come. */
  push(chunk: Buffer): Buffer
  /** What may pass, now that nothing more comes. */
  finish(): Buffer
  /** It cannot be read, and so is not passed on. */
  readonly isLost: boolean
}

/** @param form `error` for an answer whose status says so, which is held until its end. */
export function openRedactor(form: 'stream' | 'json' | 'error', hidden: HiddenText): Redactor {
  if (form === 'error') return new ErrorRedactor(hidden)
  return form === 'stream' ? new StreamRedactor(hidden) : new JsonRedactor(hidden)
}

class JsonRedactor implements Redactor {
  readonly #editor: JsonEditor

  constructor(hidden: HiddenText) {
    this.#editor = new JsonEditor(editsFor(hidden), 'response')
  }

  get isLost(): boolean {
    return this.#editor.isLost
  }

  push(chunk: Buffer): Buffer {
    const passed = new Pieces()
    this.#editor.push(chunk, passed.add)
    return passed.join()
  }

  finish(): Buffer {
    return NOTHING
  }
}

/** Server-sent events (WHATWG HTML, section 9.2): the data of each event is a JSON object, or `[DONE]`. */
class StreamRedactor implements Redactor {
  readonly isLost = false
  readonly #edits: ReadonlyMap<string, EditValue>
  #line: 'head' | 'passed' | 'data' | 'dropped' = 'head'
  #head: Buffer = NOTHING
  #isFirstLine = true
  #afterCr = false
  /** Of the event under way, once it has data. */
  #editor: JsonEditor | undefined
  /** Data that is no object, as far as it may be `[DONE]`. */
  #odd: string | undefined
  /** The end of a line within a held value. */
  #owed: Buffer | undefined
  /** The line before was. */
  #wasDropped = false

  constructor(hidden: HiddenText) {
    this.#edits = editsFor(hidden)
  }

  push(chunk: Buffer): Buffer {
    const passed = new Pieces()
    let at = 0
    if (this.#afterCr && chunk.length > 0) {
      this.#afterCr = false
      if (chunk[0] === LF) {
        at = 1
        this.#endOfLine(chunk.subarray(0, 1), passed, 'second half')
      }
    }
    let cr = chunk.indexOf(CR, at)
    while (at < chunk.length) {
      if (cr !== -1 && cr < at) cr = chunk.indexOf(CR, at)
      const lf = chunk.indexOf(LF, at)
      const end = Math.min(lf === -1 ? chunk.length : lf, cr === -1 ? chunk.length : cr)
      this.#piece(chunk.subarray(at, end), passed)
      if (end === chunk.length) break
      const isCrLf = chunk[end] === CR && chunk[end + 1] === LF
      at = end + (isCrLf ? 2 : 1)
      this.#afterCr = chunk[end] === CR && at === chunk.length && !isCrLf
      this.#endOfLine(chunk.subarray(end, at), passed, 'whole')
    }
    return passed.join()
  }

  finish(): Buffer {
    return NOTHING
  }

  #piece(piece: Buffer, passed: Pieces): void {
    let rest = piece
    if (this.#line === 'head') {
      const colon = piece.indexOf(COLON)
      const head = colon === -1 ? piece : piece.subarray(0, colon + 1)
      this.#head = colon !== -1 && this.#head.length === 0 ? head : Buffer.concat([this.#head, head])
      if (this.#head.length > HEAD_BYTES_MAX) this.#line = 'dropped'
      if (colon === -1) return
      rest = piece.subarray(colon + 1)
      this.#startLine(this.#fieldName(), passed)
    }
    if (this.#line === 'passed') passed.add(rest)
    else if (this.#line === 'data') this.#data(rest, passed)
  }

  /** Lines that no reader knows are not passed on: they could hold anything. */
  #startLine(field: string, passed: Pieces): void {
    if (this.#line === 'dropped') return
    this.#line = field === 'data' ? 'data' : FIELDS.has(field) ? 'passed' : 'dropped'
    const isContinued = this.#line === 'data' && this.#editor?.isHolding
    if (this.#line !== 'dropped' && !isContinued) this.#passOwed(passed).add(this.#head)
    if (isContinued) this.#owed = undefined
    if (this.#line === 'data') this.#editor ??= new JsonEditor(this.#edits, 'response')
    this.#head = NOTHING
  }

  #data(piece: Buffer, passed: Pieces): void {
    const first = piece.find((byte) => byte !== SPACE)
    if (this.#odd === undefined && first === OPEN_ARRAY && this.#editor?.isFresh) this.#odd = ''
    if (this.#odd !== undefined) this.#odd += piece.toString('latin1', 0, DONE_BYTES_MAX)
    else this.#editor?.push(piece, passed.add)
  }

  #endOfLine(eol: Buffer, passed: Pieces, part: 'whole' | 'second half'): void {
    if (part === 'second half') {
      // It goes where its first half went.
      if (this.#owed) this.#owed = Buffer.concat([this.#owed, eol])
      else if (!this.#wasDropped) passed.add(eol)
      return
    }
    if (this.#line === 'head') {
      const field = this.#fieldName()
      if (field === '') this.#dispatch(passed)
      else this.#startLine(field, passed)
      if (field === '') passed.add(this.#head)
    }
    if (this.#odd?.trim() === '[DONE]') passed.add(Buffer.from(this.#odd, 'latin1'))
    this.#odd = undefined
    this.#wasDropped = this.#line === 'dropped'
    if (this.#line === 'data' && this.#editor?.isHolding) this.#owed = eol
    else if (!this.#wasDropped) passed.add(eol)
    this.#line = 'head'
    this.#head = NOTHING
    this.#isFirstLine = false
  }

  #dispatch(passed: Pieces): void {
    this.#passOwed(passed)
    this.#editor = undefined
  }

  #passOwed(passed: Pieces): Pieces {
    if (this.#owed) passed.add(this.#owed)
    this.#owed = undefined
    return passed
  }

  #fieldName(): string {
    const name = this.#head.toString('latin1').replace(/:$/, '')
    return this.#isFirstLine && name.startsWith(BOM_LATIN1) ? name.slice(BOM_LATIN1.length) : name
  }
}

class ErrorRedactor implements Redactor {
  readonly isLost = false
  readonly #hidden: HiddenText
  readonly #pieces: Buffer[] = []
  #bytes = 0

  constructor(hidden: HiddenText) {
    this.#hidden = hidden
  }

  push(chunk: Buffer): Buffer {
    this.#bytes += chunk.length
    if (this.#bytes <= ERROR_BYTES_MAX) this.#pieces.push(Buffer.from(chunk))
    return NOTHING
  }

  finish(): Buffer {
    if (this.#bytes > ERROR_BYTES_MAX) return HIDDEN_ERROR
    const raw = Buffer.concat(this.#pieces)
    const json = new JsonRedactor(this.#hidden)
    const edited = json.push(raw)
    const shown = json.isLost ? raw : edited
    const value = parse(shown)
    if (value === undefined) {
      const isHarmless = shown.equals(raw) && !this.#hidden.isQuotedIn(raw.toString())
      return isHarmless ? raw : HIDDEN_ERROR
    }
    return hideIn(this.#hidden, value, shown)
  }
}

/** The pieces that pass, as few as they can be: what stood together stays together. */
class Pieces {
  readonly #pieces: Buffer[] = []

  readonly add = (piece: Buffer): void => {
    if (piece.length === 0) return
    const last = this.#pieces.at(-1)
    const isNext = last && last.buffer === piece.buffer && last.byteOffset + last.length === piece.byteOffset
    if (isNext)
      this.#pieces[this.#pieces.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + piece.length)
    else this.#pieces.push(piece)
  }

  join(): Buffer {
    return this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces)
  }
}

function editsFor(hidden: HiddenText): ReadonlyMap<string, EditValue> {
  const hide: EditValue = () => NULL
  const guard: EditValue = (raw) => {
    const value = raw && parse(raw)
    return raw === undefined || value === undefined ? NULL : hideIn(hidden, value, raw)
  }
  return new Map([
    ['instructions', hide],
    ['response.instructions', hide],
    ['error', guard],
    ['response.error', guard],
    ['message', guard],
  ])
}

function hideIn(hidden: HiddenText, value: unknown, raw: Buffer): Buffer {
  const shown = hidden.hideIn(value)
  return shown === value ? raw : Buffer.from(JSON.stringify(shown))
}

/** Undefined for what is no JSON, or nested so deeply that nobody meant it. */
function parse(raw: Buffer): unknown {
  const text = raw.toString()
  if ((text.match(/[[{]/g)?.length ?? 0) > NESTING_MAX) return undefined
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

const NOTHING: Buffer = Buffer.alloc(0)
const NULL = Buffer.from('null')
const HIDDEN_ERROR = Buffer.from(
  JSON.stringify({ error: { message: HIDDEN_MESSAGE, type: 'invalid_request_error', param: null, code: null } }),
)
const ERROR_BYTES_MAX = 64 * 1024
const NESTING_MAX = 1000
const HEAD_BYTES_MAX = 16
const DONE_BYTES_MAX = 16
const FIELDS: ReadonlySet<string> = new Set(['', 'event', 'id', 'retry'])
const BOM_LATIN1 = '\u00ef\u00bb\u00bf'
const [LF, CR, SPACE, COLON, OPEN_ARRAY] = [0x0a, 0x0d, 0x20, 0x3a, 0x5b] as const
