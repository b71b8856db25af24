import type { Command } from 'commander'
import { asAdministrator, OPERATOR } from '../../auth/caller.ts'
import { AppError } from '../../errors.ts'
import { getOrganization } from '../../organizations/service.ts'
import {
  type DefaultScope,
  listDefaults,
  type PersonaDefault,
  removeDefault,
  setDefault,
} from '../../personas/defaults.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { type Column, formatTable, type OutputOptions, printResult } from '../output.ts'

interface DefaultOptions extends OutputOptions {
  userId?: string
  keyId?: string
  remove?: boolean
}

/** `persona-defaults <org-id>` shows the personas of calls that name none; with a persona or `--remove` it changes one. */
export function addPersonaDefaultCommands(program: Command): void {
  addCommand(
    program,
    'persona-defaults',
    'show or change the personas of calls that name none',
    'persona-defaults <org-id> <persona-id> --user-id <user-id>',
  )
    .argument('<org-id>', 'the organization')
    .argument('[persona-id]', 'the persona to make the default')
    .option('--user-id <uuid>', 'for the calls of this user (internal id)')
    .option('--key-id <uuid>', 'for the calls made with this API key')
    .option('--remove', 'remove the default')
    .action(async (organizationId: string, personaId: string | undefined, options: DefaultOptions) => {
      const scope = readScope(options)
      if (options.remove && personaId !== undefined) {
        throw new AppError(
          'invalid_request',
          '--remove takes no persona: the default is named by --user-id or --key-id.',
        )
      }
      if (scope.kind !== 'organization' && !options.remove && personaId === undefined) {
        throw new AppError('invalid_request', 'Name the persona to make the default, or say --remove.')
      }
      await using foundation = await connect()
      const organization = await getOrganization(foundation, OPERATOR, organizationId)
      const caller = asAdministrator(OPERATOR, organization.id)
      if (options.remove) await removeDefault(foundation, caller, scope)
      else if (personaId !== undefined) await setDefault(foundation, caller, scope, personaId)
      const defaults = await listDefaults(foundation, caller)
      printResult(
        options,
        { organization_id: organization.id, defaults: defaults.map(toDocument) },
        defaults.length === 0 ? ['No default personas.'] : ['', ...formatTable(COLUMNS, defaults)],
      )
    })
}

function readScope({ userId, keyId }: DefaultOptions): DefaultScope {
  if (userId !== undefined && keyId !== undefined) {
    throw new AppError('invalid_request', '--user-id and --key-id exclude each other: a default is for one of them.')
  }
  if (keyId !== undefined) return { kind: 'key', id: keyId }
  return userId === undefined ? { kind: 'organization' } : { kind: 'user', id: userId }
}

function toDocument({ scope, externalUserId, personaId, personaName, isActive }: PersonaDefault) {
  return {
    scope: scope.kind,
    user_id: scope.kind === 'user' ? scope.id : null,
    external_user_id: externalUserId,
    key_id: scope.kind === 'key' ? scope.id : null,
    persona_id: personaId,
    persona_name: personaName,
    is_active: isActive,
  }
}

const COLUMNS: Column<PersonaDefault>[] = [
  { title: 'Scope', value: ({ scope }) => scope.kind },
  {
    title: 'For',
    value: ({ scope, externalUserId }) => externalUserId ?? (scope.kind === 'organization' ? '-' : scope.id),
  },
  { title: 'Persona', value: ({ personaName }) => personaName },
  { title: 'Persona ID', value: ({ personaId }) => personaId },
  { title: 'Active', value: ({ isActive }) => (isActive ? 'True' : 'False') },
]
