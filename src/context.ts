import { join } from 'node:path'
import type pg from 'pg'
import { parseIntoClientConfig } from 'pg-connection-string'
import { type KeyRing, openKeyRing } from './api-keys/key-ring.ts'
import { type Authenticator, openAuthenticator } from './auth/authenticate.ts'
import type { Config } from './config.ts'
import { startContentPurge } from './content/purge.ts'
import { type ContentWriter, openContentWriter, PENDING_CONTENT_BYTES_MAX } from './content/writer.ts'
import type { Db } from './db/database.ts'
import { type Listener, listen } from './db/listen.ts'
import { OrganizationCache } from './db/organization-cache.ts'
import { type Foundation, openFoundation } from './foundation.ts'
import type { ProbeUpstream } from './health/service.ts'
import type { Logger } from './http/log.ts'
import { newAttemptId } from './ids.ts'
import { type RetrieveEnd, startBackgroundPoller } from './ledger/background.ts'
import { type Journal, openJournal, removeJournal } from './ledger/journal.ts'
import { type Ledger, openLedger } from './ledger/ledger.ts'
import { openPriceFile } from './ledger/price-file.ts'
import type { PriceTable } from './ledger/pricing.ts'
import { findDeadJournals, recoverJournal } from './ledger/recovery.ts'
import { startRetention } from './ledger/retention.ts'
import { openPolicyReader, type PolicyReader } from './organizations/policies.ts'
import { type Ownership, openOwnership, restoreOwnership } from './ownership/service.ts'
import { openPersonaDirectory, type PersonaDirectory } from './personas/directory.ts'
import { type Heartbeat, startHeartbeat } from './replicas/service.ts'
import { type Metrics, openMetrics } from './telemetry/metrics.ts'
import { openUserDirectory } from './users/service.ts'

/** What a running server holds: opened in reading order, closed in reverse. */
export interface Context extends Foundation {
  keyRing: KeyRing
  authenticator: Authenticator
  ownership: Ownership
  ledger: Ledger
  journal: Journal
  /** How this process hears of changes. */
  channel: Listener
  cache: OrganizationCache
  heartbeat: Heartbeat
  metrics: Metrics
  /** Of this process, among all that work on the database. */
  replicaId: string
  contents: ContentWriter
  prices: PriceTable
  policies: PolicyReader
  personas: PersonaDirectory
  probeUpstream: ProbeUpstream
  isStopping: () => boolean
}

/** @param probeUpstream comes from the data plane, which nothing here may import. */
export async function openContext(
  config: Config,
  plane: { probeUpstream: ProbeUpstream; retrieveEnd: RetrieveEnd; isStopping: () => boolean },
): Promise<Context> {
  await using stack = new AsyncDisposableStack()
  const foundation = stack.use(await openFoundation(config, { upgrade: true, waitForDatabaseMs: WAIT_FOR_DATABASE_MS }))
  const { db, log, vault, jwtSecrets } = foundation
  const cache = new OrganizationCache({ staleMs: config.staleIdentityMs })
  const channel = stack.use(
    listen(listenConnection(foundation), IDENTITY_CHANNEL, {
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
  const authenticator = openAuthenticator({ db, cache, jwtSecrets, acceptLegacyTokens, keyRing, users })
  const onFault = (error: Error, pendingCount: number) =>
    log.warn({ err: error, pending: pendingCount }, 'the database did not take a batch; it is sent again')
  const closeTimeoutMs = CLOSE_TIMEOUT_MS
  const replicaId = newAttemptId(Date.now())
  const journals = join(config.dataDirectory, 'journal')
  const journal = stack.use(
    await openJournal({
      directory: journals,
      name: replicaId,
      syncIntervalMs: config.journalSyncMs,
      sync: config.journalSync,
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
    await openPriceFile(config, {
      onReload: () => log.info('prices were read again'),
      onRefused: (error) =>
        log.error({ err: error }, 'the changed prices are not valid; the former ones stay in force'),
    }),
  )
  const metrics = openMetrics((model) => prices.ratesFor(model, new Date())?.model)
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
  stack.use(
    startRetention({
      db,
      rowsDays: config.rowsDays ?? null,
      onDone: (done) => log.info(done, 'rows that no policy keeps were deleted'),
      onFault: (error) => log.warn({ err: error }, 'the table of attempts could not be looked after; trying again'),
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
      onSettled: (row) => metrics.settled(row),
      onShipped: (delayMs) => metrics.shipped(delayMs / 1000),
    }),
  )
  stack.use(
    startBackgroundPoller({
      db,
      keyRing,
      ledger,
      prices,
      retrieveEnd: plane.retrieveEnd,
      onFault: (error) => log.warn({ err: error }, 'background responses could not be looked after; trying again'),
    }),
  )
  const heartbeat = stack.use(
    startHeartbeat({
      db,
      id: replicaId,
      name: config.replicaName,
      measure: () => ({ unshippedRecords: ledger.pendingCount, journalBytes: journal.bytes }),
      onFault: (error) => log.warn({ err: error }, 'the database could not be told that this server lives'),
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
    journal,
    channel,
    cache,
    heartbeat,
    metrics,
    replicaId,
    contents,
    prices,
    policies: openPolicyReader({ db, cache }),
    personas: openPersonaDirectory({ db, cache }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Its own where the way to the database is a pooler that does not keep a connection to one client. */
function listenConnection({ config, db }: Foundation): pg.ClientConfig {
  const { databaseListenUrl } = config
  return databaseListenUrl ? parseIntoClientConfig(databaseListenUrl.reveal()) : db.connection
}

const WAIT_FOR_DATABASE_MS = 60_000

const IDENTITY_CHANNEL = 'openai_proxy_identity'
/** What the database does not take by then is in the journal, and shipped by whoever starts next. */
const CLOSE_TIMEOUT_MS = 5000

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
