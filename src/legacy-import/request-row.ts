import type { ImportedAttempt } from '../ledger/maintenance.ts'
import { readUsage, type Usage } from '../ledger/usage.ts'
import type { LegacyRequest, LegacyUsage } from './source.ts'

/** A request of the earlier system as a row of attempts, and what could not be taken over as it was. */
export function toAttempt(
  legacy: LegacyRequest,
  owner: { organizationId: string; userId: string },
): { row: ImportedAttempt; notes: string[] } {
  const notes: string[] = []
  const request = parseObject(legacy.request_payload)
  const response = parseObject(legacy.response_payload)
  const error = parseObject(legacy.error_message)
  const openedAt = timeOf(legacy.created_at) ?? timeOf(legacy.completed_at) ?? EPOCH
  if (timeOf(legacy.created_at) === undefined) notes.push('it has no time of creation')
  const settledAt = timeOf(legacy.completed_at) ?? openedAt
  const durationMs = settledAt.ms - openedAt.ms
  if (durationMs < 0 || durationMs > DURATION_MS_MAX) {
    notes.push('its end is before its beginning or more than an hour after it: see --source-time-zone')
  }
  const status = statusOf(legacy, response, error)
  if (!KNOWN_STATUSES.has(legacy.status)) notes.push('its status is none of the earlier system: taken for interrupted')
  const used = usageOf(legacy.usage ?? [], response?.usage, notes)
  const isRefusal = status === 'failed' && used === undefined && error !== undefined && !isProxyError(error)
  const usage = isRefusal ? readUsage({ input_tokens: 0, output_tokens: 0 }) : used?.usage
  const cost = isRefusal ? '0' : used === undefined ? null : costOf(legacy.usage ?? [], notes)
  return {
    notes,
    row: {
      organization_id: owner.organizationId,
      attempt_id: legacy.id,
      opened_at: openedAt.text,
      settled_at: durationMs < 0 ? openedAt.text : settledAt.text,
      request_id: legacy.request_id,
      attempt_number: 1,
      endpoint: 'responses.create',
      user_id: owner.userId,
      api_key_id: legacy.api_key_id,
      persona_id: legacy.persona_id,
      // Which text it had at the time is not on record.
      persona_version: null,
      session_id: legacy.session_id,
      model_requested: legacy.model,
      model_used: text(response?.model) ?? (used ? (legacy.usage?.[0]?.model ?? legacy.model) : null),
      service_tier: text(response?.service_tier),
      is_stream: request?.stream === true,
      status,
      http_status: httpStatusOf(status, error),
      error_code: errorCodeOf(legacy, status, error),
      response_id: legacy.response_id,
      upstream_request_id: null,
      usage_source: usage ? 'reported' : 'unknown',
      input_tokens: usage?.inputTokens ?? null,
      cached_tokens: usage?.cachedTokens ?? null,
      cache_write_tokens: usage ? usage.cacheWrite30mTokens + usage.cacheWrite12hTokens : null,
      output_tokens: usage?.outputTokens ?? null,
      reasoning_tokens: usage?.reasoningTokens ?? null,
      total_tokens: usage?.totalTokens ?? null,
      usage: used?.raw ?? null,
      usage_parts: null,
      web_search_calls: 0,
      file_search_calls: 0,
      cost_nano_usd: cost,
      price_version: cost !== null && !isRefusal ? 'legacy' : null,
      first_byte_ms: null,
      duration_ms: Math.min(Math.max(0, durationMs), 2 ** 31 - 1),
    },
  }
}

/** US dollars in decimal digits as nano-dollars, exactly; undefined for what is no amount. */
export function toNanoUsd(dollars: string): bigint | undefined {
  const found = /^(\d{1,9})(?:\.(\d{1,9})0*)?$/.exec(dollars)
  return found ? BigInt(found[1] ?? '0') * 1_000_000_000n + BigInt((found[2] ?? '').padEnd(9, '0')) : undefined
}

const EPOCH = { text: '1970-01-01T00:00:00Z', ms: 0 }
const DURATION_MS_MAX = 3_600_000
const KNOWN_STATUSES = new Set(['pending', 'completed', 'failed'])
const TEXT_MAX = 255

/** The earlier system called a stream completed whatever became of it; its payload and its error know better. */
function statusOf(
  legacy: LegacyRequest,
  response: Record<string, unknown> | undefined,
  error: Record<string, unknown> | undefined,
): string {
  if (legacy.status === 'failed') return isProxyError(error) ? 'upstream_error' : 'failed'
  if (legacy.status !== 'completed') return 'interrupted'
  if (legacy.error_message) return isProxyError(error) ? 'upstream_error' : 'failed'
  const ended = response?.status
  return ended === 'incomplete' || ended === 'failed' || ended === 'cancelled' ? ended : 'completed'
}

function isProxyError(error: Record<string, unknown> | undefined): boolean {
  return error?.type === 'proxy_error' || /^HTTP_5/.test(String(error?.code))
}

function httpStatusOf(status: string, error: Record<string, unknown> | undefined): number | null {
  if (status === 'completed' || status === 'incomplete') return 200
  const found = /^HTTP_(\d{3})$/.exec(String(error?.code))?.[1]
  return found === undefined ? null : Number(found)
}

function errorCodeOf(legacy: LegacyRequest, status: string, error: Record<string, unknown> | undefined): string | null {
  if (status === 'interrupted') return legacy.status === 'pending' ? 'legacy_pending' : 'legacy_status'
  if (!legacy.error_message) return null
  return text(error?.code) ?? text(error?.type) ?? 'legacy_error'
}

/** The object that OpenAI sent, if it says what was recorded; else one made of what was recorded, so that it can be priced again. */
function usageOf(
  logs: readonly LegacyUsage[],
  sent: unknown,
  notes: string[],
): { usage: Usage; raw: unknown } | undefined {
  const sentUsage = readUsage(sent)
  if (logs.length === 0) return sentUsage && isStorable(sent) ? { usage: sentUsage, raw: sent } : undefined
  if (logs.length > 1) notes.push('its usage was recorded several times: added up, as the earlier system did')
  const raw = {
    input_tokens: sum(logs, 'input_tokens'),
    output_tokens: sum(logs, 'output_tokens'),
    output_tokens_details: { reasoning_tokens: Math.max(0, sum(logs, 'reasoning_tokens')) },
  }
  const usage = readUsage(raw)
  if (!usage) {
    notes.push('its tokens are no counts: taken for unknown')
    return undefined
  }
  const isSame = sentUsage?.inputTokens === usage.inputTokens && sentUsage.outputTokens === usage.outputTokens
  return isSame && isStorable(sent) ? { usage: sentUsage, raw: sent } : { usage, raw }
}

/** What Postgres keeps as jsonb: no NUL, no half of a pair. */
function isStorable(value: unknown): boolean {
  return !/\\u(?:0000|d[89a-f])/i.test(JSON.stringify(value))
}

function costOf(logs: readonly LegacyUsage[], notes: string[]): string | null {
  const costs = logs.flatMap(({ cost_usd }) => (cost_usd === null ? [] : [toNanoUsd(cost_usd)]))
  if (costs.length === 0) return null
  if (costs.includes(undefined)) {
    notes.push('its cost is no amount: taken for unpriced')
    return null
  }
  return String(costs.reduce<bigint>((total, cost) => total + (cost ?? 0n), 0n))
}

function sum(logs: readonly LegacyUsage[], column: 'input_tokens' | 'output_tokens' | 'reasoning_tokens'): number {
  return logs.reduce((total, log) => total + (log[column] ?? 0), 0)
}

function timeOf(value: string | null): { text: string; ms: number } | undefined {
  const ms = value === null ? Number.NaN : Date.parse(value)
  return value === null || Number.isNaN(ms) ? undefined : { text: value, ms }
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value.replaceAll('\0', '').toWellFormed().slice(0, TEXT_MAX) : null
}

function parseObject(json: string | null): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json ?? '')
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}
