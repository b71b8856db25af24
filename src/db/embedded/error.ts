/** Why the embedded database cannot start: a whole sentence that tells the operator what to do. */
export class EmbeddedDatabaseError extends Error {
  override readonly name = 'EmbeddedDatabaseError'
}

/** A failed file operation as a sentence about the data directory; any other error passes unchanged. */
export function explainFileError(error: unknown, dataDirectory: string): unknown {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return error
  if (hasCode(error, 'ENOSPC', 'EDQUOT')) return noSpaceLeft(dataDirectory, error)
  return new EmbeddedDatabaseError(
    `The data directory ${dataDirectory} cannot be used (${error.message}): let this user write there, or choose another data directory.`,
    { cause: error },
  )
}

export function noSpaceLeft(dataDirectory: string, cause?: unknown): EmbeddedDatabaseError {
  return new EmbeddedDatabaseError(
    `There is no space left on the disk of ${dataDirectory}: free some and start again; nothing that was committed is lost.`,
    { cause },
  )
}

/** Whether Postgres or initdb ran out of disk. They run in the C locale, so the text is always this one. */
export function tellsOfNoSpace(output: string): boolean {
  return /No space left on device|Disk quota exceeded|wrote only \d+ of \d+ bytes/.test(output)
}

/** True for an error of the operating system, or of Postgres, with one of these codes. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

/** For `.catch()` on a file that need not be there. */
export function undefinedIfMissing(error: unknown): undefined {
  if (hasCode(error, 'ENOENT')) return undefined
  throw error
}
