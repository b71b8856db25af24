import { type Logger, pino } from 'pino'

export type { Logger }

/** JSON lines on standard output. What is secret is never handed to it; these paths are the net below that rule. */
export function openLog(level: string): Logger {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: {
      paths: ['*.authorization', '*.headers', 'headers', 'authorization', '*.secret', '*.parameters', '*.detail'],
      remove: true,
    },
    serializers: { err: describeError },
  })
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
