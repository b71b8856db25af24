import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { ConfigError, decodeKey, type Environment, readConfig } from './config.ts'
import { generateSecrets } from './instance-secrets.ts'

const SENTINEL = 'Zq7-sentinel-9Xk'

test('without a single variable every setting has its default', () => {
  const { openaiBaseUrl, ...config } = readConfig({})
  assert.equal(openaiBaseUrl.href, 'https://api.openai.com/v1')
  const expected = {
    host: '0.0.0.0',
    port: 8000,
    adminPort: undefined,
    dataDirectory: 'data',
    databaseUrl: undefined,
    databasePoolSize: 10,
    jwtSecretKey: undefined,
    encryptionKey: undefined,
    jwtExpirationDays: 365,
    legacyTokens: 'refuse',
    openaiAllowedOrigins: [],
    openaiConnectTimeoutMs: 5000,
    openaiTimeoutMs: 600_000,
    openaiIdleTimeoutMs: 600_000,
    openaiTotalTimeoutMs: 3_600_000,
    corsOrigins: ['http://localhost:3000', 'http://localhost:8080'],
    logLevel: 'info',
    requestHeadersMax: 100,
    requestHeaderBytesMax: 65_536,
    requestBodyBytesMax: 33_554_432,
    concurrentRequestsMax: 4096,
    requestTimeoutMs: 60_000,
    newUsersPerMinuteMax: 1000,
    staleIdentityMs: 600_000,
    shutdownTimeoutMs: 600_000,
  }
  for (const [name, value] of Object.entries(expected))
    assert.deepEqual(config[name as keyof typeof config], value, name)
})

test('a former secret is held to the rules of a present one, and is another', () => {
  const [present, former] = [generateSecrets(), generateSecrets()]
  const previous = {
    JWT_SECRET_KEY_PREVIOUS: former.JWT_SECRET_KEY,
    ENCRYPTION_KEY_PREVIOUS: former.ENCRYPTION_KEY,
    JWT_PREVIOUS_UNTIL: '2026-12-01T01:00:00+01:00',
  }
  const config = readConfig({ ...present, ...previous })
  assert.equal(config.jwtSecretKeyPrevious?.reveal(), former.JWT_SECRET_KEY)
  assert.equal(config.encryptionKeyPrevious?.reveal(), former.ENCRYPTION_KEY)
  assert.equal(config.jwtPreviousUntil?.toISOString(), '2026-12-01T00:00:00.000Z')

  for (const [env, sentence] of [
    [{ JWT_SECRET_KEY_PREVIOUS: 'short' }, /JWT_SECRET_KEY_PREVIOUS must have at least 32 characters/],
    [{ ENCRYPTION_KEY_PREVIOUS: `${'x'.repeat(43)}=` }, /ENCRYPTION_KEY_PREVIOUS is a placeholder/],
    [{ JWT_SECRET_KEY_PREVIOUS: present.JWT_SECRET_KEY }, /JWT_SECRET_KEY_PREVIOUS equals JWT_SECRET_KEY/],
    [{ ENCRYPTION_KEY_PREVIOUS: present.ENCRYPTION_KEY }, /ENCRYPTION_KEY_PREVIOUS equals ENCRYPTION_KEY/],
    [{ JWT_SECRET_KEY_PREVIOUS: present.ENCRYPTION_KEY }, /each purpose needs a secret of its own/],
    [{ JWT_PREVIOUS_UNTIL: '2026-12-01' }, /JWT_PREVIOUS_UNTIL must be a time with its zone/],
    [{ JWT_PREVIOUS_UNTIL: '2026-13-01T00:00:00Z' }, /JWT_PREVIOUS_UNTIL must be a time with its zone/],
    [{ JWT_PREVIOUS_UNTIL: 'tomorrow' }, /JWT_PREVIOUS_UNTIL must be a time with its zone/],
  ] as const) {
    assert.throws(
      () => readConfig({ ...present, ...env }),
      (error) => error instanceof ConfigError && error.problems.some((problem) => sentence.test(problem)),
      JSON.stringify(Object.keys(env)),
    )
  }
})

test('an empty variable is one that is not set', () => {
  const env = { PORT: '', LOG_LEVEL: ' ', DATABASE_URL: '', JWT_SECRET_KEY: '  ', ENCRYPTION_KEY: '', ADMIN_PORT: '' }
  assert.deepEqual(readConfig(env), readConfig({}))
})

test('whole numbers are taken within their bounds and in no other form', () => {
  const bounds: [string, keyof ReturnType<typeof readConfig>, number, number][] = [
    ['PORT', 'port', 0, 65_535],
    ['ADMIN_PORT', 'adminPort', 0, 65_535],
    ['DATABASE_POOL_SIZE', 'databasePoolSize', 2, 100],
    ['JWT_EXPIRATION_DAYS', 'jwtExpirationDays', 1, 3650],
    ['MAX_HEADERS', 'requestHeadersMax', 10, 1000],
    ['MAX_HEADER_BYTES', 'requestHeaderBytesMax', 8192, 1_048_576],
    ['MAX_BODY_BYTES', 'requestBodyBytesMax', 1024, 1_073_741_824],
    ['MAX_CONCURRENT_REQUESTS', 'concurrentRequestsMax', 1, 100_000],
    ['MAX_NEW_USERS_PER_MINUTE', 'newUsersPerMinuteMax', 1, 1_000_000],
    ['MAX_CONCURRENT_REQUESTS_PER_ORGANIZATION', 'organizationRequestsMax', 1, 100_000],
    ['MAX_EVENT_LOOP_DELAY_MS', 'eventLoopDelayMsMax', 1, 60_000],
    ['MAX_MEMORY_BYTES', 'memoryBytesMax', 67_108_864, 1_099_511_627_776],
  ]
  for (const [variable, setting, min, max] of bounds) {
    assert.equal(readConfig({ [variable]: String(min) })[setting], min, variable)
    assert.equal(readConfig({ [variable]: ` ${max}\n` })[setting], max, variable)
    for (const bad of [String(max + 1), '-1', '1.5', '1e3', '0x10', 'many', '٣', '9'.repeat(20)]) {
      assert.deepEqual(namesOf(problemsOf({ [variable]: bad })), [variable], `${variable}=${bad}`)
    }
    if (min > 0) assert.deepEqual(namesOf(problemsOf({ [variable]: String(min - 1) })), [variable])
  }
})

test('seconds may have fractions, and no duration is longer than a timer can be', () => {
  const durations: [string, keyof ReturnType<typeof readConfig>][] = [
    ['OPENAI_CONNECT_TIMEOUT', 'openaiConnectTimeoutMs'],
    ['OPENAI_TIMEOUT', 'openaiTimeoutMs'],
    ['OPENAI_IDLE_TIMEOUT', 'openaiIdleTimeoutMs'],
    ['OPENAI_TOTAL_TIMEOUT', 'openaiTotalTimeoutMs'],
    ['REQUEST_TIMEOUT', 'requestTimeoutMs'],
    ['STALE_IDENTITY_SECONDS', 'staleIdentityMs'],
    ['SHUTDOWN_TIMEOUT', 'shutdownTimeoutMs'],
    ['DRAIN_DELAY', 'drainDelayMs'],
  ]
  for (const [variable, setting] of durations) {
    assert.equal(readConfig({ [variable]: '1.5' })[setting], 1500, variable)
    assert.equal(readConfig({ [variable]: '0.001' })[setting], 1, variable)
    // A timer above 2^31 - 1 ms goes off at once.
    assert.equal(readConfig({ [variable]: '2147483' })[setting], 2_147_483_000, variable)
    for (const bad of ['0', '0.0', '-1', '1s', '1e2', 'Infinity', '2147484', '9999999', '12345678']) {
      assert.deepEqual(namesOf(problemsOf({ [variable]: bad })), [variable], `${variable}=${bad}`)
    }
  }
})

test('the log level is known in any case, and by the names of other systems', () => {
  for (const [text, level] of [
    ['DEBUG', 'debug'],
    ['Info', 'info'],
    ['WARNING', 'warn'],
    ['warn', 'warn'],
    ['Silent', 'silent'],
    ['ERROR', 'error'],
  ]) {
    assert.equal(readConfig({ LOG_LEVEL: text }).logLevel, level)
  }
  for (const bad of ['verbose', '3', 'info,debug'])
    assert.deepEqual(namesOf(problemsOf({ LOG_LEVEL: bad })), ['LOG_LEVEL'])
  assert.equal(readConfig({ LEGACY_TOKENS: 'Accept' }).legacyTokens, 'accept')
  assert.deepEqual(namesOf(problemsOf({ LEGACY_TOKENS: 'yes' })), ['LEGACY_TOKENS'])
})

test('origins come as a comma list or a JSON array, with or without a slash at their end', () => {
  const expected = ['https://a.example', 'http://localhost:3000']
  for (const text of [
    'https://a.example,http://localhost:3000',
    ' https://a.example/ , http://localhost:3000, ',
    '["https://a.example","http://localhost:3000/"]',
  ]) {
    assert.deepEqual(readConfig({ CORS_ORIGINS: text }).corsOrigins, expected, text)
    assert.deepEqual(readConfig({ OPENAI_ALLOWED_ORIGINS: text }).openaiAllowedOrigins, expected, text)
  }
  assert.deepEqual(readConfig({ CORS_ORIGINS: '*' }).corsOrigins, ['*'])
  assert.deepEqual(readConfig({ CORS_ORIGINS: '[]' }).corsOrigins, [])
  for (const bad of [
    'a.example',
    'https://a.example/path',
    'https://a.example?x',
    'https://u:p@a.example',
    'null',
    'file:///etc',
    '["https://a.example"',
    '[1]',
    '{}',
    'HTTPS://A.EXAMPLE',
  ]) {
    assert.ok(namesOf(problemsOf({ CORS_ORIGINS: bad })).includes('CORS_ORIGINS'), bad)
    assert.ok(namesOf(problemsOf({ OPENAI_ALLOWED_ORIGINS: bad })).includes('OPENAI_ALLOWED_ORIGINS'), bad)
  }
})

test('the base URL loses its last slash, and takes no credentials, query or other scheme', () => {
  for (const [text, href] of [
    ['https://api.openai.com/v1/', 'https://api.openai.com/v1'],
    ['http://127.0.0.1:9000/v1//', 'http://127.0.0.1:9000/v1'],
    ['https://proxy.example', 'https://proxy.example/'],
  ]) {
    assert.equal(readConfig({ OPENAI_API_BASE_URL: text }).openaiBaseUrl.href, href)
  }
  for (const bad of [
    'ftp://x/v1',
    'api.openai.com/v1',
    'https://u:p@x/v1',
    'https://x/v1?a=b',
    'https://x/v1#a',
    '/v1',
  ]) {
    assert.deepEqual(namesOf(problemsOf({ OPENAI_API_BASE_URL: bad })), ['OPENAI_API_BASE_URL'], bad)
  }
})

test('a database URL of any driver is the same address', () => {
  for (const scheme of ['postgresql', 'postgres', 'postgresql+asyncpg', 'postgresql+psycopg2', 'POSTGRES']) {
    const { databaseUrl } = readConfig({
      ...generateSecrets(),
      DATABASE_URL: `${scheme}://u:p%40@db:5433/proxy?sslmode=require`,
    })
    assert.equal(databaseUrl?.reveal(), 'postgresql://u:p%40@db:5433/proxy?sslmode=require')
  }
  for (const bad of [
    'mysql://u@h/d',
    'sqlite:///x.db',
    'h:5432/d',
    'postgresql://u@h',
    'postgresql://u@h/',
    'postgresql://u@h:port/d',
  ]) {
    assert.deepEqual(namesOf(problemsOf({ ...generateSecrets(), DATABASE_URL: bad })), ['DATABASE_URL'], bad)
  }
})

test('with a database of its own a server needs both secrets from its operator', () => {
  const DATABASE_URL = 'postgresql://u@h/d'
  const { JWT_SECRET_KEY, ENCRYPTION_KEY } = generateSecrets()
  assert.deepEqual(namesOf(problemsOf({ DATABASE_URL })), ['JWT_SECRET_KEY', 'ENCRYPTION_KEY'])
  assert.deepEqual(namesOf(problemsOf({ DATABASE_URL, JWT_SECRET_KEY })), ['ENCRYPTION_KEY'])
  assert.deepEqual(namesOf(problemsOf({ DATABASE_URL, ENCRYPTION_KEY })), ['JWT_SECRET_KEY'])
  assert.doesNotThrow(() => readConfig({ DATABASE_URL, JWT_SECRET_KEY, ENCRYPTION_KEY }))
})

test('a secret that is short, a pattern or copied from a template is refused', () => {
  for (const bad of [
    'short',
    'x'.repeat(31),
    'x'.repeat(64),
    'abcabcabcabcabcabcabcabcabcabcabcabcabc',
    'your-secret-key-here-0123456789abcdef',
    'change-me-in-production-0123456789',
    'CHANGEME0123456789abcdefghijklmnop',
    'please_replace_this_0123456789abcdef',
    'TODO: a secret of at least 32 chars.',
    'super_secret_key_that_is_long_enough_1',
  ]) {
    assert.deepEqual(namesOf(problemsOf({ JWT_SECRET_KEY: bad })), ['JWT_SECRET_KEY'], bad)
  }
  for (const bad of [
    'short',
    randomBytes(31).toString('base64'),
    randomBytes(33).toString('base64'),
    randomBytes(32).toString('hex'),
    `${randomBytes(32).toString('base64').slice(0, 42)}!=`,
    Buffer.alloc(32).toString('base64'),
    Buffer.from('0123456'.repeat(5).slice(0, 32)).toString('base64'),
    Buffer.from('change-me-in-production-01234567').toString('base64'),
  ]) {
    assert.deepEqual(namesOf(problemsOf({ ENCRYPTION_KEY: bad })), ['ENCRYPTION_KEY'], bad)
  }
})

test('a random secret is never taken for a template because of the letters it happens to have', () => {
  for (const JWT_SECRET_KEY of [
    'q8Xtodo3vB-_Rk2mZp7LwY4nHs9Dc1Jf6Gt0UaEiOq5Wx',
    'q8XTOdo3vByour_Rk2mZp7LwY4nHs9Dc1Jf6Gt0UaEiOq',
  ]) {
    assert.equal(readConfig({ JWT_SECRET_KEY }).jwtSecretKey?.reveal(), JWT_SECRET_KEY)
  }
})

test('what monitoring needs is checked at the start, and its secrets are not repeated', () => {
  const config = readConfig({
    METRICS_TOKEN: 'q8Zr4nWb2LxV7pKd0sTf',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318/',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%20b, x-other=c=d',
    OTEL_TRACES_SAMPLER_ARG: '0.25',
  })
  assert.equal(config.otlpEndpoint?.href, 'http://collector:4318/')
  assert.equal(config.tracesRatio, 0.25)
  for (const [name, bad] of [
    ['METRICS_TOKEN', `${SENTINEL}`],
    ['METRICS_TOKEN', `${SENTINEL} with blanks`],
    ['METRICS_TOKEN', 'change-me-change-me-change-me'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', `http://u:${SENTINEL}@collector`],
    ['OTEL_EXPORTER_OTLP_HEADERS', SENTINEL],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'x-key=%zz'],
    ['OTEL_TRACES_SAMPLER_ARG', '1.1'],
    ['OTEL_TRACES_SAMPLER_ARG', 'always_on'],
    ['REPLICA_NAME', 'x'.repeat(129)],
  ] as const) {
    const problems = problemsOf({ [name]: bad })
    assert.deepEqual(namesOf(problems), [name], bad)
    assert.ok(!problems.join().includes(SENTINEL))
  }
  // One body of the largest size can always be taken.
  assert.equal(readConfig({ MAX_BODY_MEMORY_BYTES: '1024', MAX_BODY_BYTES: '2048' }).bodyMemoryBytesMax, 2048)
})

test('an encryption key is 32 bytes as base64 or base64url, with or without its padding', () => {
  const bytes = Buffer.from([...Array(32).keys()].map((n) => (n * 37 + 250) % 256))
  const [base64, base64url] = [bytes.toString('base64'), bytes.toString('base64url')]
  assert.match(base64, /[+/]/)
  for (const text of [base64, base64url, base64.slice(0, -1), `${base64url}=`]) {
    assert.deepEqual(decodeKey(readConfig({ ENCRYPTION_KEY: text }).encryptionKey?.reveal() ?? ''), bytes, text)
  }
})

test('one value for two purposes is refused, in whatever encoding', () => {
  const key = randomBytes(32)
  for (const JWT_SECRET_KEY of [key.toString('base64'), key.toString('base64url')]) {
    const problems = problemsOf({ JWT_SECRET_KEY, ENCRYPTION_KEY: key.toString('base64') })
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /JWT_SECRET_KEY and ENCRYPTION_KEY/)
  }
})

test('certificates are always checked, and two listeners have two ports', () => {
  assert.deepEqual(namesOf(problemsOf({ NODE_TLS_REJECT_UNAUTHORIZED: '0' })), ['NODE_TLS_REJECT_UNAUTHORIZED'])
  assert.deepEqual(namesOf(problemsOf({ PORT: '9000', ADMIN_PORT: '9000' })), ['ADMIN_PORT'])
  assert.doesNotThrow(() => readConfig({ PORT: '0', ADMIN_PORT: '0' }))
})

test('every problem is told at once, each naming its variable, and none its value', () => {
  const variables = [
    'PORT',
    'ADMIN_PORT',
    'DATABASE_URL',
    'DATABASE_POOL_SIZE',
    'JWT_SECRET_KEY',
    'ENCRYPTION_KEY',
    'JWT_EXPIRATION_DAYS',
    'LEGACY_TOKENS',
    'OPENAI_API_BASE_URL',
    'OPENAI_ALLOWED_ORIGINS',
    'OPENAI_CONNECT_TIMEOUT',
    'OPENAI_TIMEOUT',
    'OPENAI_IDLE_TIMEOUT',
    'OPENAI_TOTAL_TIMEOUT',
    'CORS_ORIGINS',
    'LOG_LEVEL',
    'MAX_HEADERS',
    'MAX_HEADER_BYTES',
    'MAX_BODY_BYTES',
    'MAX_CONCURRENT_REQUESTS',
    'REQUEST_TIMEOUT',
    'MAX_NEW_USERS_PER_MINUTE',
    'STALE_IDENTITY_SECONDS',
    'SHUTDOWN_TIMEOUT',
  ]
  for (const value of [
    SENTINEL,
    `postgresql://user:${SENTINEL}@`,
    `https://${SENTINEL}:${SENTINEL}@x/?${SENTINEL}`,
    `["${SENTINEL}"`,
  ]) {
    const error = errorOf({
      ...Object.fromEntries(variables.map((name) => [name, value])),
      JWT_SECRET_KEY: SENTINEL,
    })
    assert.deepEqual([...new Set(namesOf(error.problems))].sort(), [...variables].sort())
    assert.ok(!`${error.message}${error.stack}${JSON.stringify(error)}`.includes(SENTINEL))
  }
})

function errorOf(env: Environment): ConfigError {
  try {
    readConfig(env)
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error
  }
  return assert.fail('the configuration was accepted')
}

function problemsOf(env: Environment): string[] {
  return errorOf(env).problems
}

/** The variable that each sentence begins with. */
function namesOf(problems: string[]): string[] {
  return problems.map((sentence) => /^[A-Z_]+/.exec(sentence)?.[0] ?? sentence)
}
