import { type Command, Option } from 'commander'
import { DIMENSION_COLUMNS, statsSchema } from '../../analytics/schema.ts'
import { DIMENSIONS, type Dimension, INTERVALS, reportSeries, type SeriesPoint } from '../../analytics/series.ts'
import type { Interval } from '../../analytics/sources.ts'
import { toWirePoint } from '../../analytics/wire.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { organizationsChosen } from '../organizations-chosen.ts'
import { type Column, formatTable, printTable, printWarning } from '../output.ts'
import {
  addPeriodOptions,
  formatCount,
  formatPercent,
  formatSum,
  type PeriodOptions,
  parsePeriodOptions,
  withOrganization,
} from '../reports.ts'

export function addUsageCommand(program: Command): void {
  const command = addCommand(
    program,
    'usage',
    'show what was used, and what it cost',
    'usage --by model --from 2026-11-01 --to 2026-11-30',
  )
  addPeriodOptions(command, 'thirty days ago')
    .addOption(new Option('--by <what>', 'what to sum it by').choices([...TIMES, ...GROUPS]).default('day'))
    .option('--org-id <uuid>', 'only that of this organization')
    .action(async (options: PeriodOptions & { by: By; orgId?: string }) => {
      const period = parsePeriodOptions(options)
      const { by } = options
      const asked = { period, ...partsOf(by), filter: {}, limit: ROWS_MAX, cursor: undefined }
      const groupBy: Dimension[] = [...new Set(['organization' as const, ...asked.groupBy])]
      await using foundation = await connect()
      const rows: Row[] = []
      for (const { organization, caller } of await organizationsChosen(foundation, options.orgId)) {
        const { points, names, nextCursor } = await reportSeries(foundation, caller, asked)
        if (nextCursor) printWarning(`Only the first ${ROWS_MAX} rows of ${organization.name} are shown.`)
        const named = points.map((point) => ({
          organization: organization.name,
          point,
          document: {
            organization_name: organization.name,
            ...toWirePoint(point, groupBy, names, organization.id),
          },
        }))
        rows.push(...(asked.interval === 'total' ? named.sort((a, b) => compare(b.point, a.point)) : named))
      }
      const documents = rows.map(({ document }) => document)
      const keys = groupBy.flatMap((dimension) => DIMENSION_COLUMNS[dimension])
      const titles = ['organization_name', 'date', 'starts_at', ...keys, ...Object.keys(statsSchema)]
      const lines = rows.length === 0 ? ['No usage found.'] : ['', ...format(by, rows, options.orgId === undefined)]
      printTable(options, { by, usage: documents }, documents, titles, lines)
    })
}

const TIMES = INTERVALS.filter((interval) => interval !== 'total')
const GROUPS = Object.keys(DIMENSIONS) as Dimension[]
type By = Exclude<Interval, 'total'> | Dimension

const ROWS_MAX = 100_000

function partsOf(by: By): { interval: Interval; groupBy: Dimension[] } {
  const interval = TIMES.find((time) => time === by)
  return interval ? { interval, groupBy: [] } : { interval: 'total', groupBy: [by as Dimension] }
}

interface Row {
  organization: string
  point: SeriesPoint
  document: ReturnType<typeof toWirePoint>
}

/** By cost; what has no price, by requests. */
function compare(a: SeriesPoint, b: SeriesPoint): number {
  return Number(a.cost_nano_usd - b.cost_nano_usd) || Number(a.request_count - b.request_count)
}

function format(by: By, rows: readonly Row[], isOfAll: boolean): string[] {
  const columns: Column<Row>[] = [
    { title: TITLES[by], value: (row) => labelOf(by, row) },
    { title: 'Requests', align: 'right', value: ({ point }) => formatCount(point.request_count) },
    { title: 'Success', align: 'right', value: ({ document }) => formatPercent(document.success_rate) },
    { title: 'Input', align: 'right', value: ({ point }) => formatCount(point.input_tokens) },
    { title: 'Cached', align: 'right', value: ({ point }) => formatCount(point.cached_tokens) },
    { title: 'Output', align: 'right', value: ({ point }) => formatCount(point.output_tokens) },
    { title: 'Tokens', align: 'right', value: ({ document }) => formatCount(document.total_tokens) },
    { title: 'Cost', align: 'right', value: ({ point }) => formatSum(point) },
  ]
  return formatTable(withOrganization(columns, isOfAll && by !== 'organization'), rows)
}

const TITLES: Record<By, string> = {
  hour: 'Hour',
  day: 'Day',
  month: 'Month',
  organization: 'Organization',
  user: 'User',
  key: 'Key',
  persona: 'Persona',
  version: 'Persona',
  model: 'Model',
  session: 'Session',
}

/** A name where there is one, else the id; `None` for requests without. */
function labelOf(by: By, { organization, document }: Row): string {
  const values = document as Record<string, unknown>
  const firstOf = (...keys: string[]) => keys.map((key) => values[key]).find((value) => typeof value === 'string')
  const labels: Record<By, () => unknown> = {
    hour: () => values.date,
    day: () => values.date,
    month: () => values.date,
    organization: () => organization,
    user: () => firstOf('user_id', 'internal_user_id'),
    key: () => firstOf('api_key_name', 'api_key_id'),
    persona: () => firstOf('persona_name', 'persona_id'),
    version: () => {
      const persona = firstOf('persona_name', 'persona_id')
      return persona && `${persona} (version ${values.persona_version})`
    },
    model: () => firstOf('model'),
    session: () => firstOf('session_id'),
  }
  return String(labels[by]() ?? 'None')
}
