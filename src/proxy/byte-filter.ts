/** Changes an answer's bytes on their way to the client, without ever waiting for more of them than one event needs. */
export interface ByteFilter {
  /** What may go on to the client now; undefined when nothing may yet. */
  push(chunk: Buffer): Buffer | undefined
  /** The bytes are over: what was still held back. */
  finish(): Buffer | undefined
}
