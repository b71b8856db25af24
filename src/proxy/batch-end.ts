import type { Ending, SettledUsage } from '../ledger/ledger.ts'
import type { PriceTable } from '../ledger/pricing.ts'
import { readUsage } from '../ledger/usage.ts'
import type { AnswerEnd } from './answer-watcher.ts'
import { readBatchResults } from './batch-results.ts'
import { JsonFields } from './json-fields.ts'
import type { UpstreamAnswer } from './upstream.ts'
import { isRecord, textOf } from './watchers/answer-fields.ts'

export type Ask = (path: string) => Promise<UpstreamAnswer>

export type KnownEnd = AnswerEnd & { ending: Ending }

/** What OpenAI says of work that goes on there. */
export type FoundEnd =
  | { kind: 'ended'; end: KnownEnd }
  | { kind: 'pending' }
  | { kind: 'gone' }
  | { kind: 'unreachable' }

/**
 * How a batch ended and what it used. The sum that OpenAI gives is taken where it tells the price: where no request can have called a
 * tool, nor have been long enough for the price of long context. Everywhere else the results are read, request by request.
 */
export async function readBatchEnd(ask: Ask, batchId: string, prices: PriceTable, openedAt: Date): Promise<FoundEnd> {
  const { status: httpStatus, body } = await ask(`/batches/${encodeURIComponent(batchId)}`)
  if (httpStatus !== 200) {
    await body.dump()
    return { kind: httpStatus === 404 ? 'gone' : 'unreachable' }
  }
  const json = new JsonFields({ wanted: ['status', 'model', 'usage', 'output_file_id', 'endpoint'] })
  for await (const chunk of body) json.push(chunk)
  const status = textOf(json.value('status'))
  const ended = json.isComplete && status !== null ? ENDINGS[status] : undefined
  if (!ended) return { kind: 'pending' }
  const batch: EndedBatch = {
    model: textOf(json.value('model')),
    usage: json.value('usage'),
    outputFileId: textOf(json.value('output_file_id')),
    endpoint: textOf(json.value('endpoint')) ?? '',
  }
  const used = await usageOf(ask, batch, prices, openedAt)
  if (!used) return { kind: 'unreachable' }
  return { kind: 'ended', end: { ...ended, ...used, serviceTier: BATCH_TIER } }
}

const BATCH_TIER = 'batch'

const ENDINGS: Partial<Record<string, { ending: Ending; errorCode: string | null }>> = {
  __proto__: null as never,
  completed: { ending: 'completed', errorCode: null },
  failed: { ending: 'failed', errorCode: 'batch_failed' },
  expired: { ending: 'incomplete', errorCode: 'batch_expired' },
  cancelled: { ending: 'cancelled', errorCode: null },
}

interface EndedBatch {
  model: string | null
  usage: unknown
  outputFileId: string | null
  /** Such as `/v1/embeddings`. */
  endpoint: string
}

type Used = { modelUsed: string | null; usage: SettledUsage }

/** Undefined where it can not be told now, and may be later. */
async function usageOf(ask: Ask, batch: EndedBatch, prices: PriceTable, openedAt: Date): Promise<Used | undefined> {
  const { model, usage: raw, outputFileId, endpoint } = batch
  if (isSumEnough(batch, prices, openedAt)) return { modelUsed: model, usage: { source: 'reported', raw } }
  // Nothing came out: every request failed, or none was begun.
  if (outputFileId === null) {
    return { modelUsed: model, usage: readUsage(raw)?.totalTokens ? withoutPrice(raw) : { source: 'none' } }
  }

  const { status, body } = await ask(`/files/${encodeURIComponent(outputFileId)}/content`)
  if (status === 200) return readBatchResults(body, endpoint, BATCH_TIER, prices, openedAt)
  await body.dump()
  if (status !== 404) return undefined
  return { modelUsed: model, usage: isRecord(raw) ? withoutPrice(raw) : { source: 'unknown' } }
}

function isSumEnough({ model, usage: raw, endpoint }: EndedBatch, prices: PriceTable, openedAt: Date): boolean {
  const usage = readUsage(raw)
  if (!usage) return false
  if (model === null || !WITHOUT_TOOLS.has(endpoint)) return false
  const above = prices.ratesFor(model, openedAt)?.bands[1]?.aboveInputTokens ?? Number.POSITIVE_INFINITY
  return usage.inputTokens <= above
}

const WITHOUT_TOOLS = new Set(['/v1/chat/completions', '/v1/completions', '/v1/embeddings', '/v1/moderations'])

/** So many tokens, but not at which price. */
function withoutPrice(raw: unknown): SettledUsage {
  return { source: 'reported', raw, parts: [{ model: null, usage: raw }] }
}
