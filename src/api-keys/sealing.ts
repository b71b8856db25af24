import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto'

/** A sealed text that this key does not open: the wrong key, a row moved elsewhere, or a changed byte. */
export class VaultError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'VaultError'
  }
}

/** 32 bytes, and the name that what is sealed under them carries. */
export interface Key {
  name: string
  bytes: Buffer
}

export const KEY_BYTES = 32
/** `enc:`, a name of at most 32 characters, `:`. */
export const HEAD_BYTES_MAX = 37

/** A master key by its fingerprint, which tells master keys apart without telling anything about them. */
export function masterKey(bytes: Buffer): Key {
  const print = createHmac('sha256', bytes).update('openai-inference-proxy master key').digest('hex').slice(0, 8)
  return { name: `m-${print}`, bytes }
}

/** `enc:<key>:<base64url>` */
export function sealText(key: Key, context: string, plain: Buffer): string {
  return `enc:${key.name}:${Buffer.concat(encrypt(key, context, plain)).toString('base64url')}`
}

/** @throws {VaultError} */
export function openText(key: Key, context: string, sealed: string): Buffer {
  return decrypt(key, context, Buffer.from(sealed.slice(`enc:${key.name}:`.length), 'base64url'))
}

/** AES-256-GCM with a random nonce (NIST SP 800-38D): nonce, tag, ciphertext. */
export function encrypt(key: Key, context: string, plain: Buffer): Buffer[] {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key.bytes, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(context))
  const sealed = [cipher.update(plain), cipher.final()]
  return [nonce, cipher.getAuthTag(), ...sealed]
}

/** @throws {VaultError} */
export function decrypt(key: Key, context: string, bytes: Buffer): Buffer {
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

/** The name of the key that a text was sealed under. */
export function keyNameOf(sealed: string): string {
  const name = /^enc:([\w-]{1,32}):/.exec(sealed)?.[1]
  if (!name) throw new VaultError('A sealed text does not have the form enc:<key>:<text>.')
  return name
}

const NONCE_BYTES = 12
/** Shorter tags are easier to forge; Node would accept them unless told. */
const TAG_BYTES = 16
