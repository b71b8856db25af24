import { createHmac, hkdfSync, randomBytes } from 'node:crypto'
import type { Db, Tx } from '../db/database.ts'
import { Secret } from '../secret.ts'
import { openMasterKeys, type ReadMasterKeys } from './master-keys.ts'
import { decrypt, encrypt, HEAD_BYTES_MAX, KEY_BYTES, type Key, keyNameOf, sealText, VaultError } from './sealing.ts'
import {
  ensureInstanceSecret,
  findDataKey,
  findInstanceSecret,
  holdNewestDataKey,
  insertDataKey,
  lockDataKeys,
} from './vault-store.ts'

/**
 * Keeps what must not be read: upstream keys are sealed under their organization's data key, data keys under the master key.
 * The text form `enc:<key>:<base64url>` names the key, so that keys can be rotated while serving.
 */
export interface Vault {
  /** @param context what the text belongs to; opening it for anything else fails. */
  seal(tx: Tx, organizationId: string, context: string, secret: Secret): Promise<string>
  open(tx: Tx, organizationId: string, context: string, sealed: string): Promise<Secret>
  /** For many texts of one organization: its key is read once. What is sealed is `enc:<key>:` and then bytes, as they are. */
  sealer(tx: Tx, organizationId: string): Promise<(context: string, plain: Buffer) => Buffer>
  openBytes(tx: Tx, organizationId: string, context: string, sealed: Buffer): Promise<Buffer>
  /**
   * The organization's newest data key, a new one unless one was made since then: from the commit of this transaction on everything
   * is sealed under it.
   * @returns its version; undefined for an organization that has sealed nothing.
   */
  newDataKey(tx: Tx, organizationId: string, since: Date): Promise<{ version: number; isNew: boolean } | undefined>
  /** A keyed hash (HMAC-SHA-256), 32 bytes: a stolen table can neither be used nor searched for known keys. */
  hash(text: string): Buffer
  /** @throws {AppError} `encryption_key_missing` when this process lacks a master key that is in use. */
  check(tx: Tx): Promise<void>
  /** A key of 32 bytes for one purpose (HKDF, RFC 5869): the same in every process, and whatever becomes of the master key. */
  deriveKey(purpose: string): Buffer
}

/** @throws {VaultError} when the database's secrets were sealed under a master key that is not given. */
export async function openVault({ db }: { db: Db }, readMasterKeys: ReadMasterKeys): Promise<Vault> {
  const masters = await openMasterKeys({ db }, readMasterKeys)
  const pepper = await db.forOperator(async (tx) => {
    const fresh = sealText(await masters.inForce(tx), PEPPER, randomBytes(KEY_BYTES))
    return masters.open(PEPPER, await ensureInstanceSecret(tx, PEPPER, fresh))
  })
  /** Opened data keys by organization and version; they never change once made. */
  const dataKeys = new Map<string, Key>()

  async function currentDataKey(tx: Tx, organizationId: string): Promise<Key> {
    const row = (await holdNewestDataKey(tx, organizationId)) ?? (await makeFirstDataKey(tx, organizationId))
    return openDataKey(organizationId, row)
  }

  async function makeFirstDataKey(tx: Tx, organizationId: string) {
    const master = await masters.inForce(tx)
    await insertDataKey(
      tx,
      organizationId,
      1,
      sealText(master, dataKeyContext(organizationId, 1), randomBytes(KEY_BYTES)),
    )
    const row = await holdNewestDataKey(tx, organizationId)
    if (!row) throw new Error('A data key vanished after its insertion.')
    return row
  }

  async function dataKey(tx: Tx, organizationId: string, name: string): Promise<Key> {
    const known = dataKeys.get(`${organizationId}:${name}`)
    if (known) return known
    const version = /^v([1-9]\d{0,8})$/.exec(name)?.[1]
    const row = version === undefined ? undefined : await findDataKey(tx, organizationId, Number(version))
    if (!row) throw new VaultError(`There is no data key ${name} for this organization.`)
    return openDataKey(organizationId, row)
  }

  async function openDataKey(organizationId: string, row: { version: number; sealed: string }): Promise<Key> {
    const name = `v${row.version}`
    const known = dataKeys.get(`${organizationId}:${name}`)
    if (known) return known
    const key = { name, bytes: await masters.open(dataKeyContext(organizationId, row.version), row.sealed) }
    if (dataKeys.size >= DATA_KEYS_MAX) dataKeys.clear()
    dataKeys.set(`${organizationId}:${name}`, key)
    return key
  }

  return {
    async seal(tx, organizationId, context, secret) {
      const key = await currentDataKey(tx, organizationId)
      return sealText(key, `${organizationId}|${context}`, Buffer.from(secret.reveal()))
    },
    async open(tx, organizationId, context, sealed) {
      const key = await dataKey(tx, organizationId, keyNameOf(sealed))
      const bytes = Buffer.from(sealed.slice(`enc:${key.name}:`.length), 'base64url')
      return new Secret(decrypt(key, `${organizationId}|${context}`, bytes).toString())
    },
    async sealer(tx, organizationId) {
      const key = await currentDataKey(tx, organizationId)
      return (context, plain) =>
        Buffer.concat([Buffer.from(`enc:${key.name}:`), ...encrypt(key, `${organizationId}|${context}`, plain)])
    },
    async openBytes(tx, organizationId, context, sealed) {
      const name = keyNameOf(sealed.toString('latin1', 0, HEAD_BYTES_MAX))
      const key = await dataKey(tx, organizationId, name)
      return decrypt(key, `${organizationId}|${context}`, sealed.subarray(`enc:${name}:`.length))
    },
    async newDataKey(tx, organizationId, since) {
      await lockDataKeys(tx, organizationId)
      const newest = await holdNewestDataKey(tx, organizationId)
      if (!newest) return undefined
      if (newest.created_at >= since) return { version: newest.version, isNew: false }
      const version = newest.version + 1
      const master = await masters.inForce(tx)
      const sealed = sealText(master, dataKeyContext(organizationId, version), randomBytes(KEY_BYTES))
      await insertDataKey(tx, organizationId, version, sealed)
      return { version, isNew: true }
    },
    hash: (text) => createHmac('sha256', pepper).update(text).digest(),
    async check(tx) {
      await masters.check(tx)
      // What is on record about the keys may be of another backup than what they have sealed.
      const sealed = await findInstanceSecret(tx, PEPPER)
      if (sealed !== undefined) await masters.open(PEPPER, sealed)
    },
    deriveKey: (purpose) => Buffer.from(hkdfSync('sha256', pepper, '', purpose, KEY_BYTES)),
  }
}

/** What a data key's sealing binds in. */
export function dataKeyContext(organizationId: string, version: number): string {
  return `${organizationId}|data-key|${version}`
}

const PEPPER = 'synthetic-key-pepper'
const DATA_KEYS_MAX = 10_000
