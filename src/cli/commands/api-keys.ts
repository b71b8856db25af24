import type { Command } from 'commander'
import { parseBaseUrl } from '../../api-keys/base-url.ts'
import {
  type ApiKey,
  createApiKey,
  findApiKeyInAnyOrganization,
  listApiKeys,
  updateApiKey,
} from '../../api-keys/service.ts'
import { asAdministrator, OPERATOR } from '../../auth/caller.ts'
import { AppError } from '../../errors.ts'
import { isUuid } from '../../ids.ts'
import { getOrganization, type Organization } from '../../organizations/service.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { organizationsChosen } from '../organizations-chosen.ts'
import { field, formatTime, type OutputOptions, plain, printResult } from '../output.ts'
import { readUpstreamKey } from '../read-upstream-key.ts'

export function addApiKeyCommands(program: Command): void {
  addCommand(
    program,
    'create-key',
    'seal an OpenAI key, and make the synthetic key that stands for it',
    'create-key <org-id> --name "Production Key" --key-file openai-key.txt',
  )
    .argument('<org-id>', 'the id of the organization')
    .argument('[openai-key]', 'better given by --key-file, on standard input, or when asked for')
    .option('--user-id <uuid>', 'only for this user (internal id); without it for the whole organization')
    .option('--name <text>', 'what to call it')
    .option('--description <text>', 'what it is for')
    .option('--base-url <url>', 'where its calls go instead of OPENAI_API_BASE_URL')
    .option('--key-file <file>', 'read the OpenAI key from this file')
    .action(create)

  addCommand(program, 'list-keys', 'list API keys, inactive ones included', 'list-keys --org-id <org-id>')
    .option('--org-id <uuid>', 'only those of this organization')
    .option('--user-id <uuid>', 'only those of this user (internal id)')
    .action(list)

  addCommand(program, 'deactivate-key', 'stop an API key from working', 'deactivate-key sk-proxy-AbCd1234')
    .argument('<key>', 'its id, its first characters as list-keys shows them, or the whole synthetic key')
    .action((key: string, options: OutputOptions) => setActive(key, false, options))

  addCommand(program, 'activate-key', 'let a deactivated API key work again', 'activate-key sk-proxy-AbCd1234')
    .argument('<key>', 'its id, its first characters as list-keys shows them, or the whole synthetic key')
    .action((key: string, options: OutputOptions) => setActive(key, true, options))
}

interface CreateOptions extends OutputOptions {
  userId?: string
  name?: string
  description?: string
  baseUrl?: string
  keyFile?: string
}

async function create(organizationId: string, upstreamKey: string | undefined, options: CreateOptions): Promise<void> {
  const { userId, name, description, keyFile } = options
  if (upstreamKey !== undefined && keyFile !== undefined) {
    throw new AppError('invalid_request', 'The OpenAI key was given twice: as an argument and with --key-file.')
  }
  await using foundation = await connect()
  const organization = await getOrganization(foundation, OPERATOR, organizationId)
  const baseUrl = options.baseUrl === undefined ? null : parseBaseUrl(options.baseUrl, foundation.config)
  const { apiKey, syntheticKey } = await createApiKey(foundation, asAdministrator(OPERATOR, organization.id), {
    upstreamKey: await readUpstreamKey({ argument: upstreamKey, file: keyFile }),
    userId,
    name,
    description,
    baseUrl,
  })
  printResult(options, { ...toDocument(apiKey, organization), synthetic_key: syntheticKey.reveal() }, [
    '',
    'API key created successfully!',
    field('Organization', organization.name),
    ...(apiKey.userId === null ? [] : [field('User ID', apiKey.userId)]),
    ...(apiKey.name === null ? [] : [field('Name', apiKey.name)]),
    ...(apiKey.baseUrl === null ? [] : [field('Base URL', apiKey.baseUrl)]),
    field('Synthetic Key', syntheticKey.reveal()),
    '',
    'Use this synthetic key in your API requests. It is shown this once: keep it now.',
  ])
}

async function list(options: OutputOptions & { orgId?: string; userId?: string }): Promise<void> {
  const { orgId, userId } = options
  if (userId !== undefined && !isUuid(userId)) {
    throw new AppError('invalid_request', `Invalid UUID format: ${userId}`)
  }
  await using foundation = await connect()
  const found: { apiKey: ApiKey; organization: Organization }[] = []
  for (const { organization, caller } of await organizationsChosen(foundation, orgId)) {
    const apiKeys = await listApiKeys(foundation, caller, { userId, includeInactive: true })
    found.push(...apiKeys.map((apiKey) => ({ apiKey, organization })))
  }
  printResult(
    options,
    { api_keys: found.map(({ apiKey, organization }) => toDocument(apiKey, organization)) },
    found.length === 0
      ? ['No API keys found.']
      : [
          '',
          'API Keys:',
          RULE,
          ...found.flatMap(({ apiKey, organization }) => [...formatApiKey(apiKey, organization), RULE]),
        ],
  )
}

async function setActive(text: string, isActive: boolean, options: OutputOptions): Promise<void> {
  await using foundation = await connect()
  const found = await findApiKeyInAnyOrganization(foundation, OPERATOR, text)
  if (!found) throw new AppError('not_found', `API key not found: ${abridged(text)}`)
  const apiKey = await updateApiKey(foundation, found.caller, found.apiKey.id, { isActive })
  const organization = await getOrganization(foundation, OPERATOR, apiKey.organizationId)
  printResult(options, toDocument(apiKey, organization), [
    `API key ${isActive ? 'activated' : 'deactivated'}: ${apiKey.maskedSyntheticKey}`,
  ])
}

/** What was typed may be a whole key, of ours with a slip or even of OpenAI: neither belongs in a terminal's history. */
function abridged(text: string): string {
  return text.startsWith('sk-') && text.length > SHOWN_LENGTH && !text.includes('...')
    ? `${text.slice(0, SHOWN_LENGTH)}...`
    : text
}

/** `sk-proxy-` and eight characters. */
const SHOWN_LENGTH = 17

function formatApiKey(apiKey: ApiKey, organization: Organization): string[] {
  return [
    field('ID', apiKey.id),
    `Organization: ${plain(organization.name)} (${organization.id})`,
    field('User', apiKey.externalUserId),
    field('Name', apiKey.name),
    field('Description', apiKey.description),
    ...(apiKey.baseUrl === null ? [] : [field('Base URL', apiKey.baseUrl)]),
    field('Synthetic Key', apiKey.maskedSyntheticKey),
    field('Active', apiKey.isActive ? 'True' : 'False'),
    field('Created', formatTime(apiKey.createdAt)),
  ]
}

function toDocument(apiKey: ApiKey, organization: Organization) {
  return {
    id: apiKey.id,
    organization_id: organization.id,
    organization_name: organization.name,
    user_id: apiKey.userId,
    external_user_id: apiKey.externalUserId,
    name: apiKey.name,
    description: apiKey.description,
    base_url: apiKey.baseUrl,
    synthetic_key: apiKey.maskedSyntheticKey,
    is_active: apiKey.isActive,
    created_at: apiKey.createdAt.toISOString(),
    updated_at: apiKey.updatedAt.toISOString(),
  }
}

const RULE = '-'.repeat(80)
