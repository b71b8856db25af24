import type { KeyRing, UpstreamKey } from '../api-keys/key-ring.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Ledger, Settlement } from './ledger.ts'
import { type ClaimedAttempt, claimDeferred } from './store.ts'

/** What OpenAI says of a response now. Asking costs nothing. */
export type RetrieveResponse = (
  key: UpstreamKey,
  responseId: string,
) => Promise<
  { kind: 'ended'; settlement: Settlement } | { kind: 'pending' } | { kind: 'gone' } | { kind: 'unreachable' }
>

/**
 * Asks for the end of background responses until it is known, so that one whose client never comes back is accounted for too.
 * Servers share the work by claiming; each answer settles the attempt it belongs to, once.
 */
export function startBackgroundPoller(deps: {
  db: Db
  keyRing: KeyRing
  ledger: Ledger
  retrieveResponse: RetrieveResponse
  onFault: (error: Error) => void
}): AsyncDisposable {
  const { db, keyRing, ledger, retrieveResponse, onFault } = deps
  let timer: NodeJS.Timeout | undefined
  let isClosed = false
  let running: Promise<void> = Promise.resolve()

  async function poll(claimed: ClaimedAttempt): Promise<void> {
    const key = await keyOf(keyRing, claimed)
    const found = key ? await retrieveResponse(key, claimed.response_id) : ({ kind: 'unreachable' } as const)
    if (found.kind === 'ended') {
      ledger.settleDeferred(claimed.opened, found.settlement)
    } else if (found.kind === 'gone') {
      ledger.settleDeferred(claimed.opened, unknownEnd(claimed, 'response_gone'))
    } else if (Date.now() - claimed.created_at.getTime() > GIVE_UP_MS) {
      ledger.settleDeferred(claimed.opened, unknownEnd(claimed, 'never_ended'))
    }
  }

  async function turn(): Promise<void> {
    try {
      const claimed = await db.forOperator((tx) => claimDeferred(tx, CLAIM_MAX))
      await Promise.all(claimed.map(poll))
    } catch (error) {
      onFault(error as Error)
    }
    if (!isClosed) schedule()
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
      isClosed = true
      clearTimeout(timer)
      await running
    },
  }
}

const TURN_INTERVAL_MS = 500
const CLAIM_MAX = 20
/** OpenAI ends every response long before this. */
const GIVE_UP_MS = 24 * 3_600_000

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
