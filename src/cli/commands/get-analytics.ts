import type { Command } from 'commander'
import { personaDaySchema } from '../../analytics/schema.ts'
import { getOrganizationOfPersona, type PersonaReport, reportPersona } from '../../analytics/service.ts'
import { toStats, toWirePersonaReport } from '../../analytics/wire.ts'
import { asAdministrator, OPERATOR } from '../../auth/caller.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { plain, printTable } from '../output.ts'
import { addPeriodOptions, formatCount, formatSum, type PeriodOptions, parsePeriodOptions } from '../reports.ts'

export function addPersonaAnalyticsCommand(program: Command): void {
  const command = addCommand(program, 'get-analytics', 'show what a persona was used for', 'get-analytics <persona-id>')
  addPeriodOptions(command, 'from the beginning')
    .argument('<persona-id>', 'the id that list-personas shows')
    .action(async (personaId: string, options: PeriodOptions) => {
      const { tz = 'UTC' } = options
      const period = parsePeriodOptions({ ...options, from: options.from ?? BEGINNING })
      const lastDays = daysUntilToday(DAYS, tz)
      await using foundation = await connect()
      const caller = asAdministrator(OPERATOR, await getOrganizationOfPersona(foundation, personaId))
      const report = await reportPersona(foundation, caller, personaId, { period })
      const recent = await reportPersona(foundation, caller, personaId, {
        period: parsePeriodOptions({ tz, from: lastDays.at(-1) }),
      })
      const document = { id: report.id, name: report.name, ...toWirePersonaReport(report) }
      const titles = Object.keys(personaDaySchema.shape)
      printTable(options, document, document.daily_usage, titles, [
        ...formatTotals(report),
        '',
        `Daily Usage (Last ${DAYS} Days):`,
        ...formatDays(recent, lastDays),
        RULE,
      ])
    })
}

/** Before anything was recorded. */
const BEGINNING = '2020-01-01'
const DAYS = 7
const RULE = '-'.repeat(80)

function formatTotals(report: PersonaReport): string[] {
  const { persona, models, users } = report
  const stats = persona && toStats(persona)
  const rate = stats?.success_rate ?? undefined
  return [
    '',
    `Persona Analytics: ${plain(report.name)} (${report.id})`,
    RULE,
    `Total Requests: ${formatCount(stats?.request_count ?? 0)}`,
    `Success Rate: ${rate === undefined ? 'None' : `${rate.toFixed(1)}%`}`,
    `Total Tokens: ${formatCount(stats?.total_tokens ?? 0)}`,
    `Total Cost: ${persona ? formatSum(persona) : '$0.00'}`,
    '',
    'Top Models:',
    ...formatTop(models.map(({ key, request_count }) => [key, request_count])),
    '',
    'Top Users:',
    ...formatTop(users.map(({ key, externalId, request_count }) => [externalId ?? key, request_count])),
  ]
}

function formatTop(counts: [name: string, requests: bigint][]): string[] {
  if (counts.length === 0) return ['- None']
  return counts.slice(0, TOP).map(([name, requests]) => `- ${plain(name)}: ${formatCount(requests)} requests`)
}

const TOP = 10

/** Every day, the newest first, whether anything was used on it or not. */
function formatDays(report: PersonaReport, dates: readonly string[]): string[] {
  const days = new Map(report.days.map((day) => [day.label, day]))
  return dates.map((date) => {
    const day = days.get(date)
    if (!day) return `- ${date}: 0 requests, 0 tokens, $0.00`
    const { request_count, total_tokens } = toStats(day)
    return `- ${date}: ${formatCount(request_count)} requests, ${formatCount(total_tokens)} tokens, ${formatSum(day)}`
  })
}

/** Today in a zone, and the days before it. */
function daysUntilToday(days: number, timeZone: string): string[] {
  const today = new Intl.DateTimeFormat('en-CA', { timeZone }).format(new Date())
  return Array.from({ length: days }, (_, ago) =>
    new Date(Date.parse(`${today}T00:00:00Z`) - ago * 86_400_000).toISOString().slice(0, 10),
  )
}
