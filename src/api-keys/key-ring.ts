import type { Db, Tx } from '../db/database.ts'
import type { OrganizationCache } from '../db/organization-cache.ts'
import { AppError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import { sealingContext } from './service.ts'
import { findActiveKey, findActiveKeyByHash, findActiveKeys } from './store.ts'
import { isSyntheticKey } from './synthetic-key.ts'
import type { Vault } from './vault.ts'

/** An opened key: what a call upstream is made with. */
export interface UpstreamKey {
  apiKeyId: string
  secret: Secret
  baseUrl: string | undefined
}

/** Whose a synthetic key is. */
export interface KeyOwner {
  organizationId: string
  apiKeyId: string
  /** Null: an organization-wide key. */
  user: { id: string; externalId: string } | null
}

/** What the data plane needs of API keys: cached, and dropped within a second when one changes. */
export interface KeyRing {
  /** @throws {AppError} `invalid_authentication` for a key that is mistyped, unknown, inactive, or its user's no longer. */
  owner(syntheticKey: string): KeyOwner | Promise<KeyOwner>
  /**
   * The key for a call: the user's own active key, else the presented one, else an organization-wide active one.
   * @param pinnedKeyId the key that made what the call refers to; its project alone knows it, so no other will do.
   * @throws {AppError} `no_api_key` when it is known that there is none, `conflict` when the pinned one is inactive; a fault of the
   * database is never taken for either.
   */
  choose(
    organizationId: string,
    userId: string | null,
    presentedKeyId: string | undefined,
    pinnedKeyId: string | undefined,
  ): UpstreamKey | Promise<UpstreamKey>
}

export function openKeyRing({ db, vault, cache }: { db: Db; vault: Vault; cache: OrganizationCache }): KeyRing {
  async function open(tx: Tx, organizationId: string, row: ActiveRow): Promise<UpstreamKey> {
    const secret = await vault.open(tx, organizationId, sealingContext(row.id), row.upstream_key_sealed)
    return { apiKeyId: row.id, secret, baseUrl: row.base_url ?? undefined }
  }

  return {
    owner(syntheticKey) {
      if (!isSyntheticKey(syntheticKey)) throw invalidKey()
      const hash = vault.hash(syntheticKey)
      return cache.read(`key:${hash.toString('base64')}`, async () => {
        const row = await db.forOperator((tx) => findActiveKeyByHash(tx, hash))
        if (!row) throw invalidKey()
        const user = row.user_id === null ? null : { id: row.user_id, externalId: row.external_id ?? '' }
        return {
          organizationId: row.organization_id,
          value: { organizationId: row.organization_id, apiKeyId: row.id, user },
        }
      })
    },
    choose(organizationId, userId, presentedKeyId, pinnedKeyId) {
      const cacheKey = `choice:${organizationId}:${userId ?? ''}:${presentedKeyId ?? ''}:${pinnedKeyId ?? ''}`
      return cache.read(cacheKey, async () => {
        const value = await db.forOrganization(organizationId, async (tx) => {
          const row =
            pinnedKeyId === undefined
              ? await choose(tx, organizationId, userId, presentedKeyId)
              : await findActiveKey(tx, organizationId, pinnedKeyId)
          if (!row) throw pinnedKeyId === undefined ? noKey() : pinnedKeyInactive()
          return open(tx, organizationId, row)
        })
        return { organizationId, value }
      })
    },
  }
}

interface ActiveRow {
  id: string
  base_url: string | null
  upstream_key_sealed: string
}

async function choose(
  tx: Tx,
  organizationId: string,
  userId: string | null,
  presentedKeyId?: string,
): Promise<ActiveRow | undefined> {
  const presented = presentedKeyId === undefined ? undefined : await findActiveKey(tx, organizationId, presentedKeyId)
  // A personal key that was presented is already the user's own: no other of theirs takes its place.
  if (presented && presented.user_id !== null) return presented
  const own = userId === null ? [] : await findActiveKeys(tx, organizationId, userId)
  if (own[0]) return own[0]
  if (presentedKeyId !== undefined) return presented
  return (await findActiveKeys(tx, organizationId, null))[0]
}

function invalidKey(): AppError {
  return new AppError('invalid_authentication', 'Invalid authentication credentials.')
}

function noKey(): AppError {
  return new AppError(
    'no_api_key',
    'There is no active API key for this user and none for the whole organization. Ask an administrator to create one.',
  )
}

function pinnedKeyInactive(): AppError {
  return new AppError(
    'conflict',
    'The API key that made what this request refers to is inactive, and only its OpenAI project knows it. ' +
      'Activate that key again, or make it anew.',
  )
}
