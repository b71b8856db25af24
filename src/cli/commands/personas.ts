import type { Command } from 'commander'
import { asAdministrator, OPERATOR } from '../../auth/caller.ts'
import { AppError } from '../../errors.ts'
import { getOrganization, type Organization } from '../../organizations/service.ts'
import type { Metadata } from '../../personas/metadata.ts'
import {
  createPersona,
  deletePersona,
  getPersonaInAnyOrganization,
  listPersonas,
  type Persona,
  updatePersona,
} from '../../personas/service.ts'
import type { Variables } from '../../personas/template.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { organizationsChosen } from '../organizations-chosen.ts'
import { field, formatTime, type OutputOptions, plain, printResult, printWarning } from '../output.ts'
import { readContent } from '../read-content.ts'

export function addPersonaCommands(program: Command): void {
  addCommand(
    program,
    'create-persona',
    'create a persona, a system prompt that calls can be made with',
    'create-persona <org-id> "Customer Support" "You are a helpful customer support agent."',
  )
    .argument('<org-id>', 'the id of the organization')
    .argument('<name>', 'its name, of which the organization has one')
    .argument('[content]', 'the system prompt; or --content-file')
    .option('--content-file <file>', 'read the content from this file; - is standard input')
    .option('--user-id <uuid>', 'only for this user (internal id); without it for the whole organization')
    .option('--description <text>', 'what it is for')
    .option('--variable <name=default>', 'what {{name}} in the content stands for; without =default required', collect)
    .option('--metadata <json>', 'an object of your own')
    .action(create)

  addCommand(program, 'list-personas', 'list personas, inactive ones included', 'list-personas --org-id <org-id>')
    .option('--org-id <uuid>', 'only those of this organization')
    .action(list)

  addCommand(program, 'get-persona', 'show a persona and its content', 'get-persona <persona-id>')
    .argument('<persona-id>', 'the id that list-personas shows')
    .action(async (id: string, options: OutputOptions) => {
      await using foundation = await connect()
      const { persona } = await getPersonaInAnyOrganization(foundation, OPERATOR, id)
      const organization = await getOrganization(foundation, OPERATOR, persona.organizationId)
      printResult(options, toDocument(persona, organization), formatDetails(persona, organization))
    })

  addCommand(
    program,
    'update-persona',
    'change a persona; another content is a new version',
    'update-persona <persona-id> --content "You are a patient support agent."',
  )
    .argument('<persona-id>', 'the id that list-personas shows')
    .option('--content <text>', 'the new system prompt')
    .option('--content-file <file>', 'read it from this file; - is standard input')
    .option('--draft', 'make the new version, and give it to no call yet')
    .option('--name <text>', 'the new name')
    .option('--description <text>', 'the new description; "" for none')
    .option('--user-id <uuid>', 'from now on only for this user (internal id)')
    .option('--everyone', 'from now on for the whole organization')
    .option('--variable <name=default>', 'the new variables, all of them', collect)
    .option('--no-variables', 'no variables any more')
    .option('--metadata <json>', 'the new metadata; null for none')
    .action(update)

  addCommand(program, 'deactivate-persona', 'stop a persona from being used', 'deactivate-persona <persona-id>')
    .argument('<persona-id>', 'the id that list-personas shows')
    .action((id: string, options: OutputOptions) => setActive(id, false, options))

  addCommand(program, 'activate-persona', 'let a persona be used again', 'activate-persona <persona-id>')
    .argument('<persona-id>', 'the id that list-personas shows')
    .action((id: string, options: OutputOptions) => setActive(id, true, options))

  addCommand(
    program,
    'delete-persona',
    'delete a persona; what was asked with it stays on record',
    'delete-persona <persona-id>',
  )
    .argument('<persona-id>', 'the id that list-personas shows')
    .action(async (id: string, options: OutputOptions) => {
      await using foundation = await connect()
      const { caller } = await getPersonaInAnyOrganization(foundation, OPERATOR, id)
      const { persona, removedDefaults } = await deletePersona(foundation, caller, id)
      if (removedDefaults > 0) printWarning(`It was a default in ${removedDefaults} places, which have none now.`)
      printResult(options, { id: persona.id, name: persona.name, deleted: true }, [
        `Persona deleted successfully: ${persona.id} (${plain(persona.name)})`,
      ])
    })
}

interface ContentOptions extends OutputOptions {
  content?: string
  contentFile?: string
  userId?: string
  description?: string
  variable?: string[]
  metadata?: string
}

async function create(
  organizationId: string,
  name: string,
  argument: string | undefined,
  options: ContentOptions,
): Promise<void> {
  const { contentFile, userId, description, variable, metadata } = options
  const content = await readContent({ argument, file: contentFile })
  if (content === undefined) {
    throw new AppError(
      'invalid_request',
      'There is no content: give it after the name, or name a file with --content-file.',
    )
  }
  await using foundation = await connect()
  const organization = await getOrganization(foundation, OPERATOR, organizationId)
  const persona = await createPersona(foundation, asAdministrator(OPERATOR, organization.id), {
    name,
    content,
    userId,
    description,
    variables: readVariables(variable),
    metadata: readMetadata(metadata),
  })
  printResult(options, toDocument(persona, organization), [
    '',
    'Persona created successfully!',
    field('Organization', organization.name),
    field('Name', persona.name),
    field('ID', persona.id),
  ])
}

async function list(options: OutputOptions & { orgId?: string }): Promise<void> {
  await using foundation = await connect()
  const found: { persona: Persona; organization: Organization }[] = []
  const lines: string[] = []
  for (const { organization, caller } of await organizationsChosen(foundation, options.orgId)) {
    const personas = await listPersonas(foundation, caller, { includeInactive: true })
    personas.sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime())
    found.push(...personas.map((persona) => ({ persona, organization })))
    if (personas.length > 0) lines.push(...formatGroup(organization, personas))
  }
  printResult(
    options,
    { personas: found.map(({ persona, organization }) => toDocument(persona, organization)) },
    found.length === 0 ? ['No personas found.'] : lines,
  )
}

interface UpdateOptions extends ContentOptions {
  draft?: boolean
  name?: string
  everyone?: boolean
  /** False for --no-variables. */
  variables: boolean
}

async function update(id: string, options: UpdateOptions): Promise<void> {
  const { content: argument, contentFile, userId, everyone, variable, variables, metadata, description } = options
  if (everyone && userId !== undefined) {
    throw new AppError('invalid_request', '--everyone and --user-id exclude each other.')
  }
  const content = await readContent({ argument, file: contentFile })
  await using foundation = await connect()
  const { caller, persona: before } = await getPersonaInAnyOrganization(foundation, OPERATOR, id)
  const changes = {
    name: options.name,
    description: description === '' ? null : description,
    content,
    userId: everyone ? null : userId,
    variables: variables ? readVariables(variable) : {},
    metadata: readMetadata(metadata),
    isDraft: options.draft,
  }
  if (Object.values(changes).every((change) => change === undefined)) {
    throw new AppError('invalid_request', 'There is nothing to change: see update-persona --help for what can be.')
  }
  const persona = await updatePersona(foundation, caller, id, changes)
  const organization = await getOrganization(foundation, OPERATOR, persona.organizationId)
  printResult(options, toDocument(persona, organization), [
    `Persona updated successfully: ${persona.id} (${plain(persona.name)})`,
    ...(persona.version === before.version ? [] : [`Version: ${persona.version}`]),
  ])
}

async function setActive(id: string, isActive: boolean, options: OutputOptions): Promise<void> {
  await using foundation = await connect()
  const { caller } = await getPersonaInAnyOrganization(foundation, OPERATOR, id)
  const persona = await updatePersona(foundation, caller, id, { isActive })
  const organization = await getOrganization(foundation, OPERATOR, persona.organizationId)
  printResult(options, toDocument(persona, organization), [
    `Persona ${isActive ? 'activated' : 'deactivated'} successfully: ${persona.id} (${plain(persona.name)})`,
  ])
}

function collect(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text]
}

function readVariables(texts: string[] | undefined): Variables | undefined {
  return (
    texts &&
    Object.fromEntries(
      texts.map((text) => {
        const equals = text.indexOf('=')
        return equals === -1 ? [text, null] : [text.slice(0, equals), text.slice(equals + 1)]
      }),
    )
  )
}

function readMetadata(text: string | undefined): Metadata | null | undefined {
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as Metadata | null
  } catch {
    throw new AppError('invalid_request', '--metadata is not valid JSON.')
  }
}

function formatGroup(organization: Organization, personas: readonly Persona[]): string[] {
  return [
    '',
    `Personas for Organization: ${plain(organization.name)} (${organization.id})`,
    RULE,
    ...personas.flatMap((persona) => [
      field('ID', persona.id),
      field('Name', persona.name),
      field('Description', persona.description),
      `User: ${formatUser(persona)}`,
      field('Active', persona.isActive ? 'True' : 'False'),
      `Content Length: ${[...persona.content].length} characters`,
      field('Created', formatTime(persona.createdAt)),
      RULE,
    ]),
  ]
}

/** What is not as it always was at first has a line: a later version, variables, a rollout. */
function formatDetails(persona: Persona, organization: Organization): string[] {
  const { version, variables, rollout } = persona
  const names = Object.entries(variables).map(([name, byDefault]) => `${name}=${byDefault ?? '(required)'}`)
  const shares = rollout?.versions.map((share) => `${share.version}=${share.percent}%`)
  return [
    '',
    'Persona Details:',
    RULE,
    field('ID', persona.id),
    field('Name', persona.name),
    field('Description', persona.description),
    `Organization: ${plain(organization.name)} (${organization.id})`,
    `User: ${formatUser(persona)}`,
    field('Active', persona.isActive ? 'True' : 'False'),
    field('Created', formatTime(persona.createdAt)),
    ...(version > 1 ? [`Version: ${version}`] : []),
    ...(names.length > 0 ? [field('Variables', names.join(', '))] : []),
    ...(shares ? [field('Rollout', `${shares.join(' ')}, by ${rollout?.stickyBy}`)] : []),
    ...(persona.metadata ? [field('Metadata', JSON.stringify(persona.metadata))] : []),
    '',
    'Content:',
    ...persona.content.split('\n').map(plain),
    RULE,
  ]
}

function formatUser(persona: Persona): string {
  if (persona.userId === null) return 'None (Organization-wide)'
  return `${plain(persona.externalUserId ?? 'deleted')} (${persona.userId})`
}

function toDocument(persona: Persona, organization: Organization) {
  return {
    id: persona.id,
    organization_id: organization.id,
    organization_name: organization.name,
    name: persona.name,
    description: persona.description,
    user_id: persona.userId,
    external_user_id: persona.externalUserId,
    content: persona.content,
    variables: persona.variables,
    version: persona.version,
    rollout: persona.rollout ? { sticky_by: persona.rollout.stickyBy, versions: persona.rollout.versions } : null,
    metadata: persona.metadata,
    is_active: persona.isActive,
    created_at: persona.createdAt.toISOString(),
    updated_at: persona.updatedAt.toISOString(),
  }
}

const RULE = '-'.repeat(80)
