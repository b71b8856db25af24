import { createHash } from 'node:crypto'
import { calcPrice, type MatchLogic, type ModelInfo, type ModelPrice } from '@pydantic/genai-prices'
import { z } from 'zod'
import shippedJson from './prices-2026-11.json' with { type: 'json' }

/** The version of the base data; a test compares it with what is installed. */
const BASE_DATA = 'genai-prices@0.1.8'
/** Longer than any name OpenAI gives, fine-tuned ones included. */
export const MODEL_NAME_LENGTH_MAX = 256

const PRICE_KEYS = [
  'input_mtok',
  'cache_read_mtok',
  'cache_write_30m_mtok',
  'cache_write_12h_mtok',
  'output_mtok',
  'input_audio_mtok',
  'cache_audio_read_mtok',
  'output_audio_mtok',
  'input_image_mtok',
  'cache_image_read_mtok',
  'output_image_mtok',
  'audio_hours',
  'input_mchars',
] as const

type PriceKey = (typeof PRICE_KEYS)[number]

const usd = z
  .number({ error: 'must be a number of US dollars' })
  .min(0, 'must not be negative')
  .max(1_000_000, 'must be at most 1000000 dollars')
  .refine((value) => isDecimal(value, 6), 'must have at most 6 decimals')

const multiplier = z
  .number({ error: 'must be a number' })
  .min(0, 'must not be negative')
  .max(100, 'must be at most 100')
  .refine((value) => isDecimal(value, 3), 'must have at most 3 decimals')

/** A multiplier as a fraction, for prices that no decimal leads to: $0.15 times 5/3 is $0.25. */
const fraction = z.string().regex(/^[1-9]\d{0,3}\/[1-9]\d{0,3}$/)
const tierMultiplier = z.union([multiplier, fraction], { error: 'must be a number or a fraction such as "5/3"' })

const tieredPrice = z.preprocess(
  (value) => (typeof value === 'number' ? { base: value, tiers: [] } : value),
  z.strictObject(
    {
      base: usd,
      /** More than `start` input tokens reprice the whole request. */
      tiers: z
        .array(
          z.strictObject(
            { start: z.int('must be a whole number of tokens').min(0, 'must not be negative'), price: usd },
            { error: 'must be an object with "start" and "price"' },
          ),
          { error: 'must be a list of tiers' },
        )
        .default([]),
    },
    { error: 'must be a number of US dollars, or an object with "base" and "tiers"' },
  ),
)

const datedPrices = z.strictObject(
  {
    from: z.iso.date('must be a date such as 2026-11-01').optional(),
    ...(Object.fromEntries(PRICE_KEYS.map((key) => [key, tieredPrice.optional()])) as Record<
      PriceKey,
      z.ZodOptional<typeof tieredPrice>
    >),
  },
  { error: 'must be an object of prices' },
)

/**
 * An operator's prices, which win over the shipped ones, which win over the base data. Prices are US dollars per million tokens
 * (`audio_hours`: per hour, `input_mchars`: per million characters), by the names of the base data; a model's entry replaces all of that model's prices from its `from`
 * (UTC midnight) on. A name stands for its dated snapshots, unless the base data prices a snapshot apart from its model, and
 * `ft:<model>` for every fine-tuned model made from it.
 */
export const priceOverlaySchema = z.strictObject(
  {
    version: z.string('must be text').max(100, 'must be at most 100 characters').optional(),
    models: z
      .record(
        z.string().min(1).max(MODEL_NAME_LENGTH_MAX),
        z.preprocess(
          (value) => (Array.isArray(value) ? value : [value]),
          z
            .array(datedPrices)
            .min(1, 'must have at least one entry')
            .refine(
              (entries) => new Set(entries.map(({ from }) => from)).size === entries.length,
              'must have one entry for each "from"',
            ),
        ),
        { error: 'must be an object of models' },
      )
      .default({}),
    /** Service tier that answered -> what multiplies the token prices, by model. A tier given here replaces the whole shipped one. */
    service_tiers: z
      .record(z.string(), z.record(z.string(), tierMultiplier, { error: 'must be an object of multipliers' }), {
        error: 'must be an object of service tiers',
      })
      .refine(
        (tiers) => Object.values(tiers).every((tier) => tier.default !== undefined),
        'must have a "default" for each tier',
      )
      .default({}),
    /** For models from gpt-5.6 on that have no price for cache writes of their own. */
    cache_write_over_input: z
      .strictObject({ '30m': multiplier.optional(), '12h': multiplier.optional() }, { error: 'must be an object' })
      .default({}),
    tools_per_1k: z
      .strictObject({ web_search: usd.optional(), file_search: usd.optional() }, { error: 'must be an object' })
      .default({}),
  },
  { error: 'must be an object' },
)

export type PriceOverlay = z.output<typeof priceOverlaySchema>
type DatedPrices = z.output<typeof datedPrices>
type Prices = Partial<Record<PriceKey, { base: number; tiers: { start: number; price: number }[] }>>

/** All problems of a price overlay at once; each a sentence that names the place. */
export class PriceOverlayError extends Error {
  readonly problems: string[]

  constructor(problems: string[]) {
    super(
      `The price overlay has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map((p) => `  - ${p}`).join('\n')}`,
    )
    this.name = 'PriceOverlayError'
    this.problems = problems
  }
}

/** Throws `PriceOverlayError` for what is not an overlay. */
export function parsePriceOverlay(raw: unknown): PriceOverlay {
  const parsed = priceOverlaySchema.safeParse(raw)
  if (parsed.success) return parsed.data
  throw new PriceOverlayError(parsed.error.issues.flatMap(toProblems))
}

function toProblems(issue: z.core.$ZodIssue): string[] {
  const path = issue.path.map(String).reduce((before, key) => {
    if (/^\d+$/.test(key)) return `${before}[${key}]`
    if (!/^\w+$/.test(key)) return `${before}[${JSON.stringify(key)}]`
    return before ? `${before}.${key}` : key
  }, '')
  const place = path ? `${path} of the price overlay` : 'The price overlay'
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => `${place} has the unknown key ${JSON.stringify(key)}.`)
  if (issue.code === 'invalid_key') return [`${place} must have a name of 1 to ${MODEL_NAME_LENGTH_MAX} characters.`]
  return [`${place} ${issue.message}.`]
}

/**
 * Rates in femto-dollars (10^-15) per token, 1,000 times the micro-dollars per million tokens that a price may be exact to: so
 * that a multiplier of three decimals keeps them whole. `audioHour` is femto-dollars per hour, `character` per character.
 * Undefined: no such rate is known.
 */
export interface Rates {
  input: bigint | undefined
  cacheRead: bigint | undefined
  cacheWrite30m: bigint | undefined
  cacheWrite12h: bigint | undefined
  output: bigint | undefined
  inputAudio: bigint | undefined
  cacheAudioRead: bigint | undefined
  outputAudio: bigint | undefined
  inputImage: bigint | undefined
  cacheImageRead: bigint | undefined
  outputImage: bigint | undefined
  audioHour: bigint | undefined
  character: bigint | undefined
}

/** The rates of one model on one day. */
export interface ModelRates {
  /** As the table names it: `gpt-5.5` for `gpt-5.5-2026-04-23`. */
  model: string
  source: 'base' | 'shipped' | 'operator'
  /** First day of these rates, or undefined where they have always held. */
  since: string | undefined
  /** The last one whose `above` is less than the input tokens holds, for the whole request; the first always does. */
  bands: { above: number; rates: Rates }[]
}

export interface Ratio {
  times: bigint
  over: bigint
}

/** Everything that decides a price, merged once: the operator's overlay over the shipped one, over the base data. */
export interface PriceData {
  version: string
  layers: { source: 'shipped' | 'operator'; models: Map<string, DatedPrices[]> }[]
  /** By tier and then by model or `default`. */
  serviceTiers: Map<string, Map<string, Ratio>>
  /** Thousandths of the input rate. */
  cacheWriteOverInput: { '30m': bigint; '12h': bigint }
  /** Femto-dollars per call. */
  webSearch: bigint
  fileSearch: bigint
}

export function loadPriceData(operator: PriceOverlay | undefined): PriceData {
  const shipped = parsePriceOverlay(shippedJson)
  const tools = { ...shipped.tools_per_1k, ...operator?.tools_per_1k }
  const writes = { ...shipped.cache_write_over_input, ...operator?.cache_write_over_input }
  const tiers = { ...shipped.service_tiers, ...operator?.service_tiers }
  const digest = createHash('sha256')
    .update(canonical([shipped, operator ?? null]))
    .digest('hex')
    .slice(0, 8)
  return {
    version: `${BASE_DATA}+${shipped.version}#${digest}`,
    layers: [
      ...(operator ? [{ source: 'operator' as const, models: byDate(operator) }] : []),
      { source: 'shipped' as const, models: byDate(shipped) },
    ],
    serviceTiers: new Map(
      Object.entries(tiers).map(([tier, byModel]) => [
        tier,
        new Map(Object.entries(byModel).map(([model, value]) => [model, toRatio(value)])),
      ]),
    ),
    cacheWriteOverInput: { '30m': toThousandths(writes['30m'] ?? 1), '12h': toThousandths(writes['12h'] ?? 1) },
    webSearch: toFemtoUsd(tools.web_search ?? 0) * 1000n,
    fileSearch: toFemtoUsd(tools.file_search ?? 0) * 1000n,
  }
}

/**
 * The rates that hold for `model` at `at`, or undefined where none are known. Names are matched exactly, never by likeness:
 * first as given, then, for `-YYYY-MM-DD`, without the date; the base data's own patterns count only where they name the
 * model (see `isNamed`).
 */
export function findRates(data: PriceData, model: string, at: Date): ModelRates | undefined {
  if (model.length === 0 || model.length > MODEL_NAME_LENGTH_MAX || Number.isNaN(at.getTime())) return undefined
  const base = findBase(model, at)
  const names = base?.model === model ? [model] : [model, withoutDate(model), fineTunedFrom(model)]
  const day = at.toISOString().slice(0, 10)
  for (const { source, models } of data.layers) {
    for (const name of names) {
      const entry = models.get(name)?.find(({ from }) => from === undefined || from <= day)
      if (entry) {
        const { from, ...prices } = entry
        return { model: name, source, since: from, bands: toBands(prices as Prices, name, data) }
      }
    }
  }
  return base && { model: base.model, source: 'base', since: base.since, bands: toBands(base.prices, base.model, data) }
}

export function withoutDate(model: string): string {
  return model.replace(/-\d{4}-\d{2}-\d{2}$/, '')
}

/** `ft:gpt-4o-mini-2024-07-18` for `ft:gpt-4o-mini-2024-07-18:organization::id`. */
function fineTunedFrom(model: string): string {
  return model.startsWith('ft:') ? model.split(':', 2).join(':') : model
}

function findBase(name: string, at: Date): { model: string; since: string | undefined; prices: Prices } | undefined {
  const found = calcPrice({}, name, { providerId: 'openai', timestamp: at })
  if (!found || !isNamed(found.model, name)) return undefined
  const prices = fromBase(found.model_price)
  if (Object.keys(prices).length === 0) return undefined
  const dated = Array.isArray(found.model.prices)
    ? found.model.prices.find((entry) => entry.prices === found.model_price)?.constraint
    : undefined
  return { model: found.model.id, since: dated?.type === 'start_date' ? dated.start_date : undefined, prices }
}

/**
 * Whether the base data means this very model. Its `equals` and its regular expressions (all of them `^name-date$`) do: an editor
 * wrote that name down, be it `gpt-5.3-chat-latest` under `gpt-5.3` or `gpt-realtime-2.1` under `gpt-realtime-2`, whose source
 * is the page of 2.1. Its `starts_with` and `contains` also catch models nobody has looked at, so they count only for
 * the entry's own id and that id's dated snapshots. Fine-tuned models are never taken from the base data.
 */
function isNamed(model: ModelInfo, name: string): boolean {
  if (name.startsWith('ft:')) return false
  return name === model.id || withoutDate(name) === model.id || spells(model.match, name)
}

function spells(match: MatchLogic, name: string): boolean {
  if ('or' in match) return match.or.some((part) => spells(part, name))
  if ('equals' in match) return match.equals === name
  return 'regex' in match && /^\^.*\$$/.test(match.regex) && new RegExp(match.regex).test(name)
}

function fromBase(price: ModelPrice): Prices {
  const prices: Prices = {}
  for (const key of PRICE_KEYS) {
    if (key === 'input_mchars') continue
    const value = price[key === 'cache_write_30m_mtok' ? 'cache_write_mtok' : key]
    if (value !== undefined) prices[key] = typeof value === 'number' ? { base: value, tiers: [] } : value
  }
  return prices
}

function toBands(prices: Prices, model: string, data: PriceData): ModelRates['bands'] {
  const starts = Object.values(prices).flatMap((price) => price.tiers.map(({ start }) => start))
  return [-1, ...new Set(starts.sort((a, b) => a - b))].map((above) => ({
    above,
    rates: toRates(
      (key) => priceAbove(prices[key], above),
      chargesCacheWrites(model) ? data.cacheWriteOverInput : undefined,
    ),
  }))
}

function priceAbove(price: Prices[PriceKey], above: number): bigint | undefined {
  if (!price) return undefined
  const tier = price.tiers.filter(({ start }) => start <= above).sort((a, b) => b.start - a.start)[0]
  return toFemtoUsd(tier?.price ?? price.base)
}

/**
 * What a rate falls back to when the data has none: a cached token costs what an uncached one does; a cache write what the model's
 * generation charges for it; an image token what a text token does, as for every model that only sees. Audio falls back
 * to nothing, because it costs some ten times the text.
 */
function toRates(
  rate: (key: PriceKey) => bigint | undefined,
  writes: PriceData['cacheWriteOverInput'] | undefined,
): Rates {
  const input = rate('input_mtok')
  const write = (key: PriceKey, thousandths: bigint | undefined) =>
    rate(key) ?? (input === undefined ? undefined : (input * (thousandths ?? 1000n)) / 1000n)
  const cacheRead = rate('cache_read_mtok') ?? input
  const inputAudio = rate('input_audio_mtok')
  const inputImage = rate('input_image_mtok')
  // The price of one hour, not of a million.
  const audioHours = rate('audio_hours')
  return {
    input,
    cacheRead,
    cacheWrite30m: write('cache_write_30m_mtok', writes?.['30m']),
    cacheWrite12h: write('cache_write_12h_mtok', writes?.['12h']),
    output: rate('output_mtok'),
    inputAudio,
    cacheAudioRead: rate('cache_audio_read_mtok') ?? inputAudio,
    outputAudio: rate('output_audio_mtok'),
    inputImage: inputImage ?? input,
    cacheImageRead: rate('cache_image_read_mtok') ?? inputImage ?? cacheRead,
    outputImage: rate('output_image_mtok') ?? rate('output_mtok'),
    audioHour: audioHours === undefined ? undefined : audioHours * 1_000_000n,
    character: rate('input_mchars'),
  }
}

/** From gpt-5.6 on a cache write has a price; before, it was an input token like any other. */
function chargesCacheWrites(model: string): boolean {
  const [, major, minor] = /^(?:ft:)?gpt-(\d{1,3})(?:\.(\d{1,3}))?(?:-|$)/.exec(model) ?? []
  return Number(major) > 5 || (Number(major) === 5 && Number(minor ?? 0) >= 6)
}

/** Latest first. A `Map`, because names come from outside and `constructor` is one of them. */
function byDate(overlay: PriceOverlay): Map<string, DatedPrices[]> {
  return new Map(
    Object.entries(overlay.models).map(([model, entries]) => [
      model,
      entries.toSorted((a, b) => (b.from ?? '').localeCompare(a.from ?? '')),
    ]),
  )
}

function toFemtoUsd(usdPerMillion: number): bigint {
  if (!isDecimal(usdPerMillion, 6))
    throw new RangeError(`A price of ${usdPerMillion} dollars has more than 6 decimals.`)
  return BigInt(Math.round(usdPerMillion * 1e6)) * 1000n
}

function toRatio(value: number | string): Ratio {
  if (typeof value === 'number') return { times: toThousandths(value), over: 1000n }
  const [times = '1', over = '1'] = value.split('/')
  return { times: BigInt(times), over: BigInt(over) }
}

function toThousandths(value: number): bigint {
  return BigInt(Math.round(value * 1000))
}

/** Whether the number is the nearest one to a decimal with so few places, so that scaling and rounding it loses nothing. */
function isDecimal(value: number, places: number): boolean {
  const scale = 10 ** places
  const scaled = Math.round(value * scale)
  return Number.isSafeInteger(scaled) && scaled / scale === value
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}
