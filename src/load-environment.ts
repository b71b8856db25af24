import { existsSync, readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { ConfigError, type Environment } from './config.ts'

/**
 * The environment as `readConfig` wants it: `.env` of the working directory below the process environment, and every
 * `NAME_FILE` replaced by `NAME` with the content of that file (secrets mounted by Docker and Kubernetes).
 * @throws {ConfigError} when a named file cannot be read, or a variable is given both ways.
 */
export function loadEnvironment(processEnv: Environment = process.env, dotenvFile = '.env'): Environment {
  const dotenv = existsSync(dotenvFile) ? parseEnv(readFileSync(dotenvFile, 'utf8')) : {}
  const env: Record<string, string | undefined> = { ...dotenv, ...processEnv }
  const problems: string[] = []
  for (const name of FILE_VARIABLES) {
    const file = env[`${name}_FILE`]?.trim()
    if (!file) continue
    if (processEnv[name]?.trim()) {
      problems.push(`${name} and ${name}_FILE are both set: keep one.`)
      continue
    }
    try {
      env[name] = readFileSync(file, 'utf8').trim()
      if (!env[name]) problems.push(`${name}_FILE names an empty file.`)
    } catch {
      problems.push(`${name}_FILE names a file that cannot be read: check the path and its permissions.`)
    }
  }
  if (problems.length > 0) throw new ConfigError(problems)
  return env
}

const FILE_VARIABLES = [
  'DATABASE_URL',
  'DATABASE_LISTEN_URL',
  'JWT_SECRET_KEY',
  'JWT_SECRET_KEY_PREVIOUS',
  'ENCRYPTION_KEY',
  'ENCRYPTION_KEY_PREVIOUS',
  'METRICS_TOKEN',
]
