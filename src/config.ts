import { totalmem } from 'node:os'
import { Secret } from './secret.ts'

/** Every setting of the server. Durations end in `Ms`, sizes in `Bytes`. */
export interface Config {
  host: string
  port: number
  /** Absent: the admin API and the documentation share `port`. */
  adminPort: number | undefined
  dataDirectory: string
  /** Absent: the embedded database inside `dataDirectory`. */
  databaseUrl: Secret | undefined
  databasePoolSize: number
  /** A direct way to the same database for the connection that listens, where `databaseUrl` is a transaction pooler. */
  databaseListenUrl: Secret | undefined
  /** Absent (embedded database only): generated on first start into `dataDirectory`. */
  jwtSecretKey: Secret | undefined
  /** Tokens signed under it are accepted too, until `jwtPreviousUntil` or for as long as it is set. */
  jwtSecretKeyPrevious: Secret | undefined
  jwtPreviousUntil: Date | undefined
  /** 32 bytes as base64 or base64url; absent like `jwtSecretKey`. */
  encryptionKey: Secret | undefined
  /** The former key, while what it has sealed is being sealed anew. */
  encryptionKeyPrevious: Secret | undefined
  jwtExpirationDays: number
  legacyTokens: 'accept' | 'refuse'
  openaiBaseUrl: URL
  /** Origins that an API key's own base URL may have, beside that of `openaiBaseUrl`. */
  openaiAllowedOrigins: string[]
  openaiConnectTimeoutMs: number
  /** Until the first byte of the answer: long, because reasoning models think first. */
  openaiTimeoutMs: number
  /** Between two pieces of an answer. */
  openaiIdleTimeoutMs: number
  /** The whole call, streams included. */
  openaiTotalTimeoutMs: number
  corsOrigins: string[]
  logLevel: (typeof LOG_LEVELS)[number]
  requestHeadersMax: number
  requestHeaderBytesMax: number
  requestBodyBytesMax: number
  /** Of forms, whose files are passed on as they arrive. */
  uploadBytesMax: number
  concurrentRequestsMax: number
  webSocketFrameBytesMax: number
  webSocketsPerOrganizationMax: number
  /** Without a response under way or a frame from the client. */
  webSocketIdleTimeoutMs: number
  webSocketPingIntervalMs: number
  /** Of one organization, unless its own policy says otherwise. */
  organizationRequestsMax: number
  /** Request bodies in memory, of all requests together. */
  bodyMemoryBytesMax: number
  /** Of the whole process; new work is refused before it is reached. */
  memoryBytesMax: number
  /** 99th percentile; new work is refused while it is exceeded. */
  eventLoopDelayMsMax: number
  /** From the first byte of a request to its last. */
  requestTimeoutMs: number
  newUsersPerMinuteMax: number
  /** How long cached identity may serve while the database is away. */
  staleIdentityMs: number
  shutdownTimeoutMs: number
  /** For how long a server that was told to stop goes on taking requests, not ready any more. */
  drainDelayMs: number
  /** What operators see this process as; absent: its id alone. */
  replicaName: string | undefined
  /** Whoever has it may read the metrics. Absent: only `adminPort` has them. */
  metricsToken: Secret | undefined
  /** Where traces go; absent: none are made. */
  otlpEndpoint: URL | undefined
  /** `name=value,...`, sent with each trace. */
  otlpHeaders: Secret | undefined
  otelServiceName: string
  /** Share of the traces that begin here, 0 to 1. */
  tracesRatio: number
  /** How long a record of the journal may be in memory only, should the power fail. */
  journalSyncMs: number
  /** `every`: a record is on the disk before its call leaves or its answer ends, at the price of one sync each. */
  journalSync: 'interval' | 'every'
  journalBytesMax: number
  /** For how long rows of calls are kept where an organization's policy does not say; absent: for ever. */
  rowsDays: number | undefined
  /** The operator's own prices; absent: `prices.json` in `dataDirectory`. */
  pricesFile: string | undefined
}

/** All problems of a configuration at once; each a sentence that names the variable and never its value. */
export class ConfigError extends Error {
  readonly problems: string[]

  constructor(problems: string[]) {
    super(
      `The configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map((p) => `  - ${p}`).join('\n')}`,
    )
    this.name = 'ConfigError'
    this.problems = problems
  }
}

export type Environment = Readonly<Record<string, string | undefined>>

/**
 * Reads the settings from environment variables (`_FILE` variants already resolved, see `load-environment.ts`).
 * @throws {ConfigError} naming every problem found.
 */
export function readConfig(env: Environment): Config {
  const problems: string[] = []
  const read = new Reader(env, problems)
  const databaseUrl = read.databaseUrl('DATABASE_URL')
  const jwtSecretKey = read.jwtSecret('JWT_SECRET_KEY')
  const encryptionKey = read.encryptionKey('ENCRYPTION_KEY')
  const jwtSecretKeyPrevious = read.jwtSecret('JWT_SECRET_KEY_PREVIOUS')
  const encryptionKeyPrevious = read.encryptionKey('ENCRYPTION_KEY_PREVIOUS')
  if (databaseUrl && !env.JWT_SECRET_KEY?.trim()) problems.push(requiredWithDatabaseUrl('JWT_SECRET_KEY'))
  if (databaseUrl && !env.ENCRYPTION_KEY?.trim()) problems.push(requiredWithDatabaseUrl('ENCRYPTION_KEY'))
  problems.push(
    ...equalSecrets([
      ['JWT_SECRET_KEY', jwtSecretKey],
      ['ENCRYPTION_KEY', encryptionKey],
      ['JWT_SECRET_KEY_PREVIOUS', jwtSecretKeyPrevious],
      ['ENCRYPTION_KEY_PREVIOUS', encryptionKeyPrevious],
    ]),
  )
  if (env.NODE_TLS_REJECT_UNAUTHORIZED === '0') {
    problems.push(
      'NODE_TLS_REJECT_UNAUTHORIZED=0 would send OpenAI keys to anyone: unset it, and use NODE_EXTRA_CA_CERTS for a private authority.',
    )
  }
  const config: Config = {
    host: read.text('HOST', '0.0.0.0'),
    port: read.integer('PORT', 8000, 0, 65_535),
    adminPort: read.optionalInteger('ADMIN_PORT', 0, 65_535),
    dataDirectory: read.text('DATA_DIR', 'data'),
    databaseUrl,
    databasePoolSize: read.integer('DATABASE_POOL_SIZE', 10, 2, 100),
    databaseListenUrl: read.databaseUrl('DATABASE_LISTEN_URL'),
    jwtSecretKey,
    jwtSecretKeyPrevious,
    jwtPreviousUntil: read.time('JWT_PREVIOUS_UNTIL'),
    encryptionKey,
    encryptionKeyPrevious,
    jwtExpirationDays: read.integer('JWT_EXPIRATION_DAYS', 365, 1, 3650),
    legacyTokens: read.choice('LEGACY_TOKENS', ['accept', 'refuse'], 'refuse'),
    openaiBaseUrl: read.baseUrl('OPENAI_API_BASE_URL', 'https://api.openai.com/v1'),
    openaiAllowedOrigins: read.origins('OPENAI_ALLOWED_ORIGINS', []),
    openaiConnectTimeoutMs: read.seconds('OPENAI_CONNECT_TIMEOUT', 5),
    openaiTimeoutMs: read.seconds('OPENAI_TIMEOUT', 600),
    openaiIdleTimeoutMs: read.seconds('OPENAI_IDLE_TIMEOUT', 600),
    openaiTotalTimeoutMs: read.seconds('OPENAI_TOTAL_TIMEOUT', 3600),
    corsOrigins: read.origins('CORS_ORIGINS', ['http://localhost:3000', 'http://localhost:8080']),
    logLevel: read.choice('LOG_LEVEL', LOG_LEVELS, 'info'),
    requestHeadersMax: read.integer('MAX_HEADERS', 100, 10, 1000),
    requestHeaderBytesMax: read.integer('MAX_HEADER_BYTES', 64 * 1024, 8 * 1024, 1024 * 1024),
    requestBodyBytesMax: read.integer('MAX_BODY_BYTES', 32 * 1024 * 1024, 1024, 1024 * 1024 * 1024),
    uploadBytesMax: read.integer('MAX_UPLOAD_BYTES', 600 * 1024 * 1024, 1024, 10 * 1024 ** 3),
    concurrentRequestsMax: read.integer('MAX_CONCURRENT_REQUESTS', 4096, 1, 100_000),
    webSocketFrameBytesMax: read.integer('MAX_WEBSOCKET_FRAME_BYTES', 16 * 1024 * 1024, 1024, 256 * 1024 * 1024),
    webSocketsPerOrganizationMax: read.integer('MAX_WEBSOCKETS_PER_ORGANIZATION', 1000, 1, 100_000),
    webSocketIdleTimeoutMs: read.seconds('WEBSOCKET_IDLE_TIMEOUT', 600),
    webSocketPingIntervalMs: read.seconds('WEBSOCKET_PING_INTERVAL', 30),
    organizationRequestsMax: read.integer('MAX_CONCURRENT_REQUESTS_PER_ORGANIZATION', 1024, 1, 100_000),
    bodyMemoryBytesMax: read.integer('MAX_BODY_MEMORY_BYTES', 256 * 1024 * 1024, 1024, 1024 ** 4),
    memoryBytesMax: read.optionalInteger('MAX_MEMORY_BYTES', 64 * 1024 * 1024, 1024 ** 4) ?? memoryOfThisContainer(),
    eventLoopDelayMsMax: read.integer('MAX_EVENT_LOOP_DELAY_MS', 200, 1, 60_000),
    requestTimeoutMs: read.seconds('REQUEST_TIMEOUT', 60),
    newUsersPerMinuteMax: read.integer('MAX_NEW_USERS_PER_MINUTE', 1000, 1, 1_000_000),
    staleIdentityMs: read.seconds('STALE_IDENTITY_SECONDS', 600),
    shutdownTimeoutMs: read.seconds('SHUTDOWN_TIMEOUT', 600),
    drainDelayMs: read.seconds('DRAIN_DELAY', 5),
    replicaName: read.optionalText('REPLICA_NAME', 128),
    metricsToken: read.token('METRICS_TOKEN'),
    otlpEndpoint: read.optionalUrl('OTEL_EXPORTER_OTLP_ENDPOINT', 'http://localhost:4318'),
    otlpHeaders: read.headers('OTEL_EXPORTER_OTLP_HEADERS'),
    otelServiceName: read.text('OTEL_SERVICE_NAME', 'openai-inference-proxy'),
    tracesRatio: read.share('OTEL_TRACES_SAMPLER_ARG', 1),
    journalSyncMs: read.integer('JOURNAL_SYNC_MS', 30, 1, 10_000),
    rowsDays: read.optionalInteger('ROWS_DAYS', 31, 36_500),
    journalSync: read.choice('JOURNAL_SYNC', ['interval', 'every'], 'interval'),
    pricesFile: read.optionalText('PRICES_FILE'),
    journalBytesMax: read.integer('JOURNAL_MAX_BYTES', 1024 ** 3, 64 * 1024 * 1024, 1024 ** 4),
  }
  if (databaseUrl === undefined && config.databaseListenUrl !== undefined) {
    problems.push('DATABASE_LISTEN_URL needs DATABASE_URL: the embedded database is listened to as it is.')
  }
  // One body of the largest size can always be taken.
  config.bodyMemoryBytesMax = Math.max(config.bodyMemoryBytesMax, config.requestBodyBytesMax)
  if (config.adminPort !== undefined && config.adminPort !== 0 && config.adminPort === config.port) {
    problems.push('ADMIN_PORT equals PORT: leave it unset to share one port, or choose another.')
  }
  if (problems.length > 0) throw new ConfigError(problems)
  return config
}

/** The longest timer there is (2^31 - 1 ms, 24 days): a longer one would go off at once. */
const SECONDS_MAX = 2_147_483

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** Lower-case pieces that mark a value copied from a template rather than generated. */
const PLACEHOLDERS = /change.?(me|this|in)|\byour[-_ ]|replace|placeholder|insert[-_ ]|\bto[-_ ]?do\b|super[-_ ]?secret/

const GENERATE = 'Run "openai-proxy generate-keys" for good values.'

/** Reads one variable after the other, noting what is wrong instead of stopping at the first. */
class Reader {
  readonly #env: Environment
  readonly #problems: string[]

  constructor(env: Environment, problems: string[]) {
    this.#env = env
    this.#problems = problems
  }

  text(name: string, fallback: string): string {
    return this.#value(name) ?? fallback
  }

  optionalText(name: string, lengthMax = 4096): string | undefined {
    const value = this.#value(name)
    if (value === undefined || value.length <= lengthMax) return value
    return this.#problem(`${name} has up to ${lengthMax} characters.`)
  }

  /** A credential of this installation's own making. */
  token(name: string): Secret | undefined {
    const value = this.#value(name)
    if (value === undefined) return undefined
    if (/^[\x21-\x7e]{20,}$/.test(value) && !isPlaceholder(value)) return new Secret(value)
    return this.#problem(`${name} must be 20 or more printable characters without blanks, and no placeholder.`)
  }

  /** A list of `name=value`, values percent-encoded, that is sent as headers. */
  headers(name: string): Secret | undefined {
    const value = this.#value(name)
    if (value === undefined) return undefined
    const isList = value
      .split(',')
      .every((pair) => /^\s*[\w-]+\s*=(?:[\x21-\x24\x26-\x7e ]|%[0-7][0-9a-fA-F])*$/.test(pair))
    return isList ? new Secret(value) : this.#problem(`${name} must be a list such as name=value,name=value.`)
  }

  share(name: string, fallback: number): number {
    const value = this.#value(name)
    if (value === undefined) return fallback
    if (/^(?:0(?:\.\d{1,6})?|1(?:\.0{1,6})?)$/.test(value)) return Number(value)
    this.#problem(`${name} must be a number from 0 to 1.`)
    return fallback
  }

  optionalUrl(name: string, example: string): URL | undefined {
    return this.#value(name) === undefined ? undefined : this.baseUrl(name, example)
  }

  integer(name: string, fallback: number, min: number, max: number): number {
    return this.optionalInteger(name, min, max) ?? fallback
  }

  optionalInteger(name: string, min: number, max: number): number | undefined {
    const value = this.#value(name)
    if (value === undefined) return undefined
    const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN
    if (number >= min && number <= max) return number
    return this.#problem(`${name} must be a whole number from ${min} to ${max}.`)
  }

  /** Seconds, fractions allowed, as milliseconds. */
  seconds(name: string, fallback: number): number {
    const value = this.#value(name)
    if (value === undefined) return fallback * 1000
    const seconds = /^\d{1,7}(\.\d{1,3})?$/.test(value) ? Number(value) : 0
    if (seconds > 0 && seconds <= SECONDS_MAX) return Math.ceil(seconds * 1000)
    this.#problem(`${name} must be a number of seconds above 0 and up to ${SECONDS_MAX}.`)
    return fallback * 1000
  }

  /** A moment, with its zone: `2026-12-01T00:00:00Z`. */
  time(name: string): Date | undefined {
    const value = this.#value(name)
    if (value === undefined) return undefined
    const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(value)
      ? new Date(value)
      : undefined
    if (time && !Number.isNaN(time.getTime())) return time
    return this.#problem(`${name} must be a time with its zone, such as 2026-12-01T00:00:00Z.`)
  }

  choice<const T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.#value(name)?.toLowerCase()
    if (value === undefined) return fallback
    // The earlier system and many others say "warning".
    const found = choices.find((choice) => choice === value || (choice === 'warn' && value === 'warning'))
    if (!found) this.#problem(`${name} must be one of ${choices.join(', ')}.`)
    return found ?? fallback
  }

  /** An http(s) URL without credentials, query or fragment, and without a slash at its end. */
  baseUrl(name: string, fallback: string): URL {
    const value = this.#value(name) ?? fallback
    const url = parseUrl(value)
    if (!url || !/^https?:$/.test(url.protocol)) {
      this.#problem(`${name} must be an http or https URL such as ${fallback}.`)
      return new URL(fallback)
    }
    if (url.username || url.password || url.search || url.hash) {
      this.#problem(`${name} must not contain credentials, a query or a fragment.`)
    }
    url.pathname = url.pathname.replace(/\/+$/, '')
    return url
  }

  /** A comma list or a JSON array of origins; `*` alone allows every origin. */
  origins(name: string, fallback: string[]): string[] {
    const value = this.#value(name)
    if (value === undefined) return fallback
    const entries = parseList(value)
    if (!entries) {
      this.#problem(
        `${name} must be a comma-separated list or a JSON array of origins such as https://app.example.com.`,
      )
      return fallback
    }
    for (const entry of entries) {
      if (entry === '*' && name === 'CORS_ORIGINS') continue
      const url = parseUrl(entry)
      if (!url || entry.includes('*') || url.origin === 'null' || entry.replace(/\/$/, '') !== url.origin) {
        this.#problem(`${name} has an entry that is not an origin: write it as scheme://host or scheme://host:port.`)
      }
    }
    return entries.map((entry) => entry.replace(/\/$/, ''))
  }

  databaseUrl(name: string): Secret | undefined {
    const value = this.#value(name)
    if (value === undefined) return undefined
    // "+asyncpg" and its like name a driver of the earlier system's language; the address behind it is the same.
    const plain = value.replace(/^postgres(?:ql)?(?:\+\w+)?:\/\//i, 'postgresql://')
    const url = plain.startsWith('postgresql://') ? parseUrl(plain) : undefined
    if (!url) {
      this.#problem(`${name} must look like postgresql://user:password@host:5432/database.`)
      return undefined
    }
    if (url.pathname.length < 2) this.#problem(`${name} names no database: end it with /openai_proxy or the like.`)
    return new Secret(plain)
  }

  jwtSecret(name: string): Secret | undefined {
    const value = this.#value(name)
    if (value === undefined) return undefined
    if (value.length < 32) return this.#problem(`${name} must have at least 32 characters. ${GENERATE}`)
    if (isPlaceholder(value)) return this.#problem(`${name} is a placeholder or a pattern, not a secret. ${GENERATE}`)
    return new Secret(value)
  }

  encryptionKey(name: string): Secret | undefined {
    const value = this.#value(name)
    if (value === undefined) return undefined
    const bytes = decodeKey(value)
    if (!bytes)
      return this.#problem(`${name} must be 32 bytes written as base64 or base64url (44 characters). ${GENERATE}`)
    if (new Set(bytes).size < 8 || isPlaceholder(bytes.toString('latin1'))) {
      return this.#problem(`${name} is a placeholder or a pattern, not a key. ${GENERATE}`)
    }
    return new Secret(value)
  }

  /** An empty variable means "not set", as in shells and compose files. */
  #value(name: string): string | undefined {
    const value = this.#env[name]?.trim()
    return value === '' ? undefined : value
  }

  #problem(sentence: string): undefined {
    this.#problems.push(sentence)
  }
}

/** The 32 bytes of a base64 or base64url key, or undefined when the text is anything else. */
export function decodeKey(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  return bytes.length === 32 ? bytes : undefined
}

/** A secret serves one purpose, and a former one is another than the present one. */
function equalSecrets(secrets: [name: string, secret: Secret | undefined][]): string[] {
  return secrets.flatMap(([name, secret], index) =>
    secrets.slice(index + 1).flatMap(([otherName, other]) => {
      if (!secret || !other || !isSameSecret(secret, other)) return []
      if (otherName === `${name}_PREVIOUS`)
        return `${otherName} equals ${name}: it is for the former one; leave it unset when there is none.`
      return `${name} and ${otherName} are equal: each purpose needs a secret of its own. Run "openai-proxy generate-keys".`
    }),
  )
}

function isSameSecret(a: Secret, b: Secret): boolean {
  const [one, other] = [a.reveal(), b.reveal()]
  return one === other || Boolean(decodeKey(one)?.equals(decodeKey(other) ?? Buffer.alloc(0)))
}

function isPlaceholder(value: string): boolean {
  return new Set(value).size < 8 || PLACEHOLDERS.test(value.toLowerCase())
}

function requiredWithDatabaseUrl(name: string): string {
  return `${name} is required when DATABASE_URL is set, so that every replica uses the same one. ${GENERATE}`
}

/** What the container may use, or else the machine has. */
function memoryOfThisContainer(): number {
  return Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem())
}

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined
}

function parseList(text: string): string[] | undefined {
  if (!text.startsWith('[')) {
    return text
      .split(',')
      .map((entry) => entry.trim())
      .filter(Boolean)
  }
  try {
    const list: unknown = JSON.parse(text)
    return Array.isArray(list) && list.every((entry) => typeof entry === 'string') ? list : undefined
  } catch {
    return undefined
  }
}
