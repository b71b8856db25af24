import type { Satisfaction } from '../ratings/satisfaction.ts'
import type { Period } from './period.ts'
import type { Dimension, SeriesPoint } from './series.ts'
import type { PersonaReport } from './service.ts'
import type { PersonaUsageRow, SessionRow, Totals, UserUsageRow } from './store.ts'
import { type Counters, NOBODY } from './usage-store.ts'

export function toWirePeriod({ start, end, timeZone }: Period) {
  return { period_start: start.toISOString(), period_end: end.toISOString(), tz: timeZone }
}

export function toWireTotals(totals: Totals) {
  return {
    total_requests: Number(totals.all_requests),
    ...toCost({
      request_count: totals.all_requests,
      unpriced_count: totals.all_unpriced,
      cost_nano_usd: totals.all_cost_nano_usd,
    }),
    unpriced_requests: Number(totals.all_unpriced),
  }
}

export function toWireUser(row: UserUsageRow & { models: string[] }) {
  return {
    user_id: row.external_id,
    internal_user_id: orNull(row.user_id),
    ...toStats(row),
    last_request_at: row.last_request_at?.toISOString() ?? null,
    models_used: row.models,
  }
}

export function toWirePersona(row: PersonaUsageRow) {
  return {
    persona_id: row.persona_id,
    name: row.name,
    description: row.description,
    user_id: row.restricted_to,
    ...toStats(row),
    last_used_at: row.last_request_at?.toISOString() ?? null,
    models_used: row.models,
    is_active: row.is_active,
  }
}

export function toWireSession(row: SessionRow) {
  const seconds = (row.last_request_at.getTime() - row.started_at.getTime()) / 1000
  return {
    session_id: row.session_id,
    user_id: row.external_id,
    started_at: row.started_at.toISOString(),
    ended_at: row.is_active ? null : row.last_request_at.toISOString(),
    duration_minutes: row.is_active ? null : toMinutes(seconds),
    request_count: Number(row.request_count),
    total_tokens: Number(row.input_tokens + row.output_tokens),
    ...toCost(row),
    unpriced_count: Number(row.unpriced_count),
    models_used: row.models,
    is_active: row.is_active,
  }
}

export function toMinutes(seconds: number): number {
  return Math.round(seconds / 0.6) / 100
}

export function toWirePersonaReport(report: PersonaReport) {
  const { persona, days, models, users } = report
  return {
    persona: persona ? toWirePersona(persona) : null,
    daily_usage: days.map((day) => {
      const {
        request_count,
        success_count,
        failure_count,
        total_tokens,
        total_cost,
        total_cost_nano_usd,
        unpriced_count,
      } = toStats(day)
      return {
        date: day.label ?? '',
        ...{
          request_count,
          success_count,
          failure_count,
          total_tokens,
          total_cost,
          total_cost_nano_usd,
          unpriced_count,
        },
      }
    }),
    request_count_by_model: Object.fromEntries(models.map((model) => [model.key, Number(model.request_count)])),
    request_count_by_status: {
      completed: Number(persona?.success_count ?? 0n),
      failed: Number(persona?.failure_count ?? 0n),
      other: persona ? Number(persona.request_count - persona.success_count - persona.failure_count) : 0,
    },
    token_usage_by_model: Object.fromEntries(
      models.map((model) => {
        const { input_tokens, output_tokens, total_tokens, total_cost, total_cost_nano_usd, unpriced_count } =
          toStats(model)
        return [
          model.key,
          { input_tokens, output_tokens, total_tokens, total_cost, total_cost_nano_usd, unpriced_count },
        ]
      }),
    ),
    top_users: users.map((user) => {
      const { request_count, total_tokens, total_cost, total_cost_nano_usd, unpriced_count } = toStats(user)
      return {
        user_id: user.externalId,
        ...{ request_count, total_tokens, total_cost, total_cost_nano_usd, unpriced_count },
      }
    }),
    ...toWirePeriod(report.period),
  }
}

/** A point says what it is of in the words of the dimensions that were asked for. */
export function toWirePoint(
  point: SeriesPoint,
  groupBy: readonly Dimension[],
  names: ReadonlyMap<string, string>,
  organizationId: string,
) {
  const { group } = point
  const name = (id: string | undefined) => (id === undefined ? null : (names.get(id) ?? null))
  const persona = { persona_id: orNull(group.persona_id), persona_name: name(group.persona_id) }
  const parts: Record<Dimension, Record<string, string | number | null>> = {
    organization: { organization_id: organizationId },
    user: { user_id: name(group.user_id), internal_user_id: orNull(group.user_id) },
    key: { api_key_id: orNull(group.api_key_id), api_key_name: name(group.api_key_id) },
    persona,
    version: { ...persona, persona_version: Number(group.persona_version) || null },
    model: { model: group.model || null },
    session: { session_id: group.session_id ?? null, session_owner: name(group.owner_id) },
  }
  const keys: Record<string, string | number | null> = Object.assign(
    {},
    ...groupBy.map((dimension) => parts[dimension]),
  )
  return { date: point.label, starts_at: point.starts_at?.toISOString() ?? null, ...keys, ...toStats(point) }
}

function orNull(id: string | undefined): string | null {
  return id === undefined || id === NOBODY ? null : id
}

/** What a group used, as it crosses the wire; keys in the order of the columns of its CSV. */
export function toStats(used: Counters) {
  const requests = Number(used.request_count)
  return {
    request_count: requests,
    success_count: Number(used.success_count),
    failure_count: Number(used.failure_count),
    success_rate: requests === 0 ? null : Math.round((Number(used.success_count) * 1000) / requests) / 10,
    input_tokens: Number(used.input_tokens),
    cached_tokens: Number(used.cached_tokens),
    output_tokens: Number(used.output_tokens),
    reasoning_tokens: Number(used.reasoning_tokens),
    total_tokens: Number(used.input_tokens + used.output_tokens),
    ...toCost(used),
    unpriced_count: Number(used.unpriced_count),
    estimated_count: Number(used.estimated_count),
    avg_response_time: requests === 0 ? null : Math.round(Number(used.duration_ms) / requests) / 1000,
  }
}

/** Where nothing has a price there is no sum: it would read as free. */
export function toCost(used: Pick<Counters, 'request_count' | 'unpriced_count' | 'cost_nano_usd'>) {
  const isUnpriced = used.request_count > 0n && used.unpriced_count >= used.request_count
  return {
    total_cost: isUnpriced ? null : toUsd(used.cost_nano_usd),
    total_cost_nano_usd: isUnpriced ? null : String(used.cost_nano_usd),
  }
}

function toUsd(nanoUsd: bigint): number {
  return Number(nanoUsd) / 1e9
}

export function toWireSatisfaction(of: Satisfaction) {
  const isUnpriced = of.ratingCount > 0 && of.unpricedCount === of.ratingCount
  const perSatisfied = of.costPerSatisfiedNanoUsd
  return {
    rating_count: of.ratingCount,
    satisfied_count: of.satisfiedCount,
    unsatisfied_count: of.ratingCount - of.satisfiedCount,
    satisfied_share: round(of.share?.share),
    satisfied_share_low: round(of.share?.low),
    satisfied_share_high: round(of.share?.high),
    rated_cost: isUnpriced ? null : toUsd(of.costNanoUsd),
    rated_cost_nano_usd: isUnpriced ? null : String(of.costNanoUsd),
    unpriced_count: of.unpricedCount,
    cost_per_satisfied_answer: perSatisfied === null ? null : toUsd(perSatisfied),
    cost_per_satisfied_answer_nano_usd: perSatisfied === null ? null : String(perSatisfied),
  }
}

function round(share: number | undefined): number | null {
  return share === undefined ? null : Math.round(share * 10_000) / 10_000
}
