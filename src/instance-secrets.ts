import { randomBytes } from 'node:crypto'
import { chmod, link, mkdir, readFile, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Config, ConfigError, readConfig } from './config.ts'
import type { Secret } from './secret.ts'

/**
 * The two secrets of an installation: those configured, or, for one that runs on the embedded database, those of its data
 * directory, which are made on the first start. Several first starts at once agree on one.
 * @throws {ConfigError} when a file holds something else.
 */
export async function loadSecrets(config: Config): Promise<{ jwtSecretKey: Secret; encryptionKey: Secret }> {
  return {
    jwtSecretKey: config.jwtSecretKey ?? (await readOrCreate(config.dataDirectory, 'JWT_SECRET_KEY')),
    encryptionKey: config.encryptionKey ?? (await readOrCreate(config.dataDirectory, 'ENCRYPTION_KEY')),
  }
}

/** Good values for both: 48 and 32 random bytes. */
export function generateSecrets(): { JWT_SECRET_KEY: string; ENCRYPTION_KEY: string } {
  return {
    JWT_SECRET_KEY: randomBytes(48).toString('base64url'),
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
  }
}

type SecretName = keyof ReturnType<typeof generateSecrets>

async function readOrCreate(dataDirectory: string, name: SecretName): Promise<Secret> {
  await mkdir(dataDirectory, { recursive: true, mode: 0o700 })
  const file = join(dataDirectory, `${name.toLowerCase().replaceAll('_', '-')}`)
  const text = (await readIfThere(file)) ?? (await create(file, generateSecrets()[name]))
  // Held to the same rules as a configured one.
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
