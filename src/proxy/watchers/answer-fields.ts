import type { Ending } from '../../ledger/ledger.ts'

/** A text that says something, or null. */
export function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The code of OpenAI's error object, or its type; null where there is no such object. */
export function errorCodeOf(error: unknown): string | null {
  return isRecord(error) ? (textOf(error.code) ?? textOf(error.type) ?? 'failed') : null
}

/** How an answer ended that has no status of its own: with an error, or well. */
export function endingByError(error: unknown): { ending: Ending; errorCode: string | null } {
  return { ending: isRecord(error) ? 'failed' : 'completed', errorCode: errorCodeOf(error) }
}
