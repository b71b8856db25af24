/** Bounds on reading answers to their end for clients that have gone. */
export class Drains {
  #count = 0

  /** @returns false when as many are under way as may be: then the call is cut after all. */
  begin(): boolean {
    if (this.#count >= COUNT_MAX) return false
    this.#count += 1
    return true
  }

  end(): void {
    this.#count -= 1
  }
}

const COUNT_MAX = 500
export const DRAIN_TIMEOUT_MS = 60_000
export const DRAIN_BYTES_MAX = 64 * 1024 * 1024
