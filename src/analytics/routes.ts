import type { Context } from 'hono'
import { accepts } from 'hono/accepts'
import type { Vault } from '../api-keys/vault.ts'
import { newRoutes, type Routes } from '../auth/route-env.ts'
import { type CsvColumn, type CsvValue, toCsv } from '../csv.ts'
import type { Db } from '../db/database.ts'
import { isUuid } from '../ids.ts'
import { openGate } from './gate.ts'
import { isStorableText, readPageCursor, writePageCursor } from './page-cursor.ts'
import { parsePeriod } from './period.ts'
import { reportRated, reportSatisfaction } from './ratings.ts'
import {
  modelsRoute,
  personaRoute,
  personasRoute,
  ratedRoute,
  satisfactionRoute,
  sessionsRoute,
  usageRoute,
  usersRoute,
} from './route-definitions.ts'
import {
  DIMENSION_COLUMNS,
  modelSchema,
  personaDaySchema,
  personaSchema,
  ratedSchema,
  SATISFACTION_COLUMNS,
  sessionSchema,
  statsSchema,
  userSchema,
} from './schema.ts'
import { reportSeries } from './series.ts'
import { reportModels, reportPersona, reportPersonas, reportSessions, reportUsers } from './service.ts'
import {
  toCost,
  toMinutes,
  toStats,
  toWirePeriod,
  toWirePersona,
  toWirePersonaReport,
  toWirePoint,
  toWireSatisfaction,
  toWireSession,
  toWireTotals,
  toWireUser,
} from './wire.ts'

/** `/v1/analytics`: who uses what, what it costs, and whether it helps. Each report as JSON, and its rows as CSV. */
export function analyticsRoutes(deps: { db: Db; vault: Vault }): Routes {
  const gate = openGate({ runningMax: RUNNING_MAX, waitingMax: WAITING_MAX })
  const routes = newRoutes()
  routes.use('/v1/analytics/*', async (_, next) => {
    using _pass = await gate.enter()
    await next()
  })
  return routes
    .openapi(modelsRoute, async (c) => {
      const query = c.req.valid('query')
      const report = await reportModels(deps, c.var.caller, askedOf(query))
      const rows = report.models.map((row) => ({ model: row.model, ...toStats(row) }))
      if (wantsCsv(c, query)) return csvOf('models', rows, Object.keys(modelSchema.shape))
      return c.json({ models: rows, ...toWireTotals(report.totals), ...toWirePeriod(report.period) }, 200)
    })
    .openapi(usersRoute, async (c) => {
      const query = c.req.valid('query')
      const report = await reportUsers(deps, c.var.caller, { ...query, ...askedOf(query) })
      const rows = report.users.map(toWireUser)
      if (wantsCsv(c, query)) return csvOf('user-usage', rows, Object.keys(userSchema.shape))
      const totals = { total_users: Number(report.totals.all_rows), ...toWireTotals(report.totals) }
      return c.json({ users: rows, ...totals, ...toWirePeriod(report.period), ...filteredBy(query) }, 200)
    })
    .openapi(personasRoute, async (c) => {
      const query = c.req.valid('query')
      const asked = { ...query, ...askedOf(query), includeInactive: query.include_inactive }
      const report = await reportPersonas(deps, c.var.caller, asked)
      const rows = report.personas.map(toWirePersona)
      if (wantsCsv(c, query)) return csvOf('personas', rows, Object.keys(personaSchema.shape))
      const totals = { total_personas: Number(report.totals.all_rows), ...toWireTotals(report.totals) }
      const filters = { ...filteredBy(query), include_inactive: query.include_inactive }
      return c.json({ personas: rows, ...totals, ...toWirePeriod(report.period), ...filters }, 200)
    })
    .openapi(personaRoute, async (c) => {
      const query = c.req.valid('query')
      const report = await reportPersona(deps, c.var.caller, c.req.valid('param').persona_id, askedOf(query))
      const document = toWirePersonaReport(report)
      if (wantsCsv(c, query)) return csvOf('persona', document.daily_usage, Object.keys(personaDaySchema.shape))
      return c.json(document, 200)
    })
    .openapi(sessionsRoute, async (c) => {
      const query = c.req.valid('query')
      const cursor = query.cursor === undefined ? undefined : readPageCursor(query.cursor, [isUuid, isStorableText])
      const [ownerId = '', sessionId = ''] = cursor?.ids ?? []
      const report = await reportSessions(deps, c.var.caller, {
        ...askedOf(query),
        includeActive: query.include_active,
        includeCompleted: query.include_completed,
        limit: query.limit + 1,
        offset: query.offset,
        after: cursor && { startedAt: cursor.at, ownerId, sessionId },
      })
      const { totals } = report
      const page = report.sessions.slice(0, query.limit)
      const last = report.sessions.length > query.limit ? page.at(-1) : undefined
      const next = last ? writePageCursor(last.started_at, last.owner_id, last.session_id) : null
      const rows = page.map(toWireSession)
      if (wantsCsv(c, query)) return csvOf('sessions', rows, Object.keys(sessionSchema.shape), next)
      return c.json(
        {
          sessions: rows,
          total_sessions: Number(totals.sessions),
          active_sessions: Number(totals.active),
          total_requests: Number(totals.requests),
          ...toCost({ ...totals, request_count: totals.requests, unpriced_count: totals.unpriced }),
          unpriced_requests: Number(totals.unpriced),
          avg_session_duration: totals.average_ended_seconds === null ? null : toMinutes(totals.average_ended_seconds),
          ...toWirePeriod(report.period),
          ...filteredBy(query),
          next_cursor: next,
        },
        200,
      )
    })
    .openapi(ratedRoute, async (c) => {
      const query = c.req.valid('query')
      const cursor = query.cursor === undefined ? undefined : readPageCursor(query.cursor, [isStorableText])
      const report = await reportRated(deps, c.var.caller, {
        ...askedOf(query),
        rating: query.rating,
        sessionId: query.session_id,
        limit: query.limit + 1,
        offset: query.offset,
        after: cursor && { ratedAt: cursor.at, requestId: cursor.ids[0] ?? '' },
      })
      const page = report.responses.slice(0, query.limit)
      const last = report.responses.length > query.limit ? page.at(-1) : undefined
      const next = last ? writePageCursor(last.row.rated_at, last.row.request_id) : null
      const rows = page.map(({ row, inputPreview, outputPreview }) => ({
        request_id: row.request_id,
        response_id: row.response_id,
        user_id: row.external_id,
        model: row.model,
        persona_id: row.persona_id,
        persona_version: row.persona_version,
        session_id: row.session_id,
        rating: row.rating,
        rating_feedback: row.feedback,
        rating_timestamp: row.rated_at.toISOString(),
        rated_by: row.rated_by,
        rated_by_user: row.rater,
        created_at: row.opened_at.toISOString(),
        completed_at: row.settled_at?.toISOString() ?? null,
        input_preview: inputPreview ?? 'Input not available',
        output_preview: outputPreview ?? 'Output not available',
      }))
      if (wantsCsv(c, query)) return csvOf('rated-responses', rows, Object.keys(ratedSchema.shape), next)
      const counts = { total_count: report.total, positive_count: report.positive, negative_count: report.negative }
      return c.json(
        {
          rated_responses: rows,
          ...counts,
          neutral_count: 0,
          ...toWirePeriod(report.period),
          ...filteredBy(query),
          filtered_by_session: query.session_id ?? null,
          next_cursor: next,
        },
        200,
      )
    })
    .openapi(satisfactionRoute, async (c) => {
      const query = c.req.valid('query')
      const { group_by: groupBy, persona_id: personaId } = query
      const report = await reportSatisfaction(deps, c.var.caller, { ...askedOf(query), groupBy, personaId })
      const rows = report.groups.map(({ keys, satisfaction }) => {
        const [first = null, version] = keys
        const isPersona = groupBy === 'persona' || groupBy === 'version'
        const name = first === null ? null : (report.names.get(first) ?? null)
        return {
          ...(isPersona && { persona_id: first, persona_name: name }),
          ...(groupBy === 'version' && { persona_version: version ? Number(version) : null }),
          ...(groupBy === 'model' && { model: first }),
          ...(groupBy === 'user' && { user_id: name, internal_user_id: first }),
          ...toWireSatisfaction(satisfaction),
        }
      })
      if (wantsCsv(c, query)) return csvOf('ratings', rows, SATISFACTION_COLUMNS[groupBy])
      return c.json(
        { group_by: groupBy, groups: rows, all: toWireSatisfaction(report.all), ...toWirePeriod(report.period) },
        200,
      )
    })
    .openapi(usageRoute, async (c) => {
      const query = c.req.valid('query')
      const { caller } = c.var
      const report = await reportSeries(deps, caller, {
        ...askedOf(query),
        interval: query.interval,
        groupBy: query.group_by,
        filter: {
          apiKeyId: query.api_key_id?.toLowerCase(),
          personaId: query.persona_id?.toLowerCase(),
          personaVersion: query.persona_version,
          model: query.model,
          sessionId: query.session_id,
        },
        limit: query.limit,
        cursor: query.cursor,
      })
      const rows = report.points.map((point) => toWirePoint(point, query.group_by, report.names, caller.organizationId))
      const next = report.nextCursor ?? null
      if (wantsCsv(c, query)) {
        const groups = query.group_by.flatMap((dimension) => DIMENSION_COLUMNS[dimension])
        const columns = ['date', 'starts_at', ...new Set(groups), ...Object.keys(statsSchema)]
        return csvOf('usage', rows, columns, next)
      }
      const { interval, group_by } = query
      return c.json({ interval, group_by, usage: rows, ...toWirePeriod(report.period), next_cursor: next }, 200)
    })
}

/** Fewer than there are connections to the database. */
const RUNNING_MAX = 4
const WAITING_MAX = 100

function askedOf(query: {
  start_date?: string | undefined
  end_date?: string | undefined
  tz?: string | undefined
  user_id?: string | undefined
}) {
  const period = parsePeriod({ start: query.start_date, end: query.end_date, timeZone: query.tz })
  return { period, userId: query.user_id }
}

function filteredBy(query: { user_id?: string | undefined }) {
  return { filtered_by_user: query.user_id ?? null }
}

function wantsCsv(c: Context, { format }: { format?: 'json' | 'csv' | undefined }): boolean {
  if (format !== undefined) return format === 'csv'
  const supports = ['application/json', 'text/csv']
  return accepts(c, { header: 'Accept', supports, default: 'application/json' }) === 'text/csv'
}

/** A page's rows; where there are more, the header says how to go on. */
function csvOf<Row extends object>(
  name: string,
  rows: readonly Row[],
  titles: readonly string[],
  next?: string | null,
) {
  const columns: CsvColumn<Row>[] = titles.map((title) => [
    title,
    (row) => (row as Record<string, CsvValue>)[title] ?? null,
  ])
  return new Response(toCsv(columns, rows), {
    headers: {
      'content-type': 'text/csv; charset=utf-8',
      'content-disposition': `attachment; filename="${name}.csv"`,
      ...(next ? { 'x-next-cursor': next } : {}),
    },
  })
}
