import type { Period } from './period.ts'

/** What usage is grouped and filtered by, as the columns that `usage_of` and the tables of sums share. */
export type Column = 'user_id' | 'api_key_id' | 'persona_id' | 'persona_version' | 'model' | 'owner_id' | 'session_id'

export type Interval = 'hour' | 'day' | 'month' | 'total'

/** Where to sum a part of a period from: whole days or quarters of an hour from the tables of sums, what is left from the rows. */
export type Source =
  | { table: 'attempts'; from: Date; to: Date }
  | { table: 'usage_daily'; from: Date; to: Date }
  | { table: 'usage_quarter_hourly'; slice: Slice; from: Date; to: Date }

export type Slice = 'all' | 'key' | 'persona' | 'model'

/**
 * Divides a period into the fewest rows that give exact sums: a slice by quarters of an hour where one has all the columns (the hours and
 * days of every zone begin at one), else the daily sums where days are UTC's, else the rows themselves.
 */
export function sourcesOf(period: Period, columns: ReadonlySet<Column>, interval: Interval): Source[] {
  const slice = sliceOf(columns)
  if (slice) {
    return divide(period, QUARTER_MS, ({ from, to }) => ({ table: 'usage_quarter_hourly', slice, from, to }))
  }
  const isDaily = interval === 'total' || (interval !== 'hour' && isUtc(period.timeZone))
  if (isDaily && !columns.has('session_id')) {
    return divide(period, DAY_MS, ({ from, to }) => ({ table: 'usage_daily', from, to }))
  }
  return [{ table: 'attempts', from: period.start, to: period.end }]
}

const QUARTER_MS = 15 * 60_000
const DAY_MS = 86_400_000

function sliceOf(columns: ReadonlySet<Column>): Slice | undefined {
  const isWithin = (...slice: Column[]) => [...columns].every((column) => slice.includes(column))
  if (isWithin()) return 'all'
  if (isWithin('api_key_id')) return 'key'
  if (isWithin('persona_id', 'persona_version')) return 'persona'
  return isWithin('model') ? 'model' : undefined
}

/** The whole steps within a period from sums, and what is before and after them from rows. */
function divide({ start, end }: Period, stepMs: number, whole: (range: { from: Date; to: Date }) => Source): Source[] {
  const from = new Date(Math.ceil(start.getTime() / stepMs) * stepMs)
  const to = new Date(Math.floor(end.getTime() / stepMs) * stepMs)
  if (from >= to) return [{ table: 'attempts', from: start, to: end }]
  const sources: Source[] = [
    { table: 'attempts', from: start, to: from },
    whole({ from, to }),
    { table: 'attempts', from: to, to: end },
  ]
  return sources.filter((source) => source.from < source.to)
}

function isUtc(timeZone: string): boolean {
  return /^(?:Etc\/)?(?:UTC|UCT|GMT|Zulu|Universal)$/i.test(timeZone)
}
