/** Lets the first of many equal log lines through, and instead of the others one line that says how many there were. */
export class LogRepeats {
  readonly #seen = new Map<string, { count: number; writeLast: (repeated: number) => void; timer: NodeJS.Timeout }>()
  readonly #windowMs: number

  constructor(windowMs: number) {
    this.#windowMs = windowMs
  }

  /** @param write writes the line; `repeated` is how many came since the last one that was written, 0 for the first. */
  pass(key: string, write: (repeated: number) => void): void {
    const seen = this.#seen.get(key)
    if (seen) {
      seen.count += 1
      seen.writeLast = write
      return
    }
    if (this.#seen.size < KEYS_MAX) {
      const timer = setTimeout(() => this.#end(key), this.#windowMs)
      timer.unref()
      this.#seen.set(key, { count: 0, writeLast: write, timer })
    }
    write(0)
  }

  /** Writes what is held back, as at the end of the process. */
  flush(): void {
    for (const key of [...this.#seen.keys()]) this.#end(key)
  }

  #end(key: string): void {
    const seen = this.#seen.get(key)
    if (!seen) return
    clearTimeout(seen.timer)
    this.#seen.delete(key)
    if (seen.count > 0) seen.writeLast(seen.count)
  }
}

/** Keys are texts of ours; should one of them ever vary without end, its lines are written one by one. */
const KEYS_MAX = 1000
