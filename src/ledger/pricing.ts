import { divideHalfUp, formatDecimal } from './money.ts'
import {
  findRates,
  loadPriceData,
  MODEL_NAME_LENGTH_MAX,
  type ModelRates,
  type PriceData,
  type PriceOverlay,
  type Rates,
  type Ratio,
  withoutDate,
} from './price-table.ts'
import { isCoherent, type Usage } from './usage.ts'

export type PricedCost =
  | { kind: 'priced'; costNanoUsd: bigint; priceVersion: string }
  /** `reason` is a sentence for the operator. */
  | { kind: 'unpriced'; reason: string }

/** Calls of tools that OpenAI bills by the call. */
export interface ToolCalls {
  webSearchCalls: number
  fileSearchCalls: number
}

/** Tokens of one model in one service tier. */
export interface PricedUsage {
  /** `model` of the response, not of the request. */
  model: string | null | undefined
  /** `service_tier` of the response, not of the request. */
  serviceTier: string | null | undefined
  usage: Usage | undefined
}

/** What one attempt was answered with. */
export interface Answer extends PricedUsage {
  /** When given, the tokens are these, and those above only say how many there were. */
  parts?: readonly PricedUsage[] | undefined
  tools?: ToolCalls | undefined
  at: Date
}

/** A model's prices, for people: US dollars per million tokens as exact decimals. */
export interface PriceList {
  model: string
  source: ModelRates['source']
  /** First day of these prices, or undefined where they have always held. */
  since: string | undefined
  priceVersion: string
  /** Prices of requests with more input tokens than `aboveInputTokens`; 0 is every other request. */
  bands: {
    aboveInputTokens: number
    usdPerMillion: Partial<Record<keyof Rates, string>>
    usdPerAudioHour?: string
    usdPerMillionCharacters?: string
  }[]
}

export interface PriceTable {
  price(answer: Answer): PricedCost
  ratesFor(model: string, at: Date): PriceList | undefined
}

const DAY_MS = 86_400_000
/** Rates that are kept for the next request of the same model and day; beyond it all are dropped. */
const REMEMBERED_MAX = 2_000

/**
 * The prices of OpenAI's models: the base data of `@pydantic/genai-prices`, the overlay shipped beside this file for what that
 * lacks, and the operator's own overlay over both. Nothing is fetched.
 *
 * A price is of the model and the service tier that answered. Every input token is billed once, as uncached, read from the cache or
 * written to it; reasoning is part of the output. All of it is integer arithmetic, and each answer is rounded once, half up,
 * to the nano-dollar. Tool calls cost the same in every tier. What is not known for sure is `unpriced`, never 0 and
 * never a guess: a model or tier without a price, audio without a rate for audio, time-billed audio without its length.
 *
 * Where long context begins is the base data's word for each model: with token 272,000 for gpt-5.4 to gpt-5.6 and
 * gpt-6-astra, after it for gpt-6-sol and gpt-6-luna.
 *
 * @see https://developers.openai.com/api/docs/pricing
 */
export function openPriceTable({ overlay }: { overlay?: PriceOverlay | undefined } = {}): PriceTable {
  const data = loadPriceData(overlay)
  const remembered = new Map<string, Remembered | undefined>()

  function lookUp(model: string, at: Date): Remembered | undefined {
    if (model.length > MODEL_NAME_LENGTH_MAX) return undefined
    // The day leads: a long name must not be able to look like another day of a shorter one.
    const key = `${Math.floor(at.getTime() / DAY_MS)} ${model}`
    const known = remembered.get(key)
    if (known !== undefined || remembered.has(key)) return known
    const rates = findRates(data, model, at)
    const found = rates && { ...rates, version: rates.since ? `${data.version}/${rates.since}` : data.version }
    if (remembered.size >= REMEMBERED_MAX) remembered.clear()
    remembered.set(key, found)
    return found
  }

  const lists = new WeakMap<Remembered, PriceList>()

  /** Femto-dollars as an exact fraction, or the reason why they are not known. */
  function pricePart({ model, serviceTier, usage }: PricedUsage, at: Date) {
    if (!model) return 'The answer names no model.'
    const rates = lookUp(model, at)
    if (!rates) return `No price is known for the model ${quote(model)}.`
    const multiplier = findMultiplier(data, serviceTier, rates.model)
    if (!multiplier) return `No price is known for the service tier ${quote(String(serviceTier))}.`
    const tokens = answerFemtoUsdSeconds(rates, usage)
    if (typeof tokens === 'string') return tokens
    const femtoUsd = { times: tokens * multiplier.times, over: SECONDS_PER_HOUR * multiplier.over }
    return { femtoUsd, version: rates.version }
  }

  return {
    price: (answer) => {
      const tools = toolsFemtoUsd(answer.tools, data)
      if (tools === undefined) return unpriced('The number of tool calls is not a count.')
      let sum = { times: tools, over: 1n }
      const versions = new Set<string>()
      for (const part of answer.parts ?? [answer]) {
        const priced = pricePart(part, answer.at)
        if (typeof priced === 'string') return unpriced(priced)
        sum = addRatios(sum, priced.femtoUsd)
        versions.add(priced.version)
      }
      const costNanoUsd = divideHalfUp(sum.times, sum.over * FEMTO_PER_NANO)
      if (costNanoUsd > COST_NANO_USD_MAX) return unpriced('The cost is more than the ledger can hold.')
      return { kind: 'priced', costNanoUsd, priceVersion: [...versions].join(' ') }
    },
    ratesFor: (model, at) => {
      const rates = lookUp(model, at)
      if (!rates) return undefined
      const known = lists.get(rates)
      if (known) return known
      const list = toPriceList(rates)
      lists.set(rates, list)
      return list
    },
  }
}

type Remembered = ModelRates & { version: string }

/** What the token prices are multiplied by; undefined for a tier whose price is not known. No tier is the default one. */
function findMultiplier(data: PriceData, serviceTier: string | null | undefined, model: string): Ratio | undefined {
  const byModel = data.serviceTiers.get(serviceTier || 'default')
  return byModel?.get(model) ?? byModel?.get(withoutDate(model)) ?? byModel?.get('default')
}

/** What is left over is divided out once, at the end. */
function addRatios(a: Ratio, b: Ratio): Ratio {
  if (a.over === b.over) return { times: a.times + b.times, over: a.over }
  return { times: a.times * b.over + b.times * a.over, over: a.over * b.over }
}

const SECONDS_PER_HOUR = 3600n
const FEMTO_PER_NANO = 1_000_000n
/** A `bigint` of Postgres: one impossible row must not stop all that are shipped with it. */
const COST_NANO_USD_MAX = 2n ** 63n - 1n

/** Femto-dollars times 3,600, or the reason why that is not known. */
function answerFemtoUsdSeconds({ model, bands }: ModelRates, usage: Usage | undefined): bigint | string {
  if (!usage) return isFree(bands) ? 0n : 'The usage is unknown.'
  if (!isCoherent(usage)) return 'The usage contradicts itself.'
  const requestTokens = usage.largestInputTokens ?? usage.inputTokens
  const rates = (bands.findLast(({ above }) => requestTokens > above) ?? bands[0])?.rates
  if (!rates) return `The model ${quote(model)} has no rates.`
  if (rates.audioHour !== undefined) {
    if (usage.seconds === undefined) return `The model ${quote(model)} is billed by time, and the length is unknown.`
    return BigInt(usage.seconds) * rates.audioHour
  }
  if (rates.character !== undefined) {
    if (usage.characters === undefined) return `The model ${quote(model)} is billed by characters, which are unknown.`
    return BigInt(usage.characters) * rates.character * SECONDS_PER_HOUR
  }
  if (usage.characters !== undefined) return `The model ${quote(model)} is billed by tokens, which are unknown.`
  if (usage.seconds !== undefined && usage.inputTokens + usage.outputTokens === 0) {
    return `The model ${quote(model)} is billed by tokens, and only the length is known.`
  }
  const femtoUsd = tokensFemtoUsd(rates, usage)
  return femtoUsd === undefined
    ? `The model ${quote(model)} has no rate for some of what it used.`
    : femtoUsd * SECONDS_PER_HOUR
}

function tokensFemtoUsd(rates: Rates, usage: Usage): bigint | undefined {
  const written = usage.cacheWrite30mTokens + usage.cacheWrite12hTokens
  const cachedText = usage.cachedTokens - usage.cachedAudioTokens - usage.cachedImageTokens
  const audio = usage.inputAudioTokens - usage.cachedAudioTokens
  const image = usage.inputImageTokens - usage.cachedImageTokens
  const text = usage.inputTokens - usage.cachedTokens - written - audio - image
  // Which tokens were written to the cache is not said: they are text as far as it goes, then images, which few models price apart.
  const plainText = Math.max(0, text)
  const plainImage = image + Math.min(0, text)
  if (plainImage < 0) return undefined
  let sum = 0n
  for (const [count, rate] of [
    [plainText, rates.input],
    [cachedText, rates.cacheRead],
    [usage.cacheWrite30mTokens, rates.cacheWrite30m],
    [usage.cacheWrite12hTokens, rates.cacheWrite12h],
    [audio, rates.inputAudio],
    [usage.cachedAudioTokens, rates.cacheAudioRead],
    [plainImage, rates.inputImage],
    [usage.cachedImageTokens, rates.cacheImageRead],
    [usage.outputTokens - usage.outputAudioTokens - usage.outputImageTokens, rates.output],
    [usage.outputAudioTokens, rates.outputAudio],
    [usage.outputImageTokens, rates.outputImage],
  ] as const) {
    if (count === 0) continue
    if (rate === undefined) return undefined
    sum += BigInt(count) * rate
  }
  return sum
}

function toolsFemtoUsd(tools: ToolCalls | undefined, data: PriceData): bigint | undefined {
  if (!tools) return 0n
  if (![tools.webSearchCalls, tools.fileSearchCalls].every((calls) => Number.isSafeInteger(calls) && calls >= 0))
    return undefined
  return BigInt(tools.webSearchCalls) * data.webSearch + BigInt(tools.fileSearchCalls) * data.fileSearch
}

/** Moderations cost nothing and report nothing. A model without any rate is not free. */
function isFree(bands: ModelRates['bands']): boolean {
  return bands.every(
    ({ rates }) => rates.input === 0n && Object.values(rates).every((rate) => rate === undefined || rate === 0n),
  )
}

function toPriceList({ model, source, since, bands, version }: Remembered): PriceList {
  return {
    model,
    source,
    since,
    priceVersion: version,
    bands: bands.map(({ above, rates: { audioHour, character, ...perToken } }) => ({
      aboveInputTokens: Math.max(0, above),
      usdPerMillion: Object.fromEntries(
        Object.entries(perToken).flatMap(([name, rate]) => (rate === undefined ? [] : [[name, toUsdPerMillion(rate)]])),
      ),
      ...(audioHour === undefined ? {} : { usdPerAudioHour: formatDecimal(audioHour, 15, 2) }),
      ...(character === undefined ? {} : { usdPerMillionCharacters: toUsdPerMillion(character) }),
    })),
  }
}

/** Femto-dollars per token are 10^-9 dollars per million. */
function toUsdPerMillion(femtoUsd: bigint): string {
  return formatDecimal(femtoUsd, 9, 2)
}

function unpriced(reason: string): PricedCost {
  return { kind: 'unpriced', reason }
}

/** A name from outside, kept short and on one line. */
function quote(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name)
}
