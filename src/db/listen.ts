import { randomBytes } from 'node:crypto'
import pg from 'pg'

/** A connection that hears NOTIFY, kept open for the life of the process. */
export interface Listener {
  /** False from the moment the connection may have missed something until it hears again. */
  readonly isUp: boolean
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Listens on a channel and reconnects when cut. Every second it notifies itself: a connection that is silently dead, or that is
 * alive and does not hear, as behind a transaction pooler, is found within four seconds.
 * @param onUp called whenever listening begins (again): what was sent before is lost, so revalidate what is cached.
 */
export function listen(
  connection: pg.ClientConfig,
  channel: string,
  handlers: { onNotify(payload: string): void; onUp(): void; onDown(): void },
): Listener {
  let client: pg.Client | undefined
  let isUp = false
  let isClosed = false
  let timer: NodeJS.Timeout | undefined
  let retryMs = RETRY_MIN_MS
  /** Heard by this process alone. */
  const ownChannel = `${channel}_${randomBytes(8).toString('hex')}`
  /** Own notifications sent since one was heard. */
  let unheardCount = 0

  async function connect(): Promise<void> {
    const fresh = new pg.Client({
      ...connection,
      connectionTimeoutMillis: ANSWER_TIMEOUT_MS,
      query_timeout: ANSWER_TIMEOUT_MS,
      keepAlive: true,
    })
    client = fresh
    fresh.on('error', () => lose(fresh))
    fresh.on('end', () => lose(fresh))
    fresh.on('notification', (message) => {
      if (message.channel === ownChannel) unheardCount = 0
      else handlers.onNotify(message.payload ?? '')
    })
    try {
      await fresh.connect()
      await fresh.query(`listen ${pg.escapeIdentifier(channel)}`)
      await fresh.query(`listen ${pg.escapeIdentifier(ownChannel)}`)
    } catch {
      lose(fresh)
      return
    }
    if (isClosed || client !== fresh) return
    isUp = true
    unheardCount = 0
    retryMs = RETRY_MIN_MS
    handlers.onUp()
    timer = setTimeout(ping, PING_INTERVAL_MS, fresh)
  }

  async function ping(current: pg.Client): Promise<void> {
    try {
      if (unheardCount >= UNHEARD_MAX) throw new Error('The connection does not hear what is sent to it.')
      unheardCount += 1
      await current.query('select pg_notify($1, $2)', [ownChannel, ''])
      if (client === current && !isClosed) timer = setTimeout(ping, PING_INTERVAL_MS, current)
    } catch {
      lose(current)
    }
  }

  function lose(lost: pg.Client): void {
    if (client !== lost || isClosed) return
    client = undefined
    clearTimeout(timer)
    lost.end().catch(() => {})
    if (isUp) {
      isUp = false
      handlers.onDown()
    }
    timer = setTimeout(connect, retryMs)
    retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)
  }

  void connect()
  return {
    get isUp() {
      return isUp
    },
    async [Symbol.asyncDispose]() {
      isClosed = true
      isUp = false
      clearTimeout(timer)
      await client?.end().catch(() => {})
    },
  }
}

const PING_INTERVAL_MS = 1000
const ANSWER_TIMEOUT_MS = 2000
const UNHEARD_MAX = 3
const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 1000
