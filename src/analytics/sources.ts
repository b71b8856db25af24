import type { Period } from './period.ts'

/** What usage is grouped and filtered by, as the columns that `usage_of` and the tables of sums share. */
export type Column = 'user_id' | 'api_key_id' | 'persona_id' | 'persona_version' | 'model' | 'owner_id' | 'session_id'

export type Interval = 'hour' | 'day' | 'month' | 'total'

/** Where to sum a part of a period from: the tables of sums where they fit, what is left from the rows. */
export type Source =
  | { table: 'attempts'; from: Date; to: Date }
  | { table: 'usage_daily'; from: Date; to: Date }
  | { table: 'usage_slices'; slice: string; by: 'quarter' | 'day'; from: Date; to: Date }

/** The slices of `usage_slices`: those by quarter of an hour fit the hours and days of every zone, those by day only days of UTC. */
const SLICES: { slice: string; by: 'quarter' | 'day'; columns: readonly Column[] }[] = [
  { slice: 'all', by: 'quarter', columns: [] },
  { slice: 'key', by: 'quarter', columns: ['api_key_id'] },
  { slice: 'persona', by: 'quarter', columns: ['persona_id', 'persona_version'] },
  { slice: 'model', by: 'quarter', columns: ['model'] },
  { slice: 'user', by: 'day', columns: ['user_id'] },
  { slice: 'user_model', by: 'day', columns: ['user_id', 'model'] },
  { slice: 'persona_model', by: 'day', columns: ['persona_id', 'model'] },
  { slice: 'persona_user', by: 'day', columns: ['persona_id', 'user_id'] },
]

/** Divides a period into the fewest rows that give exact sums: a slice that has all the columns, else the daily sums, else the rows. */
export function sourcesOf(period: Period, columns: ReadonlySet<Column>, interval: Interval): Source[] {
  const areDaysWhole = interval === 'total' || (interval !== 'hour' && isUtc(period.timeZone))
  const fit = SLICES.find(
    (slice) =>
      (slice.by === 'quarter' || areDaysWhole) && [...columns].every((column) => slice.columns.includes(column)),
  )
  if (fit) {
    const { slice, by } = fit
    return divide(period, by === 'quarter' ? QUARTER_MS : DAY_MS, (range) => ({
      table: 'usage_slices',
      slice,
      by,
      ...range,
    }))
  }
  if (areDaysWhole && !columns.has('session_id')) {
    return divide(period, DAY_MS, (range) => ({ table: 'usage_daily', ...range }))
  }
  return [{ table: 'attempts', from: period.start, to: period.end }]
}

const QUARTER_MS = 15 * 60_000
const DAY_MS = 86_400_000

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
