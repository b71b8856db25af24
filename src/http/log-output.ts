import type { Writable } from 'node:stream'

/** Where log lines go. Nobody waits for it: what a reader that is stuck or a full disk does not take is dropped and counted. */
export interface LogOutput {
  write(line: string): void
  /** Lines that were not written since this process started. */
  readonly droppedCount: number
  /** Resolves when everything has left, or after a moment. */
  flush(): Promise<void>
}

/** @param stream written to without waiting: of a pipe that nobody reads only a bounded number of bytes is kept. */
export function openLogOutput(stream: Writable): LogOutput {
  let droppedCount = 0
  let reportedCount = 0
  let isWatched = false

  /** Not before the first line: a log that is silent leaves the stream alone. */
  function watch(): void {
    isWatched = true
    stream.on('error', () => {
      droppedCount += 1
    })
  }

  return {
    write(line) {
      if (!isWatched) watch()
      if (stream.writableLength + line.length > WAITING_BYTES_MAX) {
        droppedCount += 1
        return
      }
      if (droppedCount > reportedCount && stream.writableLength === 0) {
        const report = { level: 'warn', time: new Date().toISOString(), dropped: droppedCount }
        reportedCount = droppedCount
        stream.write(`${JSON.stringify({ ...report, msg: 'log lines were dropped: nobody took them' })}\n`)
      }
      stream.write(line)
    },
    get droppedCount() {
      return droppedCount
    },
    async flush() {
      if (stream.writableLength === 0) return
      const done = Promise.withResolvers<void>()
      const timer = setTimeout(done.resolve, FLUSH_TIMEOUT_MS)
      stream.write('', () => done.resolve())
      await done.promise
      clearTimeout(timer)
    },
  }
}

/** Some thousand lines. */
const WAITING_BYTES_MAX = 1024 * 1024
const FLUSH_TIMEOUT_MS = 1000
