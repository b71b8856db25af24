import { type Command, Option } from 'commander'
import { OPERATOR } from '../../auth/caller.ts'
import { getOrganization } from '../../organizations/service.ts'
import { adoptObject } from '../../ownership/adopt.ts'
import { OBJECT_KINDS, type ObjectKind } from '../../ownership/kinds.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { field, type OutputOptions, printResult } from '../output.ts'

interface AdoptOptions extends OutputOptions {
  kind: ObjectKind
  key: string
  userId?: string
}

/** `adopt`: makes what exists at OpenAI usable here. */
export function addAdoptCommand(program: Command): void {
  addCommand(
    program,
    'adopt',
    "make an object that was not made through the proxy an organization's own",
    'adopt <org-id> pmpt_68a1f0 --kind prompt --key <key-id>',
  )
    .argument('<org-id>', 'the id of the organization')
    .argument('<object-id>', "OpenAI's id of it, such as file-AbC123, vs_AbC123 or connector_gmail")
    .addOption(new Option('--kind <kind>', 'what it is').choices(OBJECT_KINDS).makeOptionMandatory())
    .requiredOption('--key <uuid>', 'the id of the API key whose OpenAI project has it')
    .option('--user-id <uuid>', 'only for this user (internal id); without it for everybody in the organization')
    .action(async (organizationId: string, objectId: string, options: AdoptOptions) => {
      await using foundation = await connect()
      const organization = await getOrganization(foundation, OPERATOR, organizationId)
      const object = await adoptObject(foundation, OPERATOR, organization.id, {
        objectId,
        kind: options.kind,
        userId: options.userId ?? null,
        apiKeyId: options.key,
      })
      printResult(
        options,
        {
          organization_id: organization.id,
          object_id: object.objectId,
          kind: object.kind,
          user_id: object.userId,
          api_key_id: object.apiKeyId,
        },
        [
          '',
          'Object adopted successfully!',
          field('Organization', organization.name),
          field('Object', object.objectId),
          field('Kind', object.kind),
          field('User ID', object.userId ?? 'everybody in the organization'),
          field('API key', object.apiKeyId),
        ],
      )
    })
}
