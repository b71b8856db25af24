/** The beginning of a body, and how long the whole of it was. */
export interface Captured {
  /** At most `CAPTURED_BYTES_MAX`. */
  bytes: Buffer
  originalBytes: number
}

export const CAPTURED_BYTES_MAX = 1024 * 1024

/** Captures a body that is there. The caller must not change its bytes any more. */
export function captureBody(body: Buffer): Captured {
  // A copy of what is kept: a reference would hold all of a large body for as long as the answer takes.
  const bytes = body.length <= CAPTURED_BYTES_MAX ? body : Buffer.from(body.subarray(0, CAPTURED_BYTES_MAX))
  return { bytes, originalBytes: body.length }
}

/**
 * Captures a body that arrives in pieces. They are copied together: a stream is thousands of small pieces, and each would hold its
 * own buffer, many times its size, until the end.
 */
export class Capture {
  #kept: Buffer = Buffer.alloc(0)
  #keptBytes = 0
  #originalBytes = 0

  push(piece: Buffer): void {
    this.#originalBytes += piece.length
    const wanted = Math.min(this.#keptBytes + piece.length, CAPTURED_BYTES_MAX)
    if (wanted === this.#keptBytes) return
    if (wanted > this.#kept.length) this.#grow(wanted)
    this.#keptBytes += piece.copy(this.#kept, this.#keptBytes, 0, wanted - this.#keptBytes)
  }

  /** What came so far, in no more memory than it needs; undefined when nothing came. */
  take(): Captured | undefined {
    if (this.#originalBytes === 0) return undefined
    return { bytes: Buffer.from(this.#kept.subarray(0, this.#keptBytes)), originalBytes: this.#originalBytes }
  }

  #grow(wanted: number): void {
    const size = Math.min(Math.max(wanted, this.#kept.length * 2, FIRST_BYTES), CAPTURED_BYTES_MAX)
    const grown = Buffer.allocUnsafeSlow(size)
    this.#kept.copy(grown, 0, 0, this.#keptBytes)
    this.#kept = grown
  }
}

const FIRST_BYTES = 4096
