import { type Command, Option } from 'commander'
import { reportSatisfaction, type SatisfactionGroup } from '../../analytics/ratings.ts'
import { satisfactionSchema } from '../../analytics/schema.ts'
import { toWireSatisfaction } from '../../analytics/wire.ts'
import { formatUsdRounded } from '../../ledger/money.ts'
import { RATING_GROUPS, type RatingGroup } from '../../ratings/satisfaction.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { organizationsChosen } from '../organizations-chosen.ts'
import { type Column, formatTable, printTable } from '../output.ts'
import {
  addPeriodOptions,
  formatCount,
  formatPercent,
  type PeriodOptions,
  parsePeriodOptions,
  withOrganization,
} from '../reports.ts'

export function addRatingsCommand(program: Command): void {
  const command = addCommand(
    program,
    'ratings',
    'show how many answers satisfied, and what one that did cost',
    'ratings --by version --from 2026-11-01 --to 2026-11-30',
  )
  addPeriodOptions(command, 'thirty days ago')
    .addOption(new Option('--by <what>', 'what to sum them by').choices(GROUPS).default('version'))
    .option('--org-id <uuid>', 'only those of this organization')
    .action(async (options: PeriodOptions & { by: RatingGroup; orgId?: string }) => {
      const period = parsePeriodOptions(options)
      const { by } = options
      await using foundation = await connect()
      const rows: Row[] = []
      for (const { organization, caller } of await organizationsChosen(foundation, options.orgId)) {
        const { groups, names } = await reportSatisfaction(foundation, caller, { period, groupBy: by })
        for (const group of groups) {
          const [id = null, version = null] = group.keys
          const name = id === null ? null : (names.get(id) ?? id)
          const document = {
            organization_id: organization.id,
            organization_name: organization.name,
            [by === 'version' ? 'persona' : by]: name,
            ...(by === 'version' && { persona_version: version === null ? null : Number(version) }),
            ...toWireSatisfaction(group.satisfaction),
          }
          const label = version === null ? name : `${name} (version ${version})`
          rows.push({ organization: organization.name, label: label ?? 'None', group, document })
        }
      }
      const documents = rows.map(({ document }) => document)
      const keys = by === 'version' ? ['persona', 'persona_version'] : [by]
      const titles = ['organization_id', 'organization_name', ...keys, ...Object.keys(satisfactionSchema)]
      const lines = rows.length === 0 ? ['No ratings found.'] : ['', ...format(by, rows, options.orgId === undefined)]
      printTable(options, { by, ratings: documents }, documents, titles, lines)
    })
}

const GROUPS = Object.keys(RATING_GROUPS).filter((group) => group !== 'none')

interface Row {
  organization: string
  label: string
  group: SatisfactionGroup
  document: object
}

function format(by: RatingGroup, rows: readonly Row[], isOfAll: boolean): string[] {
  const columns: Column<Row>[] = [
    { title: TITLES[by], value: ({ label }) => label },
    { title: 'Ratings', align: 'right', value: ({ group }) => formatCount(group.satisfaction.ratingCount) },
    { title: 'Satisfied', align: 'right', value: ({ group }) => formatCount(group.satisfaction.satisfiedCount) },
    { title: 'Share', align: 'right', value: ({ group }) => share(group.satisfaction.share?.share) },
    {
      title: '95% interval',
      align: 'right',
      value: ({ group: { satisfaction } }) => `${share(satisfaction.share?.low)} to ${share(satisfaction.share?.high)}`,
    },
    {
      title: 'Cost per satisfied answer',
      align: 'right',
      value: ({ group: { satisfaction } }) => {
        const nanoUsd = satisfaction.costPerSatisfiedNanoUsd
        return nanoUsd === null ? '-' : formatUsdRounded(nanoUsd)
      },
    },
  ]
  return formatTable(withOrganization(columns, isOfAll), rows)
}

const TITLES: Record<RatingGroup, string> = {
  none: 'All',
  persona: 'Persona',
  version: 'Persona',
  model: 'Model',
  user: 'User',
}

function share(value: number | undefined): string {
  return formatPercent(value === undefined ? undefined : value * 100)
}
