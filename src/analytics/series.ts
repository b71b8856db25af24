import { createHash } from 'node:crypto'
import type { Caller } from '../auth/caller.ts'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { DAYS_MAX, type Period } from './period.ts'
import { type Asked, report } from './service.ts'
import { type Column, type Interval, sourcesOf } from './sources.ts'
import { findNames } from './store.ts'
import { cutAfter, NOBODY, type SeriesRow, sumSeries, type UsageFilter } from './usage-store.ts'

export const INTERVALS = ['hour', 'day', 'month', 'total'] as const satisfies Interval[]

/** What a series can be drawn by. */
export const DIMENSIONS = {
  organization: [],
  user: ['user_id'],
  key: ['api_key_id'],
  persona: ['persona_id'],
  version: ['persona_id', 'persona_version'],
  model: ['model'],
  // Two users may use the same words for their sessions.
  session: ['session_id', 'owner_id'],
} as const satisfies Record<string, readonly Column[]>

export type Dimension = keyof typeof DIMENSIONS

export interface SeriesAsked extends Asked {
  interval: Interval
  groupBy: readonly Dimension[]
  filter: Omit<UsageFilter, 'userIds'>
  limit: number
  cursor: string | undefined
}

/** A group's usage in one bucket of time, and what the group is. */
export interface SeriesPoint extends SeriesRow {
  group: Partial<Record<Column, string>>
}

export interface Series {
  period: Period
  points: SeriesPoint[]
  /** Of what the points mention, by id. */
  names: ReadonlyMap<string, string>
  nextCursor: string | undefined
}

/** Usage over time, a page at a time: only buckets in which something was used, the earliest first. */
export async function reportSeries({ db }: { db: Db }, caller: Caller, asked: SeriesAsked): Promise<Series> {
  const columns = [...new Set(asked.groupBy.flatMap((dimension) => DIMENSIONS[dimension]))]
  const cursor = asked.cursor === undefined ? undefined : readCursor(asked.cursor, asked, columns)
  return report(db, caller, asked, async (tx, placed) => {
    const { organizationId } = placed
    const period = cursor ? { start: cursor.start, end: cursor.end, timeZone: placed.period.timeZone } : placed.period
    const filter = { ...asked.filter, ...placed.filter }
    const rows = await readPage(tx, organizationId, { ...asked, columns, filter, period, after: cursor?.after })
    const page = rows.slice(0, asked.limit)
    const last = rows.length > asked.limit ? page.at(-1) : undefined
    const points = page.map((row) => ({ ...row, group: groupOf(columns, row.keys) }))
    return {
      period,
      points,
      names: await namesOf(tx, organizationId, points),
      nextCursor: last && writeCursor(asked, period, last),
    }
  })
}

interface PageAsked {
  period: Period
  interval: Interval
  columns: readonly Column[]
  filter: UsageFilter
  after: { bucket: string; startsAt: Date | undefined; keys: string[] } | undefined
  limit: number
}

/**
 * One row more than the page has. Only as much of the period is looked at as it takes to fill it: from where the last page ended, a span
 * at a time, each twice the one before.
 */
async function readPage(tx: Tx, organizationId: string, asked: PageAsked): Promise<SeriesRow[]> {
  const { interval, columns, filter } = asked
  const whole = new Set<Column>([...columns, ...(filter.userIds ? (['user_id'] as const) : [])])
  const isSlice = sourcesOf(asked.period, whole, interval).some(({ table }) => table === 'usage_slices')
  // Users are many, whatever they are summed from.
  let spanMs = isSlice && !whole.has('user_id') ? SPANS_MS[interval].ofFew : SPANS_MS[interval].ofMany
  let { after } = asked
  // The first bucket may have begun before the period.
  let start = new Date(Math.max(asked.period.start.getTime(), after?.startsAt?.getTime() ?? 0))
  const rows: SeriesRow[] = []
  while (rows.length <= asked.limit && start < asked.period.end) {
    const rest = { ...asked.period, start }
    const end = await cutAfter(tx, rest, interval, spanMs)
    const limit = asked.limit + 1 - rows.length
    const query = { period: { ...rest, end }, interval, columns, filter, after, limit }
    rows.push(...(await sumSeries(tx, organizationId, query)))
    start = end
    after = undefined
    spanMs *= 2
  }
  return rows
}

const DAY_MS = 86_400_000
const FOREVER_MS = 100 * 366 * DAY_MS

const SPANS_MS: Record<Interval, { ofFew: number; ofMany: number }> = {
  hour: { ofFew: 62 * DAY_MS, ofMany: DAY_MS },
  day: { ofFew: 366 * DAY_MS, ofMany: 4 * DAY_MS },
  month: { ofFew: FOREVER_MS, ofMany: 62 * DAY_MS },
  total: { ofFew: FOREVER_MS, ofMany: FOREVER_MS },
}

function groupOf(columns: readonly Column[], keys: readonly string[]): Partial<Record<Column, string>> {
  return Object.fromEntries(columns.map((column, at) => [column, keys[at] ?? '']))
}

async function namesOf(tx: Tx, organizationId: string, points: readonly SeriesPoint[]) {
  const ids = (column: Column) => [
    ...new Set(
      points.flatMap(({ group }) => (group[column] === undefined || group[column] === NOBODY ? [] : group[column])),
    ),
  ]
  // The owner of a session is a user or a key.
  const owners = ids('owner_id')
  const [users, keys, personas] = [[...ids('user_id'), ...owners], [...ids('api_key_id'), ...owners], ids('persona_id')]
  if (users.length + keys.length + personas.length === 0) return new Map<string, string>()
  return findNames(tx, organizationId, { users, keys, personas })
}

/** Where a page ended, in a period that no longer moves. Opaque to clients; a changed one shows nothing but other pages of theirs. */
function writeCursor(asked: SeriesAsked, period: Period, last: SeriesRow): string {
  const place = [
    digestOf(asked),
    period.start.getTime(),
    period.end.getTime(),
    last.bucket,
    last.starts_at?.getTime() ?? null,
    last.keys,
  ]
  return Buffer.from(JSON.stringify(place)).toString('base64url')
}

function readCursor(text: string, asked: SeriesAsked, columns: readonly Column[]) {
  const place = parseJson(Buffer.from(text, 'base64url').toString())
  if (!Array.isArray(place) || place[0] !== digestOf(asked)) throw badCursor()
  const [, start, end, bucket, startsAt, keys] = place as unknown[]
  const isTime = (value: unknown): value is number =>
    Number.isSafeInteger(value) && Number(value) >= TIME_MIN && Number(value) <= TIME_MAX
  const isSound =
    isTime(start) &&
    isTime(end) &&
    start < end &&
    end - start <= DAYS_MAX * DAY_MS &&
    (startsAt === null ? asked.interval === 'total' : isTime(startsAt)) &&
    isBucket(bucket, asked.interval) &&
    Array.isArray(keys) &&
    keys.length === columns.length &&
    keys.every((key, at) => typeof key === 'string' && isKey(key, columns[at] ?? 'model'))
  if (!isSound) throw badCursor()
  return {
    start: new Date(start),
    end: new Date(end),
    after: {
      bucket: bucket as string,
      startsAt: startsAt === null ? undefined : new Date(startsAt as number),
      keys: keys as string[],
    },
  }
}

/** The end of the last day of the century, in every zone. */
const [TIME_MIN, TIME_MAX] = [Date.UTC(1999, 11, 31), Date.UTC(2100, 0, 2)]

function badCursor(): AppError {
  return new AppError(
    'invalid_request',
    'cursor is not one of this report: send next_cursor as it came, with the same parameters.',
    { param: 'cursor' },
  )
}

/** As Postgres writes it; anything else would be an error there. */
function isBucket(text: unknown, interval: Interval): boolean {
  if (interval === 'total') return text === ''
  if (typeof text !== 'string' || !/^\d{4}-\d\d-\d\d \d\d:\d\d:00(?:[+-]\d\d(?::\d\d)?)?$/.test(text)) return false
  const at = new Date(`${text.slice(0, 19).replace(' ', 'T')}Z`)
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text.slice(0, 10))
}

function isKey(key: string, column: Column): boolean {
  if (column === 'model' || column === 'session_id') return !key.includes('\0') && key.length <= 255
  return column === 'persona_version' ? /^\d{1,9}$/.test(key) : /^[0-9a-f-]{36}$/.test(key)
}

function digestOf({ interval, groupBy, filter, userId, period }: SeriesAsked): string {
  const asked = JSON.stringify([interval, groupBy, filter, userId ?? null, period.timeZone])
  return createHash('sha256').update(asked).digest('base64url').slice(0, 12)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
