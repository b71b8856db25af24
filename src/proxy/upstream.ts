import type { Readable } from 'node:stream'
import { type Dispatcher, Pool } from 'undici'
import { isTrustedOrigin } from '../api-keys/base-url.ts'
import type { UpstreamKey } from '../api-keys/key-ring.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { ProbeUpstream } from '../health/service.ts'

/** Connections to OpenAI, kept warm; one pool for each origin that keys point to. */
export interface Upstream {
  /** @param baseUrl of the key; without one that of the configuration. */
  dispatch(call: UpstreamCall, baseUrl: string | undefined, handler: Dispatcher.DispatchHandler): void
  /** Asks for the list of models, which costs nothing; asked again within seconds it repeats its last answer. */
  probe(key: UpstreamKey): ReturnType<ProbeUpstream>
  /**
   * Asks for something of an organization's own on the proxy's account, as for a list.
   * @throws {AppError} when OpenAI cannot be reached.
   */
  ask(key: UpstreamKey, path: string, signal: AbortSignal): Promise<UpstreamAnswer>
  [Symbol.asyncDispose](): Promise<void>
}

/** An answer whose body is still to be read, which throws an `AppError` when OpenAI does not bring it to its end. */
export interface UpstreamAnswer {
  status: number
  body: AsyncIterable<Buffer> & { dump(): Promise<void> }
}

export interface UpstreamCall {
  method: 'GET' | 'POST' | 'DELETE'
  /** Below the base URL, with its query. */
  path: string
  headers: string[]
  body: Buffer | AsyncIterable<Buffer> | undefined
}

type Settings = Pick<
  Config,
  | 'openaiBaseUrl'
  | 'openaiAllowedOrigins'
  | 'openaiConnectTimeoutMs'
  | 'openaiTimeoutMs'
  | 'openaiIdleTimeoutMs'
  | 'requestHeaderBytesMax'
>

export function openUpstream(settings: Settings): Upstream {
  const pools = new Map<string, { pool: Pool; prefix: string }>()
  const probes = new Map<string, { at: number; result: ReturnType<ProbeUpstream> }>()

  function poolFor(baseUrl: string): { pool: Pool; prefix: string } {
    const known = pools.get(baseUrl)
    if (known) return known
    const url = new URL(baseUrl)
    // Asked again here: the list of trusted origins may have become shorter since the key was stored.
    if (!isTrustedOrigin(url, settings)) {
      throw new AppError('upstream_unreachable', "This API key's base URL is not trusted by the operator any more.")
    }
    const pool = new Pool(url.origin, {
      connections: null,
      pipelining: 1,
      allowH2: false,
      maxHeaderSize: settings.requestHeaderBytesMax,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MAX_MS,
      // undici's own 300 s would cut a reasoning model off in mid-thought.
      headersTimeout: settings.openaiTimeoutMs,
      bodyTimeout: settings.openaiIdleTimeoutMs,
      connect: { timeout: settings.openaiConnectTimeoutMs, noDelay: true, keepAlive: true },
    })
    const entry = { pool, prefix: url.pathname.replace(/\/+$/, '') }
    pools.set(baseUrl, entry)
    return entry
  }

  async function probe(key: UpstreamKey): ReturnType<ProbeUpstream> {
    try {
      const { pool, prefix } = poolFor(key.baseUrl ?? settings.openaiBaseUrl.href)
      const answer = await pool.request({
        method: 'GET',
        path: `${prefix}/models`,
        headers: { authorization: `Bearer ${key.secret.reveal()}` },
        signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
      })
      await answer.body.dump()
      if (answer.statusCode === 401) return 'refuses_key'
      return answer.statusCode < 500 ? 'answers' : 'unreachable'
    } catch {
      return 'unreachable'
    }
  }

  return {
    dispatch(call, baseUrl, handler) {
      const { pool, prefix } = poolFor(baseUrl ?? settings.openaiBaseUrl.href)
      pool.dispatch(
        {
          method: call.method,
          path: `${prefix}${call.path}`,
          headers: call.headers,
          // undici takes any iterable of bytes; its types know only some.
          body: (call.body ?? null) as Readable | Buffer | null,
        },
        handler,
      )
    },
    async ask(key, path, signal) {
      const { pool, prefix } = poolFor(key.baseUrl ?? settings.openaiBaseUrl.href)
      try {
        const { statusCode, body } = await pool.request({
          method: 'GET',
          path: `${prefix}${path}`,
          headers: { authorization: `Bearer ${key.secret.reveal()}`, 'accept-encoding': 'identity' },
          signal,
        })
        return { status: statusCode, body: withFaultsTold(body) }
      } catch (error) {
        throw upstreamFault(error as Error)
      }
    },
    probe(key) {
      const known = probes.get(key.apiKeyId)
      if (known && performance.now() - known.at < PROBE_FRESH_MS) return known.result
      const result = probe(key)
      if (probes.size >= PROBES_MAX) probes.clear()
      probes.set(key.apiKeyId, { at: performance.now(), result })
      return result
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...pools.values()].map(({ pool }) => pool.destroy()))
    },
  }
}

function withFaultsTold(body: UpstreamAnswer['body']): UpstreamAnswer['body'] {
  return {
    async *[Symbol.asyncIterator]() {
      try {
        yield* body
      } catch (error) {
        throw upstreamFault(error as Error)
      }
    },
    dump: () =>
      body.dump().catch((error: Error) => {
        throw upstreamFault(error)
      }),
  }
}

const PROBE_TIMEOUT_MS = 5000
const PROBE_FRESH_MS = 5000
const PROBES_MAX = 10_000

/** Below OpenAI's own idle limit, so that a connection is seldom used as it is being closed. */
const KEEP_ALIVE_MS = 30_000
const KEEP_ALIVE_MAX_MS = 300_000

/** What went wrong below HTTP, as an answer to the client. */
export function upstreamFault(error: Error): AppError {
  const code = 'code' in error ? String(error.code) : ''
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT') {
    return new AppError('upstream_connect_timeout', 'OpenAI could not be connected to in time.', {
      retryAfterSeconds: 1,
    })
  }
  if (code === 'UND_ERR_HEADERS_TIMEOUT') {
    return new AppError('upstream_timeout', 'OpenAI did not begin to answer in time (OPENAI_TIMEOUT).')
  }
  if (code === 'UND_ERR_BODY_TIMEOUT') {
    return new AppError('upstream_timeout', 'OpenAI stopped in the middle of its answer (OPENAI_IDLE_TIMEOUT).')
  }
  return new AppError('upstream_unreachable', 'The connection to OpenAI could not be made or was lost.', {
    retryAfterSeconds: 1,
  })
}
