import type { Command } from 'commander'
import { asAdministrator, OPERATOR } from '../../auth/caller.ts'
import { exportOrganization } from '../../export/service.ts'
import { getOrganization } from '../../organizations/service.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { field, type OutputOptions, printResult } from '../output.ts'
import { showProgress } from '../progress.ts'

export function addExportCommand(program: Command): void {
  addCommand(
    program,
    'export-org',
    'write everything that is kept of an organization as JSON lines, without secrets',
    'export-org <org-id> --to acme-export',
  )
    .argument('<org-id>', 'the organization')
    .requiredOption('--to <path>', 'a directory, for a file of each type; or one file, when it ends in .jsonl')
    .option('--with-content', 'also what was asked and answered, in clear')
    .action(async (organizationId: string, options: OutputOptions & { to: string; withContent?: boolean }) => {
      await using foundation = await connect()
      const organization = await getOrganization(foundation, OPERATOR, organizationId)
      const { files, lines } = await exportOrganization(
        foundation,
        asAdministrator(OPERATOR, organization.id),
        { to: options.to, withContent: options.withContent === true },
        showProgress('lines'),
      )
      printResult(options, { organization_id: organization.id, files, lines }, [
        '',
        'Organization exported successfully!',
        field('ID', organization.id),
        field('Name', organization.name),
        field('To', options.to),
        ...Object.entries(lines).map(([type, count]) => `  ${type}: ${count}`),
      ])
    })
}
