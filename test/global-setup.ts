import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type EmbeddedDatabase, openEmbeddedDatabase } from '../src/db/embedded/embedded.ts'

let directory: string | undefined
let database: EmbeddedDatabase | undefined

/** One Postgres for the whole run: each test file makes a database of its own in it. */
export async function globalSetup(): Promise<void> {
  directory = await mkdtemp(join(tmpdir(), 'openai-proxy-tests-'))
  database = await openEmbeddedDatabase({ dataDirectory: directory })
  process.env.TEST_POSTGRES = JSON.stringify(database.connection)
}

export async function globalTeardown(): Promise<void> {
  await database?.[Symbol.asyncDispose]()
  if (directory) await rm(directory, { recursive: true, force: true, maxRetries: 10 })
}
