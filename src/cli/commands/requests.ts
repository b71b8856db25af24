import type { Command } from 'commander'
import { asAdministrator, OPERATOR } from '../../auth/caller.ts'
import { AppError } from '../../errors.ts'
import { listRequests } from '../../ledger/service.ts'
import { getOrganization } from '../../organizations/service.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { type OutputOptions, printResult } from '../output.ts'
import { formatRequests, nameRequests, toRequestDocument } from '../recorded-requests.ts'

export function addRequestCommands(program: Command): void {
  addCommand(
    program,
    'list-requests',
    'list the newest recorded requests of an organization, with tokens and cost',
    'list-requests --org-id <org-id> --limit 50',
  )
    .requiredOption('--org-id <uuid>', 'the organization')
    .option('--limit <n>', 'how many', '20')
    .action(async (options: OutputOptions & { orgId: string; limit: string }) => {
      const limit = /^\d{1,5}$/.test(options.limit) ? Number(options.limit) : 0
      if (limit < 1 || limit > LIMIT_MAX) {
        throw new AppError('invalid_request', `--limit is a whole number from 1 to ${LIMIT_MAX}.`)
      }
      await using foundation = await connect()
      const organization = await getOrganization(foundation, OPERATOR, options.orgId)
      const caller = asAdministrator(OPERATOR, organization.id)
      const requests = await nameRequests(foundation, caller, await listRequests(foundation, caller, limit))
      printResult(
        options,
        { requests: requests.map(toRequestDocument) },
        requests.length === 0 ? ['No requests found.'] : ['', ...formatRequests(requests)],
      )
    })
}

const LIMIT_MAX = 10_000
