import { randomUUID } from 'node:crypto'
import { recordAudit } from '../audit/service.ts'
import { asAdministrator, type Caller, type Operator, requireScope, SCOPES, type Scope } from '../auth/caller.ts'
import { signToken, TOKEN_DAYS_MAX, type TokenClaims } from '../auth/jwt.ts'
import type { JwtSecrets } from '../auth/jwt-secrets.ts'
import type { Db } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { isUuid } from '../ids.ts'
import type { Secret } from '../secret.ts'
import { parseExternalId } from '../users/external-id.ts'
import {
  findGeneration,
  findTokenRowInAny,
  insertToken,
  isTokenValid,
  listTokenRows,
  markTokenRevoked,
  raiseGeneration,
} from './store.ts'

/** A token as it is on record; the token itself is shown once and kept nowhere. */
export interface Token {
  id: string
  organizationId: string
  name: string | null
  scopes: Scope[]
  externalUserId: string | null
  createdAt: Date
  expiresAt: Date
  revokedAt: Date | null
}

export interface NewToken {
  name?: string | undefined
  scopes?: readonly Scope[]
  days: number
  /** Binds the token to one user, by external id. */
  externalUserId?: string | undefined
}

/** Signs a token for the caller's organization, with no more scopes than the caller has. */
export async function createToken(
  { db, jwtSecrets }: { db: Db; jwtSecrets: JwtSecrets },
  caller: Caller,
  input: NewToken,
): Promise<{ token: Token; organizationName: string; jwt: Secret }> {
  requireScope(caller, 'org:admin')
  if (!Number.isInteger(input.days) || input.days < 1 || input.days > TOKEN_DAYS_MAX) {
    throw new AppError('invalid_request', `A token is valid for 1 to ${TOKEN_DAYS_MAX} whole days.`, { param: 'days' })
  }
  // A token for one user is for an application of theirs: administering is never meant by default.
  const scopes = [...new Set(input.scopes ?? (input.externalUserId === undefined ? SCOPES : (['inference'] as const)))]
  if (scopes.length === 0) throw new AppError('invalid_request', 'A token needs a scope.', { param: 'scope' })
  for (const scope of scopes) requireScope(caller, scope)
  const externalUserId =
    input.externalUserId === undefined ? undefined : parseExternalId(input.externalUserId, 'user_id')
  if ((input.name?.length ?? 0) > 255)
    throw new AppError('invalid_request', 'name has up to 255 characters.', { param: 'name' })
  const expiresAtSeconds = Math.floor(Date.now() / 1000) + input.days * 86_400

  return db.forOrganization(caller.organizationId, async (tx) => {
    const organization = await findGeneration(tx, caller.organizationId)
    if (!organization) throw new AppError('not_found', `Organization not found: ${caller.organizationId}`)
    const row = await insertToken(tx, caller.organizationId, {
      id: randomUUID(),
      name: input.name ?? null,
      scopes,
      external_user_id: externalUserId ?? null,
      generation: organization.token_generation,
      expires_at: new Date(expiresAtSeconds * 1000),
    })
    await recordAudit(tx, caller, { action: 'token.create', target: row.id, details: { scopes, days: input.days } })
    const jwt = await signToken(jwtSecrets.signing, {
      organizationId: caller.organizationId,
      organizationName: organization.name,
      tokenId: row.id,
      generation: row.generation,
      scopes,
      externalUserId,
      expiresAtSeconds,
    })
    return { token: toToken(row), organizationName: organization.name, jwt }
  })
}

export async function listTokens({ db }: { db: Db }, caller: Caller): Promise<Token[]> {
  requireScope(caller, 'org:admin')
  const rows = await db.forOrganization(caller.organizationId, (tx) => listTokenRows(tx, caller.organizationId))
  return rows.map(toToken)
}

/** Revokes one token, whichever organization it is of; it stops working everywhere within a second. */
export async function revokeToken({ db }: { db: Db }, operator: Operator, id: string): Promise<Token> {
  if (!isUuid(id)) throw new AppError('invalid_request', `Invalid UUID format: ${id}`, { param: 'token_id' })
  const found = await db.forOperator((tx) => findTokenRowInAny(tx, id))
  if (!found) throw new AppError('not_found', `Token not found: ${id}`)
  const caller = asAdministrator(operator, found.organization_id)
  return db.forOrganization(caller.organizationId, async (tx) => {
    const row = await markTokenRevoked(tx, caller.organizationId, id)
    if (!row) throw new AppError('not_found', `Token not found: ${id}`)
    await recordAudit(tx, caller, { action: 'token.revoke', target: id })
    return toToken(row)
  })
}

/** Revokes every token of an organization at once, those of backups and lost lists included. */
export async function revokeAllTokens({ db }: { db: Db }, caller: Caller): Promise<{ generation: number }> {
  requireScope(caller, 'org:admin')
  return db.forOrganization(caller.organizationId, async (tx) => {
    const generation = await raiseGeneration(tx, caller.organizationId)
    await recordAudit(tx, caller, {
      action: 'token.revoke_all',
      target: caller.organizationId,
      details: { generation },
    })
    return { generation }
  })
}

/** Whether a token whose signature holds is still wanted. Legacy tokens only need their organization to exist. */
export async function isTokenAccepted({ db }: { db: Db }, claims: TokenClaims): Promise<boolean> {
  const { organizationId, tokenId, generation } = claims
  return db.forOrganization(organizationId, async (tx) => {
    if (tokenId === undefined || generation === undefined)
      return (await findGeneration(tx, organizationId)) !== undefined
    return isTokenValid(tx, organizationId, tokenId, generation)
  })
}

function toToken(row: Awaited<ReturnType<typeof insertToken>>): Token {
  return {
    id: row.id,
    organizationId: row.organization_id,
    name: row.name,
    scopes: SCOPES.filter((scope) => row.scopes.includes(scope)),
    externalUserId: row.external_user_id,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
  }
}
