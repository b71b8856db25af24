import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import type { Db, Tx } from '../db/database.ts'
import { Secret } from '../secret.ts'
import { ensureDataKey, ensureInstanceSecret, findDataKey, findInstanceSecret } from './vault-store.ts'

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
  /** @throws {VaultError} when the database's secrets are no longer sealed under the master key of this process. */
  check(tx: Tx): Promise<void>
  /** A keyed hash (HMAC-SHA-256), 32 bytes: a stolen table can neither be used nor searched for known keys. */
  hash(text: string): Buffer
  /** A key of 32 bytes for one purpose (HKDF, RFC 5869): the same in every process, and whatever becomes of the master key. */
  deriveKey(purpose: string): Buffer
}

/** A sealed text that this key does not open: the wrong key, a row moved elsewhere, or a changed byte. */
export class VaultError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'VaultError'
  }
}

/**
 * @param masterKey 32 bytes.
 * @throws {VaultError} when the database's secrets were sealed under another master key.
 */
export async function openVault({ db }: { db: Db }, masterKey: Buffer): Promise<Vault> {
  const master: Key = { name: `m-${fingerprint(masterKey)}`, bytes: masterKey }
  const pepper = await db.forOperator(async (tx) => {
    const sealed = await ensureInstanceSecret(tx, PEPPER, sealText(master, PEPPER, randomBytes(KEY_BYTES)))
    return openText(master, PEPPER, sealed)
  })
  /** Opened data keys by organization and version; they never change once made. */
  const dataKeys = new Map<string, Key>()

  async function currentDataKey(tx: Tx, organizationId: string): Promise<Key> {
    const context = dataKeyContext(organizationId, FIRST_VERSION)
    const fresh = sealText(master, context, randomBytes(KEY_BYTES))
    const row = await ensureDataKey(tx, organizationId, FIRST_VERSION, fresh)
    return {
      name: `v${row.version}`,
      bytes: openText(master, dataKeyContext(organizationId, row.version), row.sealed),
    }
  }

  async function dataKey(tx: Tx, organizationId: string, name: string): Promise<Key> {
    const known = dataKeys.get(`${organizationId}:${name}`)
    if (known) return known
    const version = /^v([1-9]\d{0,8})$/.exec(name)?.[1]
    const row = version === undefined ? undefined : await findDataKey(tx, organizationId, Number(version))
    if (!row) throw new VaultError(`There is no data key ${name} for this organization.`)
    const key = { name, bytes: openText(master, dataKeyContext(organizationId, row.version), row.sealed) }
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
      return new Secret(openText(key, `${organizationId}|${context}`, sealed).toString())
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
    async check(tx) {
      const sealed = await findInstanceSecret(tx, PEPPER)
      openText(master, PEPPER, sealed ?? '')
    },
    hash: (text) => createHmac('sha256', pepper).update(text).digest(),
    deriveKey: (purpose) => Buffer.from(hkdfSync('sha256', pepper, '', purpose, KEY_BYTES)),
  }
}

interface Key {
  name: string
  bytes: Buffer
}

const KEY_BYTES = 32
const NONCE_BYTES = 12
/** Shorter tags are easier to forge; Node would accept them unless told. */
const TAG_BYTES = 16
const PEPPER = 'synthetic-key-pepper'
const FIRST_VERSION = 1
/** `enc:`, a name of at most 32 characters, `:`. */
const HEAD_BYTES_MAX = 37
const DATA_KEYS_MAX = 10_000

function sealText(key: Key, context: string, plain: Buffer): string {
  return `enc:${key.name}:${Buffer.concat(encrypt(key, context, plain)).toString('base64url')}`
}

function openText(key: Key, context: string, sealed: string): Buffer {
  const name = keyNameOf(sealed)
  if (name !== key.name) {
    throw new VaultError('The database was sealed under another ENCRYPTION_KEY: start with the key it was set up with.')
  }
  return decrypt(key, context, Buffer.from(sealed.slice(`enc:${name}:`.length), 'base64url'))
}

/** AES-256-GCM with a random nonce (NIST SP 800-38D): nonce, tag, ciphertext. */
function encrypt(key: Key, context: string, plain: Buffer): Buffer[] {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key.bytes, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(context))
  const sealed = [cipher.update(plain), cipher.final()]
  return [nonce, cipher.getAuthTag(), ...sealed]
}

function decrypt(key: Key, context: string, bytes: Buffer): Buffer {
  if (bytes.length < NONCE_BYTES + TAG_BYTES) throw new VaultError('A sealed text is too short to be one.')
  const decipher = createDecipheriv('aes-256-gcm', key.bytes, bytes.subarray(0, NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  })
  decipher.setAAD(Buffer.from(context))
  decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES))
  try {
    return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()])
  } catch {
    throw new VaultError('A sealed text was changed, or belongs to something else.')
  }
}

function keyNameOf(sealed: string): string {
  const name = /^enc:([\w-]{1,32}):/.exec(sealed)?.[1]
  if (!name) throw new VaultError('A sealed text does not have the form enc:<key>:<text>.')
  return name
}

function dataKeyContext(organizationId: string, version: number): string {
  return `${organizationId}|data-key|${version}`
}

/** Tells master keys apart without telling anything about them. */
function fingerprint(key: Buffer): string {
  return createHmac('sha256', key).update('openai-inference-proxy master key').digest('hex').slice(0, 8)
}
