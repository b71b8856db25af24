import type { KeyRing, UpstreamKey } from '../api-keys/key-ring.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Ledger, Settlement } from './ledger.ts'
import type { PriceTable } from './pricing.ts'
import { type ClaimedAttempt, claimDeferred } from './store.ts'

/** Work that goes on at OpenAI: a response made in the background, or a batch. */
export interface DeferredWork {
  id: string
  /** The endpoint that began it. */
  endpoint: string
  openedAt: Date
}

/** What OpenAI says of work now. Asking costs nothing. */
export type RetrieveEnd = (
  key: UpstreamKey,
  work: DeferredWork,
  prices: PriceTable,
  signal: AbortSignal,
) => Promise<
  { kind: 'ended'; settlement: Settlement } | { kind: 'pending' } | { kind: 'gone' } | { kind: 'unreachable' }
>

/**
 * Asks for the end of background responses and batches until it is known, so that one whose client never comes back is accounted
 * for too. Servers share the work by claiming; each answer settles the attempt it belongs to, once.
 */
export function startBackgroundPoller(deps: {
  db: Db
  keyRing: KeyRing
  ledger: Ledger
  prices: PriceTable
  retrieveEnd: RetrieveEnd
  onFault: (error: Error) => void
}): AsyncDisposable {
  const { db, keyRing, ledger, prices, retrieveEnd, onFault } = deps
  const closing = new AbortController()
  /** Asked at this moment, by attempt: the results of a large batch take longer to read than its next turn takes to come. */
  const asking = new Map<string, Promise<void>>()
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> = Promise.resolve()

  async function ask(claimed: ClaimedAttempt): Promise<void> {
    const { opened, response_id: id } = claimed
    const key = await keyOf(keyRing, claimed)
    const work = { id, endpoint: opened.opening.endpoint, openedAt: new Date(opened.openedAt) }
    const found = key ? await retrieveEnd(key, work, prices, closing.signal) : ({ kind: 'unreachable' } as const)
    if (found.kind === 'ended') {
      ledger.settleDeferred(opened, found.settlement)
    } else if (found.kind === 'gone') {
      ledger.settleDeferred(opened, unknownEnd(claimed, 'response_gone'))
    } else if (Date.now() - claimed.created_at.getTime() > giveUpMs(work)) {
      ledger.settleDeferred(opened, unknownEnd(claimed, 'never_ended'))
    }
  }

  function begin(claimed: ClaimedAttempt): void {
    const { attempt_id: attemptId } = claimed
    if (asking.has(attemptId)) return
    asking.set(
      attemptId,
      ask(claimed)
        .catch(onFault)
        .finally(() => asking.delete(attemptId)),
    )
  }

  async function turn(): Promise<void> {
    try {
      const room = CLAIM_MAX - asking.size
      if (room > 0) for (const claimed of await db.forOperator((tx) => claimDeferred(tx, room))) begin(claimed)
    } catch (error) {
      onFault(error as Error)
    }
    if (!closing.signal.aborted) schedule()
  }

  function schedule(): void {
    timer = setTimeout(() => {
      running = turn()
    }, TURN_INTERVAL_MS)
    timer.unref()
  }

  schedule()
  return {
    async [Symbol.asyncDispose]() {
      closing.abort()
      clearTimeout(timer)
      await running
      await Promise.all(asking.values())
    },
  }
}

const TURN_INTERVAL_MS = 500
const CLAIM_MAX = 20
const DAY_MS = 24 * 3_600_000

/** OpenAI ends every response long before a day has passed, and every batch soon after its day. */
function giveUpMs({ endpoint }: DeferredWork): number {
  return endpoint === BATCHES ? 7 * DAY_MS : DAY_MS
}

/** The endpoint whose attempts are batches. */
export const BATCHES = 'batches.create'

/** The key the response was made with; undefined while it is inactive, which an administrator can still change. */
async function keyOf(keyRing: KeyRing, claimed: ClaimedAttempt): Promise<UpstreamKey | undefined> {
  try {
    return await keyRing.choose(claimed.organization_id, null, undefined, claimed.api_key_id)
  } catch (error) {
    if (error instanceof AppError && error.code === 'conflict') return undefined
    throw error
  }
}

function unknownEnd(claimed: ClaimedAttempt, errorCode: string): Settlement {
  return {
    ending: 'interrupted',
    errorCode,
    httpStatus: null,
    responseId: claimed.response_id,
    upstreamRequestId: null,
    modelUsed: claimed.opened.opening.modelRequested,
    serviceTier: null,
    usage: { source: 'unknown' },
    firstByteMs: null,
  }
}
