import { createSecretKey, hkdfSync, type KeyObject } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, jwtVerify, SignJWT } from 'jose'
import { isUuid } from '../ids.ts'
import { Secret } from '../secret.ts'
import { SCOPES, type Scope } from './caller.ts'
import type { JwtSecrets } from './jwt-secrets.ts'

/** The claims of a token whose signature and times hold. Whether it was revoked is for the database to say. */
export interface TokenClaims {
  organizationId: string
  /** Undefined: a token of the earlier system, which has no id and cannot be revoked one by one. */
  tokenId: string | undefined
  generation: number | undefined
  scopes: Scope[]
  /** The one user (external id) this token speaks for. */
  externalUserId: string | undefined
  expiresAtSeconds: number
}

export interface TokenToSign {
  organizationId: string
  organizationName: string
  tokenId: string
  generation: number
  scopes: readonly Scope[]
  externalUserId: string | undefined
  expiresAtSeconds: number
}

/** HS256 (RFC 7518, section 3.2) with a secret of the organization and its generation: no secret opens another's tokens. */
export async function signToken(jwtSecretKey: Secret, token: TokenToSign): Promise<Secret> {
  const jwt = await new SignJWT({
    org_name: token.organizationName,
    scope: token.scopes.join(' '),
    ...(token.externalUserId === undefined ? {} : { uid: token.externalUserId }),
  })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT', kid: `g${token.generation}` })
    .setSubject(token.organizationId)
    .setIssuedAt()
    .setExpirationTime(token.expiresAtSeconds)
    .setJti(token.tokenId)
    .sign(organizationSecret(jwtSecretKey, token.organizationId, token.generation))
  return new Secret(jwt)
}

/**
 * Checks everything that needs no database, so that a forged token costs no query. A token under the former secret ends with its
 * grace at the latest.
 * @returns undefined for any token that is not ours, without saying why.
 */
export async function verifyToken(
  secrets: JwtSecrets,
  token: string,
  options: { acceptLegacy: boolean },
): Promise<TokenClaims | undefined> {
  const { signing, previous } = secrets
  const claims = await verifyUnder(signing, token, options)
  if (claims) return claims
  const former = previous && (await verifyUnder(previous.secret, token, options))
  if (former)
    return {
      ...former,
      expiresAtSeconds: Math.min(former.expiresAtSeconds, previous.untilSeconds - CLOCK_SKEW_SECONDS),
    }
  return (await secrets.haveChangedSince(signing)) ? verifyToken(secrets, token, options) : undefined
}

async function verifyUnder(
  jwtSecretKey: Secret,
  token: string,
  options: { acceptLegacy: boolean },
): Promise<TokenClaims | undefined> {
  if (token.length > TOKEN_LENGTH_MAX || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return undefined
  try {
    const { sub, ...unverified } = decodeJwt(token)
    const kid = readKeyId(decodeProtectedHeader(token))
    if (kid === undefined || typeof sub !== 'string' || !isUuid(sub)) return undefined
    const isLegacy = kid === 'legacy'
    if (isLegacy && !options.acceptLegacy) return undefined
    const key = isLegacy
      ? createSecretKey(Buffer.from(jwtSecretKey.reveal()))
      : organizationSecret(jwtSecretKey, sub, kid)
    if (!isWholeSeconds(unverified.exp) || !isWholeSeconds(unverified.iat)) return undefined
    const { payload } = await jwtVerify(token, key, { algorithms: ['HS256'], clockTolerance: CLOCK_SKEW_SECONDS })
    return readClaims(payload, isLegacy ? undefined : kid)
  } catch {
    return undefined
  }
}

export const TOKEN_DAYS_MAX = 3650
const CLOCK_SKEW_SECONDS = 60
const TOKEN_LENGTH_MAX = 8192
const HEADER_FIELDS = new Set(['alg', 'typ', 'kid'])

/** The generation that signed the token, or `legacy` for one without. Any other header field refuses the token. */
function readKeyId(header: Record<string, unknown>): number | 'legacy' | undefined {
  if (header.alg !== 'HS256' || Object.keys(header).some((field) => !HEADER_FIELDS.has(field))) return undefined
  if (header.kid === undefined) return 'legacy'
  const generation = typeof header.kid === 'string' ? /^g([1-9]\d{0,8})$/.exec(header.kid)?.[1] : undefined
  return generation === undefined ? undefined : Number(generation)
}

function readClaims(payload: Record<string, unknown>, generation: number | undefined): TokenClaims | undefined {
  const { sub, exp, iat, jti, scope, uid, aud } = payload
  if (typeof sub !== 'string' || typeof exp !== 'number' || typeof iat !== 'number' || aud !== undefined)
    return undefined
  if (exp - iat > TOKEN_DAYS_MAX * 86_400 || iat > Date.now() / 1000 + CLOCK_SKEW_SECONDS) return undefined
  if (uid !== undefined && (typeof uid !== 'string' || uid === '')) return undefined
  const organizationId = sub.toLowerCase()
  if (generation === undefined) {
    return {
      organizationId,
      tokenId: undefined,
      generation,
      scopes: [...SCOPES],
      externalUserId: undefined,
      expiresAtSeconds: exp,
    }
  }
  if (typeof jti !== 'string' || !isUuid(jti) || typeof scope !== 'string') return undefined
  const scopes = SCOPES.filter((known) => scope.split(' ').includes(known))
  return { organizationId, tokenId: jti, generation, scopes, externalUserId: uid, expiresAtSeconds: exp }
}

function isWholeSeconds(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0 && (value as number) < 1e11
}

/** HKDF-SHA-256 (RFC 5869). */
function organizationSecret(jwtSecretKey: Secret, organizationId: string, generation: number): KeyObject {
  const info = `openai-inference-proxy jwt g${generation}`
  return createSecretKey(Buffer.from(hkdfSync('sha256', jwtSecretKey.reveal(), organizationId.toLowerCase(), info, 32)))
}
