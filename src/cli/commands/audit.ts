import type { Command } from 'commander'
import { verifyAudit } from '../../audit/service.ts'
import { OPERATOR } from '../../auth/caller.ts'
import { AppError } from '../../errors.ts'
import { getOrganization } from '../../organizations/service.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { type OutputOptions, plain, printResult } from '../output.ts'

export function addAuditCommands(program: Command): void {
  addCommand(
    program,
    'verify-audit',
    "check that no entry of an organization's audit log was altered or removed",
    'verify-audit --org-id <org-id>',
  )
    .requiredOption('--org-id <uuid>', 'the organization')
    .action(async (options: OutputOptions & { orgId: string }) => {
      await using foundation = await connect()
      const organization = await getOrganization(foundation, OPERATOR, options.orgId)
      const { rows, brokenAt } = await verifyAudit(foundation, organization.id)
      if (brokenAt !== undefined) {
        throw new AppError(
          'conflict',
          `The audit log is broken: entry ${brokenAt} was altered, or follows a removed one.`,
        )
      }
      printResult(options, { organization_id: organization.id, entries: rows, intact: true }, [
        `Audit log intact: ${rows} ${rows === 1 ? 'entry' : 'entries'} of ${plain(organization.name)}`,
      ])
    })
}
