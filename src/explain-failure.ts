import { VaultError } from './api-keys/sealing.ts'
import { ConfigError } from './config.ts'
import { isDatabaseFault } from './db/database.ts'
import { EmbeddedDatabaseError } from './db/embedded/error.ts'
import { LocksNotAvailableError, SchemaTooNewError, SchemaTooOldError } from './db/migrate.ts'
import { AppError } from './errors.ts'
import { PriceOverlayError } from './ledger/price-table.ts'

/** A failure as a sentence for the operator; anything unforeseen with where it happened. */
export function explainStartFailure(error: unknown): string {
  if (isForeseen(error)) return error.message
  if (!(error instanceof Error)) return `Unexpected failure: ${typeof error}`
  return explainSystemCall(error) ?? explainDatabase(error) ?? `Unexpected failure: ${error.stack ?? error.message}`
}

const FORESEEN = [
  ConfigError,
  EmbeddedDatabaseError,
  SchemaTooNewError,
  SchemaTooOldError,
  LocksNotAvailableError,
  VaultError,
  AppError,
  PriceOverlayError,
]

function isForeseen(error: unknown): error is Error {
  return FORESEEN.some((type) => error instanceof type)
}

function explainSystemCall(error: NodeJS.ErrnoException): string | undefined {
  const { code, syscall, path } = error
  if (syscall === 'listen') {
    if (code === 'EADDRINUSE') return 'The port is taken by another process: set PORT (or ADMIN_PORT) to a free one.'
    if (code === 'EACCES') return 'This user may not listen on that port: choose a PORT above 1023.'
    if (code === 'EADDRNOTAVAIL') return 'HOST is not an address of this machine.'
  }
  if (syscall === 'connect' || syscall === 'getaddrinfo') return UNREACHABLE
  if (code === 'EACCES' || code === 'EPERM')
    return `This user may not use ${path ?? 'DATA_DIR'}: change its owner or choose another DATA_DIR.`
  if (code === 'ENOSPC') return 'There is no space left on the disk of DATA_DIR.'
  if (code === 'EROFS')
    return `${path ?? 'DATA_DIR'} is on a read-only file system: choose a DATA_DIR that can be written to.`
  return undefined
}

/** @see https://www.postgresql.org/docs/current/errcodes-appendix.html */
function explainDatabase(error: Error): string | undefined {
  const code = 'code' in error ? String(error.code) : ''
  if (code === '28P01' || code === '28000') return 'DATABASE_URL: the database refused this user or password.'
  if (code === '3D000') return 'DATABASE_URL: there is no such database; create it first.'
  if (code === '42501') return 'DATABASE_URL: this user may not create tables in the database: make it the owner.'
  if (error.message === 'The server does not support SSL connections')
    return 'DATABASE_URL asks for TLS, which the database does not offer: turn it on there, or leave out sslmode.'
  // Without a code: nobody answered, or what did is no Postgres.
  if (code === '' && isDatabaseFault(error)) return UNREACHABLE
  return undefined
}

const UNREACHABLE = 'The database cannot be reached: check the host and port of DATABASE_URL, and that it runs.'
