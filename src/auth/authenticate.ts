import { createHash } from 'node:crypto'
import type { KeyRing } from '../api-keys/key-ring.ts'
import { PREFIX } from '../api-keys/synthetic-key.ts'
import type { Db } from '../db/database.ts'
import type { OrganizationCache } from '../db/organization-cache.ts'
import { AppError } from '../errors.ts'
import { isTokenAccepted } from '../tokens/service.ts'
import { parseExternalId } from '../users/external-id.ts'
import type { UserDirectory } from '../users/service.ts'
import type { Caller, Scope } from './caller.ts'
import { verifyToken } from './jwt.ts'
import type { JwtSecrets } from './jwt-secrets.ts'

/** A credential that holds: a caller, and what it says about users. */
export interface Credential extends Caller {
  readonly kind: 'token' | 'synthetic_key'
  /** The one user this credential speaks for, if it is bound to one. */
  readonly boundUser: { externalId: string; id: string | undefined } | undefined
  /** The presented API key, when a synthetic key was. */
  readonly apiKeyId: string | undefined
}

/** On whose behalf a request is made. */
export interface Identity {
  readonly organizationId: string
  /** Null: an organization-wide key without `X-User-ID`. */
  readonly userId: string | null
  readonly apiKeyId: string | undefined
}

/** One check for both ways in: an organization's token, or a synthetic key. */
export interface Authenticator {
  /**
   * @param authorization the value of the `Authorization` header.
   * @throws {AppError} `invalid_authentication`, the same for every reason.
   */
  authenticate(authorization: string | undefined): Credential | Promise<Credential>
  /**
   * @param externalUserId the value of `X-User-ID`.
   * @throws {AppError} `missing_user_id`, or `user_mismatch` when the credential is bound to another user.
   */
  identify(credential: Credential, externalUserId: string | undefined): Identity | Promise<Identity>
}

export function openAuthenticator(deps: {
  db: Db
  cache: OrganizationCache
  jwtSecrets: JwtSecrets
  acceptLegacyTokens: boolean
  keyRing: KeyRing
  users: UserDirectory
}): Authenticator {
  const { db, cache, jwtSecrets, acceptLegacyTokens, keyRing, users } = deps

  async function authenticateToken(token: string): Promise<Credential> {
    // The whole token's hash: a prefix as the key of a cache has let one caller in as another.
    const digest = createHash('sha256').update(token).digest('base64')
    const known = await cache.read(`token:${digest}`, async () => {
      const claims = await verifyToken(jwtSecrets, token, { acceptLegacy: acceptLegacyTokens })
      if (!claims || !(await isTokenAccepted({ db }, claims))) throw invalidCredentials()
      const { organizationId, externalUserId } = claims
      const credential: Credential = {
        kind: 'token',
        organizationId,
        scopes: claims.scopes,
        actor: `token:${claims.tokenId ?? 'legacy'}`,
        boundUser: externalUserId === undefined ? undefined : { externalId: externalUserId, id: undefined },
        apiKeyId: undefined,
      }
      return { organizationId, value: { credential, expiresAtSeconds: claims.expiresAtSeconds } }
    })
    if (known.expiresAtSeconds + CLOCK_SKEW_SECONDS <= Date.now() / 1000) throw invalidCredentials()
    return known.credential
  }

  async function authenticateKey(syntheticKey: string): Promise<Credential> {
    const owner = await keyRing.owner(syntheticKey)
    return {
      kind: 'synthetic_key',
      organizationId: owner.organizationId,
      scopes: KEY_SCOPES,
      actor: `key:${owner.apiKeyId}`,
      boundUser: owner.user ?? undefined,
      apiKeyId: owner.apiKeyId,
    }
  }

  return {
    authenticate(authorization) {
      const token = /^bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
      if (token === undefined) throw authorization === undefined ? missingCredentials() : invalidCredentials()
      return token.startsWith(PREFIX) ? authenticateKey(token) : authenticateToken(token)
    },
    identify(credential, header) {
      const { organizationId, boundUser, apiKeyId } = credential
      if (boundUser) {
        if (header !== undefined && parseExternalId(header, USER_HEADER) !== boundUser.externalId) throw userMismatch()
        return identity(organizationId, boundUser.id ?? users.resolve(organizationId, boundUser.externalId), apiKeyId)
      }
      if (header === undefined) {
        if (credential.kind === 'synthetic_key') return { organizationId, userId: null, apiKeyId }
        throw new AppError('missing_user_id', 'X-User-ID is missing: send the id of the user this request is for.', {
          param: USER_HEADER,
        })
      }
      return identity(organizationId, users.resolve(organizationId, parseExternalId(header, USER_HEADER)), apiKeyId)
    },
  }
}

const USER_HEADER = 'X-User-ID'
const CLOCK_SKEW_SECONDS = 60
const KEY_SCOPES: readonly Scope[] = ['inference']

function identity(organizationId: string, userId: string | Promise<string>, apiKeyId: string | undefined) {
  if (typeof userId === 'string') return { organizationId, userId, apiKeyId }
  return userId.then((id) => ({ organizationId, userId: id, apiKeyId }))
}

function missingCredentials(): AppError {
  return new AppError(
    'invalid_authentication',
    'Credentials are missing: send "Authorization: Bearer <token or synthetic key>".',
  )
}

function invalidCredentials(): AppError {
  return new AppError('invalid_authentication', 'Invalid authentication credentials.')
}

function userMismatch(): AppError {
  return new AppError('user_mismatch', 'This credential belongs to another user than X-User-ID names.', {
    param: USER_HEADER,
  })
}
