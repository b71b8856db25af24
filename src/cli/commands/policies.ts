import { type Command, Option } from 'commander'
import { asAdministrator, OPERATOR } from '../../auth/caller.ts'
import { getPolicies, type Policies, toPoliciesRow, updatePolicies } from '../../organizations/policies.ts'
import { getOrganization } from '../../organizations/service.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { type OutputOptions, printResult } from '../output.ts'

type PolicyOptions = OutputOptions & {
  clientGone?: Policies['clientGone']
  unpricedModels?: Policies['unpricedModels']
  content?: Policies['content']
  contentDays?: string
  rowsDays?: string
  maxConcurrentRequests?: string
  personas?: Policies['personas']
  systemItems?: Policies['systemItems']
  shareObjects?: Policies['shareObjects']
  models?: string
  identifiers?: string
  clientSecrets?: Policies['clientSecrets']
  websockets?: Policies['websockets']
}

/** `policies <org-id>` shows how an organization's calls are treated; with options it changes that. */
export function addPolicyCommands(program: Command): void {
  addCommand(
    program,
    'policies',
    "show or change how an organization's calls are treated",
    'policies <org-id> --client-gone drain --unpriced-models refuse',
  )
    .argument('<org-id>', 'the organization')
    .addOption(
      new Option(
        '--client-gone <policy>',
        'when the client hangs up: cut the call and estimate, or read it to its end',
      ).choices(['abort', 'drain']),
    )
    .addOption(
      new Option('--unpriced-models <policy>', 'calls to a model without a price').choices(['allow', 'refuse']),
    )
    .addOption(
      new Option('--content <policy>', 'what is kept of requests and answers, sealed').choices(['full', 'none']),
    )
    .option('--content-days <n>', 'for how many days what comes next is kept')
    .option('--rows-days <n>', 'for how many days rows of calls are kept; "default": as the installation says')
    .option('--max-concurrent-requests <n>', 'requests under way at one time on each server; "default": as configured')
    .addOption(
      new Option('--personas <policy>', "a caller's own instructions, where there is a persona").choices([
        'replace',
        'append',
        'enforce',
      ]),
    )
    .addOption(
      new Option(
        '--system-items <policy>',
        'messages of the roles system and developer, under --personas enforce',
      ).choices(['allow', 'drop', 'refuse']),
    )
    .addOption(
      new Option(
        '--share-objects <policy>',
        'who may use responses, files and other objects: who made them, or all',
      ).choices(['user', 'organization']),
    )
    .option('--models <list>', 'the only models that may be used, comma-separated, such as gpt-5,gpt-5-*; or all')
    .addOption(
      new Option(
        '--identifiers <policy>',
        'how prompt_cache_key, safety_identifier and user reach OpenAI: hashed, hashed and never without one, or as sent',
      ).choices(['namespaced', 'always', 'as-sent']),
    )
    .addOption(
      new Option(
        '--client-secrets <policy>',
        'realtime secrets that let an application talk to OpenAI past the proxy',
      ).choices(['refuse', 'allow']),
    )
    .addOption(
      new Option(
        '--websockets <policy>',
        'calls over WebSockets; refused ones are answered with 426, upon which Codex uses HTTP',
      ).choices(['allow', 'refuse']),
    )
    .action(async (organizationId: string, options: PolicyOptions) => {
      await using foundation = await connect()
      const organization = await getOrganization(foundation, OPERATOR, organizationId)
      const caller = asAdministrator(OPERATOR, organization.id)
      const { clientGone, unpricedModels, content, contentDays, rowsDays, personas, systemItems } = options
      const { shareObjects, models, identifiers, clientSecrets, maxConcurrentRequests, websockets } = options
      const changes = {
        ...(clientGone && { clientGone }),
        ...(unpricedModels && { unpricedModels }),
        ...(content && { content }),
        ...(contentDays !== undefined && { contentDays: Number(contentDays) }),
        ...(rowsDays !== undefined && { rowsDays: rowsDays === 'default' ? null : Number(rowsDays) }),
        ...(maxConcurrentRequests !== undefined && {
          maxConcurrentRequests: maxConcurrentRequests === 'default' ? null : Number(maxConcurrentRequests),
        }),
        ...(personas && { personas }),
        ...(systemItems && { systemItems }),
        ...(shareObjects && { shareObjects }),
        ...(models !== undefined && { models: parseModels(models) }),
        ...(identifiers && { identifiers: identifiers.replace('-', '_') as Policies['identifiers'] }),
        ...(clientSecrets && { clientSecrets }),
        ...(websockets && { websockets }),
      }
      const policies =
        Object.keys(changes).length > 0
          ? await updatePolicies(foundation, caller, changes)
          : await getPolicies(foundation, caller)
      printResult(options, { organization_id: organization.id, ...toPoliciesRow(policies) }, [
        '',
        `Organization: ${organization.name} (${organization.id})`,
        `Client gone: ${policies.clientGone}`,
        `Unpriced models: ${policies.unpricedModels}`,
        `Concurrent requests: ${policies.maxConcurrentRequests ?? 'as configured'}`,
        `Content: ${policies.content === 'full' ? `kept for ${policies.contentDays} days` : 'not kept'}`,
        `Rows: ${policies.rowsDays === null ? 'as the installation says' : `kept for ${policies.rowsDays} days`}`,
        `Personas: ${policies.personas}`,
        `System items: ${policies.systemItems}`,
        `Objects: ${policies.shareObjects === 'user' ? 'each of the user who made it' : 'shared within the organization'}`,
        `Models: ${policies.models?.join(', ') ?? 'all'}`,
        `Identifiers: ${policies.identifiers}`,
        `Client secrets: ${policies.clientSecrets}`,
        `WebSockets: ${policies.websockets}`,
      ])
    })
}

/** `all`, or names with commas between them. */
function parseModels(text: string): string[] | null {
  if (text.trim() === 'all') return null
  return text
    .split(',')
    .map((model) => model.trim())
    .filter((model) => model !== '')
}
