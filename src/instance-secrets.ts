import { randomBytes } from 'node:crypto'
import { chmod, link, mkdir, open, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Config, ConfigError, readConfig } from './config.ts'
import type { Secret } from './secret.ts'

/** What an installation signs and seals with. */
export interface InstanceSecrets {
  jwtSecretKey: Secret
  /** Tokens signed under it are accepted too, until then if a time is set. */
  jwtSecretKeyPrevious: Secret | undefined
  jwtPreviousUntil: Date | undefined
  encryptionKey: Secret
  encryptionKeyPrevious: Secret | undefined
}

/**
 * The secrets of an installation: those configured, or, for one that runs on the embedded database, those of its data directory,
 * which are made on the first start. Several first starts at once agree on them. Read again, it finds what was rotated meanwhile.
 * @throws {ConfigError} when a file holds something else.
 */
export async function loadSecrets(config: Config): Promise<InstanceSecrets> {
  const { dataDirectory } = config
  // The present ones first: whoever replaces one has written it down as the former one before that.
  const jwtSecretKey = config.jwtSecretKey ?? (await readOrCreate(dataDirectory, 'JWT_SECRET_KEY'))
  const encryptionKey = config.encryptionKey ?? (await readOrCreate(dataDirectory, 'ENCRYPTION_KEY'))
  return {
    jwtSecretKey,
    jwtSecretKeyPrevious: config.jwtSecretKey
      ? config.jwtSecretKeyPrevious
      : (config.jwtSecretKeyPrevious ?? (await readFormer(dataDirectory, 'JWT_SECRET_KEY'))),
    jwtPreviousUntil: config.jwtPreviousUntil ?? (config.jwtSecretKey ? undefined : await readTime(dataDirectory)),
    encryptionKey,
    encryptionKeyPrevious: config.encryptionKey
      ? config.encryptionKeyPrevious
      : (config.encryptionKeyPrevious ?? (await readFormer(dataDirectory, 'ENCRYPTION_KEY'))),
  }
}

/** Good values for both: 48 and 32 random bytes. */
export function generateSecrets(): { JWT_SECRET_KEY: string; ENCRYPTION_KEY: string } {
  return {
    JWT_SECRET_KEY: randomBytes(48).toString('base64url'),
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
  }
}

/**
 * Puts a new secret of the data directory in the place of the present one, which stays beside it as the former one. Stopped at any
 * point, what is there is a present secret and, if it changed, its former one.
 */
export async function replaceSecretFile(dataDirectory: string, name: SecretName): Promise<void> {
  const present = (await readOrCreate(dataDirectory, name)).reveal()
  await write(fileOf(dataDirectory, `${name}_PREVIOUS`), present)
  await write(fileOf(dataDirectory, name), generateSecrets()[name])
}

/** Until when tokens under the former secret of the data directory are accepted. */
export async function writeJwtPreviousUntil(dataDirectory: string, until: Date): Promise<void> {
  await write(fileOf(dataDirectory, 'JWT_PREVIOUS_UNTIL'), until.toISOString())
}

/** Ends what `writeJwtPreviousUntil` began. */
export async function removeFormerJwtSecret(dataDirectory: string): Promise<void> {
  await rm(fileOf(dataDirectory, 'JWT_SECRET_KEY_PREVIOUS'), { force: true })
  await rm(fileOf(dataDirectory, 'JWT_PREVIOUS_UNTIL'), { force: true })
}

type SecretName = keyof ReturnType<typeof generateSecrets>
type FileName = SecretName | `${SecretName}_PREVIOUS` | 'JWT_PREVIOUS_UNTIL'

function fileOf(dataDirectory: string, name: FileName): string {
  return join(dataDirectory, name.toLowerCase().replaceAll('_', '-'))
}

async function readOrCreate(dataDirectory: string, name: SecretName): Promise<Secret> {
  await mkdir(dataDirectory, { recursive: true, mode: 0o700 })
  const file = fileOf(dataDirectory, name)
  return checkSecret(file, name, (await readIfThere(file)) ?? (await create(file, generateSecrets()[name])))
}

async function readFormer(dataDirectory: string, name: SecretName): Promise<Secret | undefined> {
  const file = fileOf(dataDirectory, `${name}_PREVIOUS`)
  const text = await readIfThere(file)
  return text === undefined ? undefined : checkSecret(file, name, text)
}

async function readTime(dataDirectory: string): Promise<Date | undefined> {
  const text = await readIfThere(fileOf(dataDirectory, 'JWT_PREVIOUS_UNTIL'))
  return readConfig({ JWT_PREVIOUS_UNTIL: text }).jwtPreviousUntil
}

/** Held to the same rules as a configured one. */
function checkSecret(file: string, name: SecretName, text: string): Secret {
  const { jwtSecretKey, encryptionKey } = readConfig({ [name]: text })
  const secret = jwtSecretKey ?? encryptionKey
  if (!secret)
    throw new ConfigError([`${file} is empty: restore it from your backup, or nothing sealed with it can be read.`])
  return secret
}

/** Written whole before it gets its name, and the name is taken only once: a half-written secret is never read. */
async function create(file: string, text: string): Promise<string> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}`
  await writeFile(temporary, `${text}\n`, { mode: 0o600, flush: true })
  try {
    await link(temporary, file)
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'EEXIST') throw error
  } finally {
    await unlink(temporary)
  }
  return (await readIfThere(file)) ?? text
}

/** Replaces a file whole: whoever reads finds the old content or the new one, also after the power failed. */
async function write(file: string, text: string): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}`
  await writeFile(temporary, `${text}\n`, { mode: 0o600, flush: true })
  await rename(temporary, file)
  await using directory = await open(dirname(file))
  await directory.sync()
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    const text = await readFile(file, 'utf8')
    await chmod(file, 0o600)
    return text.trim()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
