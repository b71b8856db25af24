import { measureInput, NO_INPUT } from '../ledger/estimate.ts'
import type { SettledUsage } from '../ledger/ledger.ts'
import type { PriceTable } from '../ledger/pricing.ts'
import type { Meter } from './answer-watcher.ts'
import type { MeteredCall } from './calls.ts'
import type { Endpoint } from './endpoints.ts'
import type { Payload } from './payload.ts'

/** What a body in JSON tells of what its call will use. */
export function measured(
  { name, meter }: Endpoint,
  payload: Payload,
  /** As OpenAI gets it. */
  sent: Buffer,
  prices: PriceTable,
): Pick<MeteredCall, 'input' | 'usageByRequest'> {
  if (FREE.has(meter)) return { input: NO_INPUT, usageByRequest: undefined }
  if (UNTOLD.has(meter)) {
    return { input: undefined, usageByRequest: name === 'audio.speech' ? charactersOf(payload, prices) : undefined }
  }
  return { input: measureInput(sent), usageByRequest: undefined }
}

/** Their calls cost nothing, also when nobody learns how they ended. */
const FREE: ReadonlySet<Meter> = new Set(['moderations', 'input_tokens'])
/** Their tokens are not those of the body's text. */
const UNTOLD: ReadonlySet<Meter> = new Set(['images', 'audio', 'batch'])

/** The older voices are billed by the text that they speak: by character, not by byte or by half of a pair. */
function charactersOf({ bytes, fields, model }: Payload, prices: PriceTable): SettledUsage | undefined {
  const rates = model === null ? undefined : prices.ratesFor(model, new Date())
  const input = fields.get('input')
  if (rates?.bands[0]?.usdPerMillionCharacters === undefined || !input) return undefined
  const text = parseText(bytes.toString('utf8', input.start, input.end))
  return text === undefined
    ? undefined
    : { source: 'reported', raw: { type: 'characters', characters: [...text].length } }
}

function parseText(json: string): string | undefined {
  try {
    const text: unknown = JSON.parse(json)
    return typeof text === 'string' ? text : undefined
  } catch {
    return undefined
  }
}
