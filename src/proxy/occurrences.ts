/** Counts how often a text occurs in passing bytes, wherever they are cut. */
export class Occurrences {
  count = 0
  readonly #needle: Buffer
  #tail: Buffer = Buffer.alloc(0)

  constructor(text: string) {
    this.#needle = Buffer.from(text)
  }

  push(chunk: Buffer): void {
    const overlap = this.#needle.length - 1
    // What straddles the cut is in the last bytes of what came and the first of what comes.
    this.#countIn(Buffer.concat([this.#tail, chunk.subarray(0, overlap)]))
    this.#countIn(chunk)
    const tail = Buffer.concat([this.#tail, chunk.subarray(-overlap)])
    this.#tail = tail.subarray(Math.max(0, tail.length - overlap))
  }

  #countIn(bytes: Buffer): void {
    for (let at = bytes.indexOf(this.#needle); at !== -1; at = bytes.indexOf(this.#needle, at + 1)) this.count += 1
  }
}
