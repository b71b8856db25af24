import type { Writable } from 'node:stream'
import { type Logger, pino } from 'pino'
import { openLogOutput } from './log-output.ts'
import { LogRepeats } from './log-repeats.ts'

export type { Logger }

export interface Log {
  logger: Logger
  /** Lines that nobody took since this process started. */
  readonly droppedCount: number
  /** Resolves when everything logged has left, or after a moment. */
  flush(): Promise<void>
}

/**
 * JSON lines on standard output, which nothing waits for. What is secret is never handed to it; the paths below are the net under
 * that rule. Of equal warnings and errors that come one after the other the first is written, and then how many more there were.
 */
export function openLog(level: string, stream: Writable = process.stdout): Log {
  const output = openLogOutput(stream)
  const repeats = new LogRepeats(REPEATS_WINDOW_MS)
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: ['*.authorization', '*.headers', 'headers', 'authorization', '*.secret', '*.parameters', '*.detail'],
        remove: true,
      },
      serializers: { err: describeError },
      hooks: {
        logMethod(args, method, levelNumber) {
          if (levelNumber < WARN) {
            method.apply(this, args)
            return
          }
          const [first, message] = args as [unknown, string?]
          const fields = typeof first === 'object' ? first : {}
          const text = typeof first === 'string' ? first : (message ?? '')
          repeats.pass(`${levelNumber} ${text} ${kindOf(fields)}`, (repeated) => {
            method.apply(this, [repeated > 0 ? { ...fields, repeated } : { ...fields }, text])
          })
        },
      },
    },
    output,
  )
  return {
    logger,
    get droppedCount() {
      return output.droppedCount
    },
    flush() {
      repeats.flush()
      return output.flush()
    },
  }
}

const WARN = 40
const REPEATS_WINDOW_MS = 10_000

/** What tells two errors under the same text apart, but neither their ids nor their words. */
function kindOf(fields: unknown): string {
  const error = (fields as { err?: unknown } | null)?.err
  return error instanceof Error ? `${error.name} ${'code' in error ? String(error.code) : ''}` : ''
}

/** An error without its values: a driver's error can carry a row, a parser's a piece of the body. */
function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { type: typeof error }
  const code = 'code' in error ? String(error.code) : undefined
  return {
    type: error.name,
    code,
    message: error.message.slice(0, 300),
    stack: error.stack?.split('\n').slice(1, 12).join('\n'),
  }
}
