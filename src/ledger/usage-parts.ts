import type { PricedUsage } from './pricing.ts'
import { readUsage } from './usage.ts'

/** A part of what an answer used that has a price of its own. All parts together are what the answer costs. */
export interface UsagePart {
  /** Absent: the model that answered; null: nobody knows. */
  model?: string | null
  /** Absent: the tier that answered. */
  serviceTier?: string | null
  /** As OpenAI sent it. */
  usage: unknown
}

/** A part as its row keeps it, so that it can be priced again. */
export interface StoredPart {
  model: string | null
  service_tier: string | null
  usage: unknown
}

export function readPart({ model, service_tier, usage }: StoredPart): PricedUsage {
  return { model, serviceTier: service_tier, usage: readUsage(usage) }
}
