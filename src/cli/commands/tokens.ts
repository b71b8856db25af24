import { type Command, InvalidArgumentError } from 'commander'
import { asAdministrator, type Caller, OPERATOR, SCOPES, type Scope } from '../../auth/caller.ts'
import type { Db } from '../../db/database.ts'
import { AppError } from '../../errors.ts'
import { isUuid } from '../../ids.ts'
import { getOrganization, getOrganizationByName, type Organization } from '../../organizations/service.ts'
import { createToken, listTokens, revokeAllTokens, revokeToken, type Token } from '../../tokens/service.ts'
import { getUser } from '../../users/service.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { organizationsChosen } from '../organizations-chosen.ts'
import { field, formatTime, type OutputOptions, plain, printResult, printWarning } from '../output.ts'

export function addTokenCommands(program: Command): void {
  addCommand(
    program,
    'create-jwt',
    'create a token for an organization; it is shown once',
    'create-jwt --org-name "Acme Corporation" --days 30 --scope inference',
  )
    .requiredOption('--org-name <name>', 'the organization')
    .option('--org-id <uuid>', 'its id; needed when several organizations have that name')
    .option('--days <n>', 'how long it is valid (default: JWT_EXPIRATION_DAYS)')
    .option(
      '--scope <scopes>',
      `what it may do: ${SCOPES.join(', ')} (default: both, bound to a user inference)`,
      scopes,
    )
    .option('--name <text>', 'what to call it in list-tokens')
    .option('--user-id <id>', 'only for this user (external id, or the internal id of one there is)')
    .action(create)

  addCommand(program, 'list-tokens', 'list tokens, revoked and expired ones included', 'list-tokens --org-id <org-id>')
    .option('--org-id <uuid>', 'only those of this organization')
    .action(list)

  addCommand(program, 'revoke-token', 'revoke a token, everywhere within a second', 'revoke-token <token-id>')
    .argument('<token-id>', 'the id that create-jwt and list-tokens show')
    .action(async (id: string, options: OutputOptions) => {
      await using foundation = await connect()
      const token = await revokeToken(foundation, OPERATOR, id)
      const organization = await getOrganization(foundation, OPERATOR, token.organizationId)
      printResult(options, toDocument(token, organization), [`Token revoked: ${token.id}`])
    })

  addCommand(program, 'revoke-tokens', 'revoke every token of an organization', 'revoke-tokens --org-id <org-id>')
    .requiredOption('--org-id <uuid>', 'the organization')
    .action(async (options: OutputOptions & { orgId: string }) => {
      await using foundation = await connect()
      const organization = await getOrganization(foundation, OPERATOR, options.orgId)
      const { generation } = await revokeAllTokens(foundation, asAdministrator(OPERATOR, organization.id))
      printResult(options, { organization_id: organization.id, organization_name: organization.name, generation }, [
        `All tokens revoked: ${plain(organization.name)} (${organization.id})`,
      ])
    })
}

interface CreateOptions extends OutputOptions {
  orgName: string
  orgId?: string
  days?: string
  scope?: Scope[]
  name?: string
  userId?: string
}

async function create(options: CreateOptions): Promise<void> {
  await using foundation = await connect()
  const organization = await findOrganization(foundation, options)
  const caller = asAdministrator(OPERATOR, organization.id)
  const externalUserId = await externalIdOf(foundation, caller, options.userId)
  const days = options.days === undefined ? foundation.config.jwtExpirationDays : Number(options.days)
  const { token, jwt } = await createToken(foundation, caller, {
    name: options.name,
    scopes: options.scope ?? (externalUserId === undefined ? SCOPES : ['inference']),
    days,
    externalUserId,
  })
  const isAdministrative = token.scopes.includes('org:admin')
  printResult(options, { ...toDocument(token, organization), days, token: jwt.reveal() }, [
    '',
    DOUBLE_RULE,
    'JWT TOKEN CREATED SUCCESSFULLY',
    DOUBLE_RULE,
    field('Organization ID', organization.id),
    field('Organization Name', organization.name),
    field('Expires', token.expiresAt.toISOString()),
    `Valid for: ${days} days`,
    field('Scopes', token.scopes.join(', ')),
    ...(token.externalUserId === null ? [] : [field('User', token.externalUserId)]),
    field('Token ID', token.id),
    '',
    'Token:',
    RULE,
    jwt.reveal(),
    RULE,
    '',
    'Use this token in the Authorization header:',
    `Authorization: Bearer ${jwt.reveal()}`,
    ...(isAdministrative
      ? ['', 'It may administer the organization: give applications one with --scope inference.']
      : []),
    DOUBLE_RULE,
  ])
}

async function list(options: OutputOptions & { orgId?: string }): Promise<void> {
  await using foundation = await connect()
  const found: { token: Token; organization: Organization }[] = []
  for (const { organization, caller } of await organizationsChosen(foundation, options.orgId)) {
    found.push(...(await listTokens(foundation, caller)).map((token) => ({ token, organization })))
  }
  printResult(
    options,
    { tokens: found.map(({ token, organization }) => toDocument(token, organization)) },
    found.length === 0
      ? ['No tokens found.']
      : ['', 'Tokens:', WIDE_RULE, ...found.flatMap(({ token, organization }) => formatToken(token, organization))],
  )
}

/** The id decides; the name alone will do while only one organization has it. */
async function findOrganization(deps: { db: Db }, { orgId, orgName }: CreateOptions): Promise<Organization> {
  if (orgId !== undefined) {
    const organization = await getOrganization(deps, OPERATOR, orgId)
    if (organization.name !== orgName.trim()) {
      printWarning(
        `The organization is called "${organization.name}", not "${orgName}"; the token carries its own name.`,
      )
    }
    return organization
  }
  try {
    return await getOrganizationByName(deps, OPERATOR, orgName.trim())
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    if (error.code === 'not_found') {
      throw new AppError('not_found', `Organization not found: ${orgName}; create it first with create-org.`)
    }
    if (error.code === 'conflict') {
      throw new AppError('conflict', `Several organizations are called "${orgName}": say which one with --org-id.`)
    }
    throw error
  }
}

/** Users are bound by external id; an operator may have the internal one at hand. */
async function externalIdOf(deps: { db: Db }, caller: Caller, userId: string | undefined): Promise<string | undefined> {
  if (userId === undefined || !isUuid(userId)) return userId
  try {
    return (await getUser(deps, caller, userId)).externalId
  } catch (error) {
    if (error instanceof AppError && error.code === 'not_found') return userId
    throw error
  }
}

/** Takes `--scope a,b`, `--scope "a b"` and `--scope a --scope b`. */
function scopes(text: string, previous: Scope[] = []): Scope[] {
  const named = text.split(/[\s,]+/).filter(Boolean)
  const known = SCOPES.filter((scope) => named.includes(scope))
  if (named.length === 0 || named.some((name) => !known.some((scope) => scope === name))) {
    throw new InvalidArgumentError(`Scopes are ${SCOPES.join(' and ')}.`)
  }
  return [...previous, ...known]
}

function formatToken(token: Token, organization: Organization): string[] {
  return [
    field('ID', token.id),
    `Organization: ${plain(organization.name)} (${organization.id})`,
    field('Name', token.name),
    field('User', token.externalUserId),
    field('Scopes', token.scopes.join(', ')),
    field('State', stateOf(token)),
    field('Created', formatTime(token.createdAt)),
    field('Expires', formatTime(token.expiresAt)),
    ...(token.revokedAt ? [field('Revoked', formatTime(token.revokedAt))] : []),
    WIDE_RULE,
  ]
}

function stateOf({ revokedAt, expiresAt }: Token): 'valid' | 'revoked' | 'expired' {
  if (revokedAt) return 'revoked'
  return expiresAt.getTime() <= Date.now() ? 'expired' : 'valid'
}

function toDocument(token: Token, organization: Organization) {
  return {
    id: token.id,
    organization_id: organization.id,
    organization_name: organization.name,
    name: token.name,
    user_id: token.externalUserId,
    scopes: token.scopes,
    state: stateOf(token),
    created_at: token.createdAt.toISOString(),
    expires_at: token.expiresAt.toISOString(),
    revoked_at: token.revokedAt?.toISOString() ?? null,
  }
}

const RULE = '-'.repeat(60)
const DOUBLE_RULE = '='.repeat(60)
const WIDE_RULE = '-'.repeat(80)
