import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { parseIntoClientConfig } from 'pg-connection-string'
import { type KeyRing, openKeyRing } from './api-keys/key-ring.ts'
import { openVault, type Vault } from './api-keys/vault.ts'
import { type Authenticator, openAuthenticator } from './auth/authenticate.ts'
import { type Config, decodeKey } from './config.ts'
import { startContentPurge } from './content/purge.ts'
import { type ContentWriter, openContentWriter, PENDING_CONTENT_BYTES_MAX } from './content/writer.ts'
import { type Db, isDatabaseFault, openDatabase } from './db/database.ts'
import { openEmbeddedDatabase } from './db/embedded/embedded.ts'
import { listen } from './db/listen.ts'
import { migrate } from './db/migrate.ts'
import { OrganizationCache } from './db/organization-cache.ts'
import type { ProbeUpstream } from './health/service.ts'
import { type Logger, openLog } from './http/log.ts'
import { newAttemptId } from './ids.ts'
import { loadSecrets } from './instance-secrets.ts'
import { type RetrieveResponse, startBackgroundPoller } from './ledger/background.ts'
import { openJournal, removeJournal } from './ledger/journal.ts'
import { type Ledger, openLedger } from './ledger/ledger.ts'
import { openPriceFile } from './ledger/price-file.ts'
import type { PriceTable } from './ledger/pricing.ts'
import { findDeadJournals, recoverJournal } from './ledger/recovery.ts'
import { openPolicyReader, type PolicyReader } from './organizations/policies.ts'
import { type Ownership, openOwnership, restoreOwnership } from './ownership/service.ts'
import type { Secret } from './secret.ts'
import { openUserDirectory } from './users/service.ts'

/** The database as it is. */
export interface Storage extends AsyncDisposable {
  config: Config
  log: Logger
  db: Db
  /** What an operator types to look into the database; undefined when it is not ours. */
  psqlCommand: string | undefined
}

/** What operators' commands and the server both hold. */
export interface Foundation extends Storage {
  vault: Vault
  jwtSecretKey: Secret
}

/** What a running server holds: opened in reading order, closed in reverse. */
export interface Context extends Foundation {
  keyRing: KeyRing
  authenticator: Authenticator
  ownership: Ownership
  ledger: Ledger
  contents: ContentWriter
  prices: PriceTable
  policies: PolicyReader
  probeUpstream: ProbeUpstream
  isStopping: () => boolean
}

/** The database, whatever its schema: nothing is migrated, and no secret is read. */
export async function openStorage(config: Config): Promise<Storage> {
  await using stack = new AsyncDisposableStack()
  const log = openLog(config.logLevel)
  const { connection, psqlCommand } = await connectionOf(config, stack, log)
  const db = stack.use(
    openDatabase(connection, config.databasePoolSize, (error) =>
      log.warn({ err: error }, 'a database connection was lost'),
    ),
  )
  const owned = stack.move()
  return { config, log, db, psqlCommand, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** The database, at the schema of this version, and the secrets. */
export async function openFoundation(
  config: Config,
  options: { waitForDatabaseMs?: number } = {},
): Promise<Foundation> {
  await using stack = new AsyncDisposableStack()
  const { jwtSecretKey, encryptionKey } = await loadSecrets(config)
  const storage = stack.use(await openStorage(config))
  const { db, log } = storage
  const migrated = await whenReachable(() => migrate(db), options.waitForDatabaseMs ?? 0, log)
  for (const { name } of migrated) log.info({ migration: name }, 'migration applied')
  const vault = await openVault({ db }, decodeKey(encryptionKey.reveal()) ?? Buffer.alloc(0))
  const owned = stack.move()
  return { ...storage, vault, jwtSecretKey, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** @param probeUpstream comes from the data plane, which nothing here may import. */
export async function openContext(
  config: Config,
  plane: { probeUpstream: ProbeUpstream; retrieveResponse: RetrieveResponse; isStopping: () => boolean },
): Promise<Context> {
  await using stack = new AsyncDisposableStack()
  const foundation = stack.use(await openFoundation(config, { waitForDatabaseMs: WAIT_FOR_DATABASE_MS }))
  const { db, log, vault, jwtSecretKey } = foundation
  const cache = new OrganizationCache({ staleMs: config.staleIdentityMs })
  stack.use(
    listen(db.connection, IDENTITY_CHANNEL, {
      onNotify: (organizationId) => cache.invalidate(organizationId),
      onUp: () => cache.listening(),
      onDown: () => {
        cache.deaf()
        log.warn(
          'the connection that hears of revoked keys was lost: cached identities are read again until it is back',
        )
      },
    }),
  )
  const keyRing = openKeyRing({ db, vault, cache })
  const users = openUserDirectory({ db, cache, newUsersPerMinuteMax: config.newUsersPerMinuteMax })
  const acceptLegacyTokens = config.legacyTokens === 'accept'
  const authenticator = openAuthenticator({ db, cache, jwtSecretKey, acceptLegacyTokens, keyRing, users })
  const onFault = (error: Error, pendingCount: number) =>
    log.warn({ err: error, pending: pendingCount }, 'the database did not take a batch; it is sent again')
  const closeTimeoutMs = CLOSE_TIMEOUT_MS
  const journals = join(config.dataDirectory, 'journal')
  const journal = stack.use(
    await openJournal({
      directory: journals,
      name: newAttemptId(Date.now()),
      syncIntervalMs: config.journalSyncMs,
      bytesMax: config.journalBytesMax,
      onFault: (error, what) => log.error({ err: error }, what),
    }),
  )
  const ownership = stack.use(
    openOwnership({
      db,
      journal,
      onFault,
      closeTimeoutMs,
      onRefused: (objectId, error) => log.error({ object_id: objectId, err: error }, 'an ownership record was refused'),
    }),
  )
  const prices = stack.use(
    await openPriceFile(config.pricesFile ?? join(config.dataDirectory, 'prices.json'), {
      onReload: () => log.info('prices were read again'),
      onRefused: (error) =>
        log.error({ err: error }, 'the changed prices are not valid; the former ones stay in force'),
    }),
  )
  // Opened before the ledger, so that at the end the accounts are closed first.
  const contents = stack.use(
    openContentWriter({
      db,
      vault,
      pendingBytesMax: PENDING_CONTENT_BYTES_MAX,
      onFault,
      onDropped: (dropped, error) =>
        log.warn({ dropped, err: error }, 'content of requests was not kept; their accounting is complete'),
    }),
  )
  stack.use(
    startContentPurge({
      db,
      onPurged: (deleted) => log.info({ deleted }, 'content whose deadline has passed was deleted'),
      onFault: (error) => log.warn({ err: error }, 'content could not be purged; trying again'),
    }),
  )
  const ledger = stack.use(
    openLedger({
      db,
      journal,
      prices,
      onFault,
      closeTimeoutMs,
      onRefused: (attemptId, error) => log.error({ attempt_id: attemptId, err: error }, 'an attempt was refused'),
    }),
  )
  stack.use(
    startBackgroundPoller({
      db,
      keyRing,
      ledger,
      retrieveResponse: plane.retrieveResponse,
      onFault: (error) => log.warn({ err: error }, 'background responses could not be looked after; trying again'),
    }),
  )
  const recovering = recoverAll({ db, journals, ledger, log })
  stack.defer(() => recovering)
  const owned = stack.move()
  return {
    ...foundation,
    ...plane,
    keyRing,
    authenticator,
    ownership,
    ledger,
    contents,
    prices,
    policies: openPolicyReader({ db, cache }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
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

const WAIT_FOR_DATABASE_MS = 60_000
const RETRY_MS = 1000

const IDENTITY_CHANNEL = 'openai_proxy_identity'
const CLOSE_TIMEOUT_MS = 30_000

/** Ships what dead processes left behind, beside the requests that are coming in. */
async function recoverAll(deps: { db: Db; journals: string; ledger: Ledger; log: Logger }): Promise<void> {
  const { db, journals, ledger, log } = deps
  for (const directory of await findDeadJournals(journals)) {
    try {
      const recovered = await recoverJournal(directory)
      await restoreOwnership({ db }, recovered.owned)
      const { settled, interrupted } = await ledger.restore(recovered)
      await removeJournal(directory)
      log.info(
        { settled, interrupted, damaged_bytes: recovered.damagedBytes },
        'the journal of a dead process was recovered',
      )
    } catch (error) {
      log.error({ err: error }, 'the journal of a dead process could not be recovered; the next start tries again')
    }
  }
}

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
