import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { parseIntoClientConfig } from 'pg-connection-string'
import { openVault, type Vault } from './api-keys/vault.ts'
import { type JwtSecrets, openJwtSecrets } from './auth/jwt-secrets.ts'
import { type Config, decodeKey } from './config.ts'
import { type Db, isDatabaseFault, openDatabase } from './db/database.ts'
import { openEmbeddedDatabase } from './db/embedded/embedded.ts'
import { migrate, requireSchema } from './db/migrate.ts'
import { type Log, type Logger, openLog } from './http/log.ts'
import { loadSecrets } from './instance-secrets.ts'

/** The database as it is. */
export interface Storage extends AsyncDisposable {
  config: Config
  log: Logger
  logOutput: Pick<Log, 'droppedCount' | 'flush'>
  db: Db
  /** What an operator types to look into the database; undefined when it is not ours. */
  psqlCommand: string | undefined
}

/** What operators' commands and the server both hold. */
export interface Foundation extends Storage {
  vault: Vault
  jwtSecrets: JwtSecrets
}

/** The database, whatever its schema: nothing is migrated, and no secret is read. */
export async function openStorage(config: Config): Promise<Storage> {
  await using stack = new AsyncDisposableStack()
  const logOutput = openLog(config.logLevel)
  const log = logOutput.logger
  const { connection, psqlCommand } = await connectionOf(config, stack, log)
  const db = stack.use(
    openDatabase(connection, config.databasePoolSize, (error) =>
      log.warn({ err: error }, 'a database connection was lost'),
    ),
  )
  const owned = stack.move()
  return { config, log, logOutput, db, psqlCommand, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/**
 * The database, at the schema of this version, and the secrets.
 * @param options.upgrade a server brings an older schema up to date; a command leaves that to the server.
 */
export async function openFoundation(
  config: Config,
  options: { upgrade: boolean; waitForDatabaseMs?: number } = { upgrade: false },
): Promise<Foundation> {
  await using stack = new AsyncDisposableStack()
  // Before anything else: what is wrong with a secret is said without touching the database.
  const jwtSecrets = await openJwtSecrets(() => loadSecrets(config))
  const storage = stack.use(await openStorage(config))
  const { db, log } = storage
  const migrated = await whenReachable(
    () => (options.upgrade ? migrate(db) : requireSchema(db)),
    options.waitForDatabaseMs ?? 0,
    log,
  )
  for (const { name } of migrated) log.info({ migration: name }, 'migration applied')
  const vault = await openVault({ db }, () => readMasterKeys(config))
  const owned = stack.move()
  return { ...storage, vault, jwtSecrets, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** The keys that data keys are sealed under, as the operator has them now. */
export async function readMasterKeys(config: Config): Promise<{ current: Buffer; previous: Buffer | undefined }> {
  const { encryptionKey, encryptionKeyPrevious } = await loadSecrets(config)
  return {
    current: decodeKey(encryptionKey.reveal()) ?? Buffer.alloc(0),
    previous: encryptionKeyPrevious && decodeKey(encryptionKeyPrevious.reveal()),
  }
}

/** A server and its database are often started together; the database takes longer. */
async function whenReachable<T>(work: () => Promise<T>, waitMs: number, log: Logger): Promise<T> {
  const giveUpAt = performance.now() + waitMs
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!isDatabaseFault(error) || isRefusal(error) || performance.now() > giveUpAt) throw error
      log.warn({ err: error }, 'the database cannot be reached yet; trying again')
      await sleep(RETRY_MS)
    }
  }
}

/** A wrong password or user does not become right by waiting. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /^28/.test(String(error.code))
}

const RETRY_MS = 1000

async function connectionOf(
  config: Config,
  stack: AsyncDisposableStack,
  log: Logger,
): Promise<{ connection: pg.ClientConfig; psqlCommand: string | undefined }> {
  if (config.databaseUrl) {
    return { connection: parseIntoClientConfig(config.databaseUrl.reveal()), psqlCommand: undefined }
  }
  const embedded = stack.use(
    await openEmbeddedDatabase({ dataDirectory: config.dataDirectory, log: (message) => log.info(message) }),
  )
  return { connection: embedded.connection, psqlCommand: embedded.psqlCommand }
}
