import type { Command } from 'commander'
import { asAdministrator, OPERATOR } from '../../auth/caller.ts'
import { type Erasure, eraseUserInAnyOrganization } from '../../erasure/service.ts'
import { getOrganization, type Organization } from '../../organizations/service.ts'
import { createUser, deleteUser, getUserInAnyOrganization, listUsers, type User } from '../../users/service.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { organizationsChosen } from '../organizations-chosen.ts'
import { field, formatTime, type OutputOptions, plain, printResult, printWarning } from '../output.ts'

export function addUserCommands(program: Command): void {
  addCommand(program, 'create-user', 'create a user in an organization', 'create-user <org-id> alice@example.com')
    .argument('<org-id>', 'the id of the organization')
    .argument('<user-id>', 'how your own systems name the user')
    .action(async (organizationId: string, externalId: string, options: OutputOptions) => {
      await using foundation = await connect()
      const organization = await getOrganization(foundation, OPERATOR, organizationId)
      const user = await createUser(foundation, asAdministrator(OPERATOR, organization.id), { externalId })
      if (!user.isNew) printWarning(`There is a user "${user.externalId}" already; nothing was changed.`)
      printResult(options, toDocument(user, organization), [
        '',
        'User created successfully!',
        field('Organization', organization.name),
        field('User ID', user.externalId),
        field('Internal ID', user.id),
      ])
    })

  addCommand(program, 'list-users', 'list users', 'list-users --org-id <org-id>')
    .option('--org-id <uuid>', 'only those of this organization')
    .action(async (options: OutputOptions & { orgId?: string }) => {
      await using foundation = await connect()
      const groups: UserGroup[] = []
      for (const { organization, caller } of await organizationsChosen(foundation, options.orgId)) {
        groups.push({ organization, users: await listUsers(foundation, caller) })
      }
      const users = groups.flatMap(({ organization, users }) => users.map((user) => toDocument(user, organization)))
      const [only] = groups
      printResult(options, { users }, options.orgId !== undefined && only ? formatGroup(only) : formatGroups(groups))
    })

  addCommand(
    program,
    'delete-user',
    'delete a user and deactivate the keys that are theirs',
    'delete-user <internal-id>',
  )
    .argument('<internal-id>', 'the id that list-users shows')
    .action(async (id: string, options: OutputOptions) => {
      await using foundation = await connect()
      const { caller } = await getUserInAnyOrganization(foundation, OPERATOR, id)
      const user = await deleteUser(foundation, caller, id)
      const organization = await getOrganization(foundation, OPERATOR, user.organizationId)
      printResult(options, { ...toDocument(user, organization), deleted: true }, [
        '',
        'User deleted successfully!',
        field('Organization', organization.name),
        field('User ID', user.externalId),
      ])
    })

  addCommand(
    program,
    'erase-user',
    "erase a user's contents, feedback and external id, and delete the user; what it cost stays",
    'erase-user <internal-id>',
  )
    .argument('<internal-id>', 'the id that list-users shows, of a deleted user too')
    .action(async (id: string, options: OutputOptions) => {
      await using foundation = await connect()
      const erasure = await eraseUserInAnyOrganization(foundation, OPERATOR, id)
      const organization = await getOrganization(foundation, OPERATOR, erasure.organizationId)
      printResult(
        options,
        {
          id: erasure.userId,
          organization_id: organization.id,
          organization_name: organization.name,
          user_id: erasure.pseudonym,
          contents: erasure.contents,
          feedback_texts: erasure.feedbackTexts,
          api_keys: erasure.keys,
          tokens: erasure.tokens,
          left_upstream_objects: erasure.upstreamObjects,
          left_audit_entries: erasure.auditEntries,
          same_user_id: erasure.namesakes,
        },
        formatErasure(erasure, organization),
      )
    })
}

/** Above all what was done: an operator may have to say so to somebody. */
function formatErasure(erasure: Erasure, organization: Organization): string[] {
  return [
    '',
    'User erased successfully!',
    field('Organization', organization.name),
    field('Internal ID', erasure.userId),
    field('User ID', erasure.pseudonym),
    `Contents deleted: ${erasure.contents}`,
    `Feedback texts deleted: ${erasure.feedbackTexts}`,
    `API keys deactivated and unnamed: ${erasure.keys}`,
    `Tokens revoked: ${erasure.tokens}`,
    `Left at OpenAI, objects: ${erasure.upstreamObjects}`,
    `Left in the audit log, entries with the former user ID: ${erasure.auditEntries}`,
    `Other users of the same user ID: ${erasure.namesakes.join(', ') || 'none'}`,
  ]
}

interface UserGroup {
  organization: Organization
  users: User[]
}

function formatGroup({ organization, users }: UserGroup): string[] {
  if (users.length === 0) return ['No users found.']
  const head = `Users for Organization: ${plain(organization.name)} (${organization.id})`
  return ['', head, RULE, ...users.flatMap((user) => [...formatUser(user), RULE])]
}

function formatGroups(groups: UserGroup[]): string[] {
  if (groups.length === 0) return ['No organizations found.']
  const blocks = groups.flatMap(({ organization, users }) => [
    `Organization: ${plain(organization.name)} (${organization.id})`,
    RULE,
    ...(users.length === 0 ? ['  No users found.'] : []),
    ...users.flatMap((user) => [...formatUser(user), INNER_RULE].map((line) => `  ${line}`)),
    '',
  ])
  return ['', 'Users by Organization:', DOUBLE_RULE, ...blocks]
}

function formatUser(user: User): string[] {
  return [field('ID', user.id), field('User ID', user.externalId), field('Created', formatTime(user.createdAt))]
}

function toDocument(user: User, organization: Organization) {
  return {
    id: user.id,
    organization_id: organization.id,
    organization_name: organization.name,
    user_id: user.externalId,
    created_at: user.createdAt.toISOString(),
  }
}

const RULE = '-'.repeat(80)
const INNER_RULE = '-'.repeat(76)
const DOUBLE_RULE = '='.repeat(80)
