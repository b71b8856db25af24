import { BATCHES, type RetrieveEnd } from '../ledger/background.ts'
import type { Settlement } from '../ledger/ledger.ts'
import { watchAnswer } from './answer-watcher.ts'
import { type Ask, type FoundEnd, type KnownEnd, readBatchEnd } from './batch-end.ts'
import type { Upstream } from './upstream.ts'

/** Asks OpenAI how work that goes on there stands. */
export function createRetrieveEnd(upstream: Pick<Upstream, 'ask'>): RetrieveEnd {
  return async (key, { id, endpoint, openedAt }, prices, closing) => {
    const ask: Ask = (path) => {
      const timeout = AbortSignal.timeout(endpoint === BATCHES ? BATCH_TIMEOUT_MS : RESPONSE_TIMEOUT_MS)
      return upstream.ask(key, path, AbortSignal.any([timeout, closing]))
    }
    try {
      const found = await (endpoint === BATCHES ? readBatchEnd(ask, id, prices, openedAt) : readResponseEnd(ask, id))
      return found.kind === 'ended' ? { kind: 'ended', settlement: toSettlement(found.end, id) } : found
    } catch {
      // Asked again when its turn comes.
      return { kind: 'unreachable' }
    }
  }
}

/** Of the results of a batch, which can be hundreds of megabytes. */
const BATCH_TIMEOUT_MS = 600_000
const RESPONSE_TIMEOUT_MS = 30_000

async function readResponseEnd(ask: Ask, responseId: string): Promise<FoundEnd> {
  const { status, body } = await ask(`/responses/${encodeURIComponent(responseId)}`)
  if (status !== 200) {
    await body.dump()
    return { kind: status === 404 ? 'gone' : 'unreachable' }
  }
  const watcher = watchAnswer('responses', 'json')
  for await (const chunk of body) watcher.push(chunk)
  const { end } = watcher
  if (!end || end.ending === 'pending') return { kind: 'pending' }
  return { kind: 'ended', end: { ...end, ending: end.ending } }
}

function toSettlement(end: KnownEnd, responseId: string): Settlement {
  return { ...end, responseId, httpStatus: 200, upstreamRequestId: null, firstByteMs: null }
}
