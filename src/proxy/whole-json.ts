/** A small JSON text that arrives in pieces, parsed when it is asked for: for many small ones the fastest way. */
export class WholeJson {
  /** It was larger than what is held; nothing is known of it. */
  isTooLarge = false
  readonly #bytesMax: number
  #pieces: Buffer[] = []
  #bytes = 0
  #parsed: { value: unknown } | undefined

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  push(piece: Buffer): void {
    this.#bytes += piece.length
    if (this.#bytes > this.#bytesMax) {
      this.isTooLarge = true
      this.#pieces = []
    } else {
      // The buffer may be used again before the rest has come.
      this.#pieces.push(Buffer.from(piece))
    }
  }

  get isComplete(): boolean {
    return this.#parse() !== undefined
  }

  /** A field of the object; undefined where there is none, or no object. */
  value(name: string): unknown {
    const whole = this.#parse()
    return typeof whole === 'object' && whole !== null && Object.hasOwn(whole, name)
      ? (whole as Record<string, unknown>)[name]
      : undefined
  }

  #parse(): unknown {
    this.#parsed ??= { value: this.isTooLarge ? undefined : parse(this.#pieces) }
    return this.#parsed.value
  }
}

function parse(pieces: readonly Buffer[]): unknown {
  const [first] = pieces
  try {
    return JSON.parse((pieces.length === 1 && first ? first : Buffer.concat(pieces)).toString())
  } catch {
    return undefined
  }
}
