import type { ByteFilter } from './byte-filter.ts'

/** @returns the event as the client is to see it, or undefined for one that it is not to see. */
export type EditEvent = (event: Buffer) => Buffer | undefined

/**
 * Passes server-sent events on one by one, each as soon as it is whole, through a function that may change or drop it. An event
 * is all bytes up to and including its blank line. One larger than `heldMax` bytes passes as it comes, unedited.
 */
export class EventFilter implements ByteFilter {
  readonly #edit: EditEvent
  readonly #heldMax: number
  #held: Buffer[] = []
  #heldBytes = 0
  /** The event under way has become too large to be held. */
  #isPassing = false
  #isLineEmpty = true
  /** A CR ended the last line: an LF right behind it belongs to it. */
  #afterCr = false
  /** Whether what ended with that CR went to the client: its LF shares its fate. */
  #wasDropped = false

  constructor(edit: EditEvent, heldMax: number) {
    this.#edit = edit
    this.#heldMax = heldMax
  }

  push(chunk: Buffer): Buffer | undefined {
    if (chunk.length === 0) return undefined
    const out: Buffer[] = []
    let from = 0
    let at = 0
    if (this.#afterCr && chunk[0] === LF) {
      at = 1
      if (this.#heldBytes === 0 && !this.#isPassing) {
        if (!this.#wasDropped) out.push(chunk.subarray(0, 1))
        from = 1
      }
    }
    this.#afterCr = false
    while (at < chunk.length) {
      const end = nextLineEnd(chunk, at)
      if (end === -1) {
        this.#isLineEmpty = false
        break
      }
      const isBlankLine = this.#isLineEmpty && end === at
      at = end + 1
      if (chunk[end] === CR) {
        if (at === chunk.length) this.#afterCr = true
        else if (chunk[at] === LF) at += 1
      }
      this.#isLineEmpty = true
      if (!isBlankLine) continue
      this.#endEvent(chunk.subarray(from, at), out)
      from = at
    }
    if (from < chunk.length) this.#hold(chunk.subarray(from), out)
    if (out.length < 2) return out[0]
    return Buffer.concat(out)
  }

  finish(): Buffer | undefined {
    const rest = this.#take()
    return rest.length === 0 ? undefined : this.#edit(rest)
  }

  #endEvent(lastPiece: Buffer, out: Buffer[]): void {
    if (this.#isPassing) {
      this.#isPassing = false
      this.#wasDropped = false
      out.push(lastPiece)
      return
    }
    this.#held.push(lastPiece)
    const edited = this.#edit(this.#take())
    this.#wasDropped = edited === undefined
    if (edited) out.push(edited)
  }

  #hold(piece: Buffer, out: Buffer[]): void {
    if (this.#isPassing) {
      out.push(piece)
      return
    }
    this.#held.push(piece)
    this.#heldBytes += piece.length
    if (this.#heldBytes <= this.#heldMax) return
    this.#isPassing = true
    out.push(this.#take())
  }

  #take(): Buffer {
    const held = this.#held.length === 1 && this.#held[0] ? this.#held[0] : Buffer.concat(this.#held)
    this.#held = []
    this.#heldBytes = 0
    return held
  }
}

const [LF, CR] = [0x0a, 0x0d] as const

function nextLineEnd(chunk: Buffer, from: number): number {
  const lf = chunk.indexOf(LF, from)
  // Within the line only: a search to the end of the chunk for each line would cost its square.
  const cr = chunk.subarray(from, lf === -1 ? chunk.length : lf).indexOf(CR)
  return cr === -1 ? lf : from + cr
}
