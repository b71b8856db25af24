import type { SettledUsage } from '../ledger/ledger.ts'
import type { PriceTable, ToolCalls } from '../ledger/pricing.ts'
import { readUsage, type Usage } from '../ledger/usage.ts'
import { sumUsages, toRawUsage } from '../ledger/usage-sum.ts'
import { type AnswerEnd, type Meter, watchAnswer } from './answer-watcher.ts'
import { JsonFields } from './json-fields.ts'

/**
 * What the requests of a batch used, from its file of results: one JSON object on each line, with the answer in `response.body`.
 * Requests of one model and one price are added up, so that their sum costs what they cost one by one.
 */
export async function readBatchResults(
  body: AsyncIterable<Buffer>,
  endpoint: string,
  serviceTier: string,
  prices: PriceTable,
  at: Date,
): Promise<{ modelUsed: string | null; usage: SettledUsage }> {
  const results = new Results(serviceTier, prices, at)
  const meter = METERS[endpoint] ?? 'compact'
  let line = new ResultLine()
  for await (const chunk of body) {
    let from = 0
    for (let lf = chunk.indexOf(LF); lf !== -1; lf = chunk.indexOf(LF, from)) {
      line.push(chunk.subarray(from, lf))
      results.add(line.read(meter))
      line = new ResultLine()
      from = lf + 1
    }
    line.push(chunk.subarray(from))
  }
  results.add(line.read(meter))
  return results.total()
}

const LF = 0x0a

/** How the answers of a batch's requests are metered, by the endpoint that the batch names. */
const METERS: Partial<Record<string, Meter>> = {
  __proto__: null as never,
  '/v1/responses': 'responses',
  '/v1/chat/completions': 'chat',
  '/v1/completions': 'completions',
  '/v1/embeddings': 'embeddings',
  '/v1/moderations': 'moderations',
  '/v1/images/generations': 'images',
  '/v1/images/edits': 'images',
}

/** A request that came to nothing, a line that can not be read, or how an answer ended. */
type Result = 'nothing' | 'unreadable' | AnswerEnd

class ResultLine {
  readonly #json = new JsonFields({
    wanted: ['response.status_code', 'response.body'],
    descend: ['response'],
    captureMax: BODY_BYTES_MAX,
  })
  #isEmpty = true

  push(piece: Buffer): void {
    if (piece.length === 0) return
    if (piece.toString('latin1', 0, 2).trim() !== '') this.#isEmpty = false
    this.#json.push(piece)
  }

  read(meter: Meter): Result {
    if (this.#isEmpty) return 'nothing'
    if (!this.#json.isComplete) return 'unreadable'
    const body = this.#json.fields.get('response.body')
    const status = this.#json.value('response.status_code')
    if (!body || (typeof status === 'number' && status >= 400)) return 'nothing'
    const watcher = watchAnswer(meter, 'json')
    watcher.push(body.raw ?? NOTHING)
    return watcher.end ?? 'unreadable'
  }
}

const NOTHING = Buffer.alloc(0)
/** Answers with images in them are large; of a larger one the usage is unknown, and so the batch's. */
const BODY_BYTES_MAX = 16 * 1024 * 1024

interface Group {
  model: string | null
  serviceTier: string | null
  requests: number
  sum: Usage
}

class Results {
  readonly #serviceTier: string
  readonly #prices: PriceTable
  readonly #at: Date
  readonly #groups = new Map<string, Group>()
  readonly #toolCalls: ToolCalls = { webSearchCalls: 0, fileSearchCalls: 0 }
  #isUnknown = false

  constructor(serviceTier: string, prices: PriceTable, at: Date) {
    this.#serviceTier = serviceTier
    this.#prices = prices
    this.#at = at
  }

  add(result: Result): void {
    if (result === 'nothing' || this.#isUnknown) return
    if (result === 'unreadable' || (result.usage.source !== 'reported' && result.usage.source !== 'none')) {
      this.#isUnknown = true
      return
    }
    if (result.usage.source === 'none') return
    const { raw, parts, toolCalls } = result.usage
    for (const part of parts ?? [{ usage: raw }]) {
      const usage = readUsage(part.usage)
      if (usage) this.#addTo(part.model === undefined ? result.modelUsed : part.model, part.serviceTier, usage)
      else this.#isUnknown = true
    }
    this.#toolCalls.webSearchCalls += toolCalls?.webSearchCalls ?? 0
    this.#toolCalls.fileSearchCalls += toolCalls?.fileSearchCalls ?? 0
  }

  total(): { modelUsed: string | null; usage: SettledUsage } {
    if (this.#isUnknown || this.#groups.size > GROUPS_MAX) return { modelUsed: null, usage: { source: 'unknown' } }
    const groups = [...this.#groups.values()].sort((a, b) => b.requests - a.requests)
    const [first] = groups
    if (!first) return { modelUsed: null, usage: { source: 'none' } }
    const parts = groups.map(({ model, serviceTier, sum }) => ({ model, serviceTier, usage: toRawUsage(sum) }))
    const isOne = groups.length === 1 && first.serviceTier === this.#serviceTier
    const raw = toRawUsage(groups.map(({ sum }) => sum).reduce(sumUsages))
    const usage: SettledUsage = { source: 'reported', raw, toolCalls: this.#toolCalls, ...(isOne ? {} : { parts }) }
    return { modelUsed: first.model, usage }
  }

  #addTo(model: string | null, tier: string | null | undefined, usage: Usage): void {
    const serviceTier = tier === undefined ? this.#serviceTier : tier
    const bands = model === null ? [] : (this.#prices.ratesFor(model, this.#at)?.bands ?? [])
    const band = bands.findLastIndex(({ aboveInputTokens }) => usage.inputTokens > aboveInputTokens)
    const key = JSON.stringify([model, serviceTier, Math.max(0, band)])
    const group = this.#groups.get(key)
    if (group) {
      group.requests += 1
      group.sum = sumUsages(group.sum, usage)
    } else {
      this.#groups.set(key, { model, serviceTier, requests: 1, sum: sumUsages(usage) })
    }
  }
}

/** OpenAI takes one model for each batch. */
const GROUPS_MAX = 20
