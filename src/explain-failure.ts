import { VaultError } from './api-keys/vault.ts'
import { ConfigError } from './config.ts'
import { EmbeddedDatabaseError } from './db/embedded/error.ts'
import { SchemaTooNewError } from './db/migrate.ts'
import { AppError } from './errors.ts'
import { PriceOverlayError } from './ledger/price-table.ts'

/** A failure as a sentence for the operator; anything unforeseen with where it happened. */
export function explainStartFailure(error: unknown): string {
  if (isForeseen(error)) return error.message
  if (!(error instanceof Error)) return `Unexpected failure: ${typeof error}`
  const code = 'code' in error ? String(error.code) : ''
  if (code === 'EADDRINUSE') return 'The port is taken by another process: set PORT (or ADMIN_PORT) to a free one.'
  if (code === 'EACCES') return 'Permission denied: choose a PORT above 1023, and a DATA_DIR this user can write to.'
  if (
    code === 'ECONNREFUSED' ||
    code === 'ENOTFOUND' ||
    code === 'ETIMEDOUT' ||
    code === 'ENOENT' ||
    /connection timeout/.test(error.message)
  ) {
    return 'The database cannot be reached: check the host and port of DATABASE_URL, and that it runs.'
  }
  if (code === '28P01' || code === '28000') return 'DATABASE_URL: the database refused this user or password.'
  if (code === '3D000') return 'DATABASE_URL: there is no such database; create it first.'
  if (code === '42501') return 'DATABASE_URL: this user may not create tables in the database: make it the owner.'
  return `Unexpected failure: ${error.stack ?? error.message}`
}

function isForeseen(error: unknown): error is Error {
  return [ConfigError, EmbeddedDatabaseError, SchemaTooNewError, VaultError, AppError, PriceOverlayError].some(
    (type) => error instanceof type,
  )
}
