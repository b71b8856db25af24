import type { Command } from 'commander'
import { OPERATOR } from '../../auth/caller.ts'
import { createOrganization, listOrganizations, type Organization } from '../../organizations/service.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { field, formatTime, type OutputOptions, printResult } from '../output.ts'

export function addOrganizationCommands(program: Command): void {
  addCommand(program, 'create-org', 'create an organization', 'create-org "Acme Corporation"')
    .argument('<name>', 'its name; names need not be unique')
    .action(async (name: string, options: OutputOptions) => {
      await using foundation = await connect()
      const organization = await createOrganization(foundation, OPERATOR, { name })
      printResult(options, toDocument(organization), [
        '',
        'Organization created successfully!',
        field('ID', organization.id),
        field('Name', organization.name),
      ])
    })

  addCommand(program, 'list-orgs', 'list all organizations', 'list-orgs').action(async (options: OutputOptions) => {
    await using foundation = await connect()
    const organizations = await listOrganizations(foundation, OPERATOR)
    printResult(options, { organizations: organizations.map(toDocument) }, formatList(organizations))
  })
}

function formatList(organizations: Organization[]): string[] {
  if (organizations.length === 0) return ['No organizations found.']
  const blocks = organizations.flatMap(({ id, name, createdAt }) => [
    field('ID', id),
    field('Name', name),
    field('Created', formatTime(createdAt)),
    RULE,
  ])
  return ['', 'Organizations:', RULE, ...blocks]
}

function toDocument({ id, name, createdAt }: Organization) {
  return { id, name, created_at: createdAt.toISOString() }
}

const RULE = '-'.repeat(60)
