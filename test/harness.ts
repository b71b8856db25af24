/** A whole system for tests: real Postgres, real sockets, the simulated OpenAI; the only fake is the network beyond. */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import OpenAI from 'openai'
import pg from 'pg'
import { type Simulator, startSimulator } from '../simulator/server.ts'
import { createApiKey, type NewApiKey } from '../src/api-keys/service.ts'
import { asAdministrator, type Caller, OPERATOR } from '../src/auth/caller.ts'
import { readConfig } from '../src/config.ts'
import { openEmbeddedDatabase } from '../src/db/embedded/embedded.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { createOrganization } from '../src/organizations/service.ts'
import { Secret } from '../src/secret.ts'
import { type RunningServer, serve } from '../src/serve.ts'
import { createToken, type NewToken } from '../src/tokens/service.ts'
import { createUser } from '../src/users/service.ts'

export interface System {
  /** `http://127.0.0.1:<port>` */
  url: string
  simulator: Simulator
  server: RunningServer
  /** What a second server on the same database needs. */
  env: Record<string, string>
  /** A new organization with an organization-wide key and a token. */
  organization(): Promise<TestOrganization>
  /** Rows straight from the database, everything settled so far included. */
  query<T extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<T[]>
}

export interface TestOrganization {
  id: string
  /** May do everything in this organization. */
  admin: Caller
  /** An unbound token with both scopes. */
  token: string
  /** The synthetic key of the organization-wide API key. */
  syntheticKey: string
  apiKeyId: string
  createToken(input?: Partial<NewToken>): Promise<string>
  createKey(input?: Partial<NewApiKey>): Promise<{ id: string; syntheticKey: string }>
  /** @returns the internal id. */
  createUser(externalId: string): Promise<string>
  /** OpenAI's SDK as this organization's application would set it up, without retries. */
  client(options?: { apiKey?: string; userId?: string | null; headers?: Record<string, string> }): OpenAI
  /** `fetch` with this organization's token and, unless null, a user. */
  fetch(path: string, init?: RequestInit & { userId?: string | null; token?: string }): Promise<Response>
}

/** Starts a simulator and a server on a database of their own; everything is closed when the test file ends. */
export async function startSystem(env: Record<string, string> = {}): Promise<System> {
  const stack = new AsyncDisposableStack()
  after(() => stack.disposeAsync())
  const { databaseUrl, client } = await createDatabase(stack)
  const simulator = stack.use(await startSimulator())
  const fullEnv = {
    HOST: '127.0.0.1',
    PORT: '0',
    LOG_LEVEL: 'silent',
    OPENAI_API_BASE_URL: simulator.url,
    DATABASE_URL: databaseUrl,
    DATA_DIR: await temporaryDirectory(stack),
    SHUTDOWN_TIMEOUT: '5',
    // A machine shared with other tests pauses for reasons of its own.
    MAX_EVENT_LOOP_DELAY_MS: '60000',
    ...generateSecrets(),
    ...env,
  }
  const server = await serve(readConfig(fullEnv))
  stack.defer(() => server.stop())
  const url = `http://127.0.0.1:${server.port}`
  return {
    url,
    simulator,
    server,
    env: fullEnv,
    organization: () => createTestOrganization(server, url),
    async query<T extends pg.QueryResultRow>(text: string, values: unknown[] = []) {
      await server.context.ledger.flush()
      return (await client.query<T>(text, values)).rows
    },
  }
}

/** A directory that is gone after the test. */
export async function temporaryDirectory(stack: AsyncDisposableStack): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'openai-proxy-'))
  stack.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 10 }))
  return directory
}

/** A new, empty database in the test run's Postgres, or in one started for this file alone. */
export async function createDatabase(stack: AsyncDisposableStack): Promise<{ databaseUrl: string; client: pg.Client }> {
  const connection = process.env.TEST_POSTGRES ? JSON.parse(process.env.TEST_POSTGRES) : await startPostgres(stack)
  const name = `test_${randomBytes(6).toString('hex')}`
  const maintenance = new pg.Client(connection)
  await maintenance.connect()
  await maintenance.query(`create database ${name}`)
  await maintenance.end()
  const client = new pg.Client({ ...connection, database: name })
  client.on('error', () => {})
  await client.connect()
  stack.defer(() => client.end().catch(() => {}))
  const host = encodeURIComponent(connection.host)
  return { databaseUrl: `postgresql://${connection.user}@localhost:${connection.port}/${name}?host=${host}`, client }
}

async function startPostgres(stack: AsyncDisposableStack) {
  const directory = await temporaryDirectory(stack)
  return stack.use(await openEmbeddedDatabase({ dataDirectory: directory })).connection
}

async function createTestOrganization(server: RunningServer, url: string): Promise<TestOrganization> {
  const { context } = server
  const { id } = await createOrganization(context, OPERATOR, { name: `Organization ${randomUUID()}` })
  const admin = asAdministrator(OPERATOR, id)

  const organization = {
    id,
    admin,
    async createToken(input: Partial<NewToken> = {}) {
      const { jwt } = await createToken(context, admin, { days: 1, ...input })
      return jwt.reveal()
    },
    async createKey(input: Partial<NewApiKey> = {}) {
      const upstreamKey = new Secret(`sk-upstream-${randomBytes(12).toString('hex')}`)
      const { apiKey, syntheticKey } = await createApiKey(context, admin, { upstreamKey, ...input })
      return { id: apiKey.id, syntheticKey: syntheticKey.reveal() }
    },
    async createUser(externalId: string) {
      return (await createUser(context, admin, { externalId })).id
    },
  }
  const key = await organization.createKey()
  const token = await organization.createToken()
  return {
    ...organization,
    token,
    syntheticKey: key.syntheticKey,
    apiKeyId: key.id,
    client({ apiKey = token, userId = apiKey === token ? 'alice' : null, headers = {} } = {}) {
      return new OpenAI({
        baseURL: `${url}/v1`,
        apiKey,
        maxRetries: 0,
        defaultHeaders: { ...(userId === null ? {} : { 'X-User-ID': userId }), ...headers },
      })
    },
    fetch(path, { userId = 'alice', token: credential = token, ...init } = {}) {
      const headers = new Headers(init.headers)
      if (!headers.has('authorization')) headers.set('authorization', `Bearer ${credential}`)
      if (userId !== null && !headers.has('x-user-id')) headers.set('x-user-id', userId)
      if (init.body && !headers.has('content-type')) headers.set('content-type', 'application/json')
      return fetch(`${url}${path}`, { ...init, headers })
    },
  }
}
