import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Config, readConfig } from '../config.ts'
import { type Foundation, openFoundation, openStorage, type Storage } from '../foundation.ts'
import { loadEnvironment } from '../load-environment.ts'
import { printNote } from './output.ts'

/** Opens what the server of this configuration has open, whether that runs or not. */
export async function connect(): Promise<Foundation> {
  return openFoundation(announceFirstStart(readCommandConfig()))
}

/** Opens the database at whatever schema it has; makes an embedded one if need be. */
export async function openForMigration(): Promise<Storage> {
  return openStorage(announceFirstStart(readCommandConfig()))
}

/** Opens the database as it is; undefined for an embedded one that has never been started. */
export async function connectToExisting(config: Config): Promise<Storage | undefined> {
  return hasDatabase(config) ? openStorage(config) : undefined
}

/** The server's configuration, but for its log: that goes where a command's result goes. */
export function readCommandConfig(): Config {
  return readConfig({ ...loadEnvironment(), LOG_LEVEL: 'silent' })
}

function announceFirstStart(config: Config): Config {
  if (!hasDatabase(config)) printNote('Creating the database (once, a few seconds)...')
  return config
}

function hasDatabase(config: Config): boolean {
  return config.databaseUrl !== undefined || existsSync(join(config.dataDirectory, 'postgres'))
}
