/**
 * Why the choices of a chat completion ended: the values of `finish_reason`, found in passing bytes wherever they are cut. Within
 * an answer's text the quotes around such a name would be escaped.
 */
export class FinishReasons {
  readonly found = new Set<string>()
  #tail: Buffer = Buffer.alloc(0)

  push(chunk: Buffer): void {
    // What straddles the cut is in the last bytes of what came and the first of what comes. Twice found is found.
    this.#readIn(Buffer.concat([this.#tail, chunk.subarray(0, REACH)]))
    this.#readIn(chunk)
    this.#tail = Buffer.concat([this.#tail, chunk.subarray(-REACH)]).subarray(-REACH)
  }

  #readIn(bytes: Buffer): void {
    for (let at = bytes.indexOf(NAME); at !== -1; at = bytes.indexOf(NAME, at + NAME.length)) {
      const behind = bytes.toString('latin1', at + NAME.length, at + REACH)
      const reason = VALUE.exec(behind)?.[1]
      if (reason !== undefined) this.found.add(reason)
    }
  }
}

const NAME = '"finish_reason"'
const VALUE = /^\s*:\s*"([a-z_]+)"/
/** The name, its value and some blanks. */
const REACH = 128
