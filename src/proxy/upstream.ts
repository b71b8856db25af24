import type { Readable } from 'node:stream'
import { type Dispatcher, Pool } from 'undici'
import { WebSocket } from 'ws'
import { isTrustedOrigin } from '../api-keys/base-url.ts'
import type { UpstreamKey } from '../api-keys/key-ring.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { ProbeUpstream } from '../health/service.ts'

/** Connections to OpenAI, kept warm; one pool for each origin that keys point to. */
export interface Upstream {
  /** @param baseUrl of the key; without one that of the configuration. */
  dispatch(call: UpstreamCall, baseUrl: string | undefined, handler: Dispatcher.DispatchHandler): void
  /**
   * A WebSocket that is about to open.
   * @param path below the base URL, with its query.
   */
  openSocket(key: UpstreamKey, path: string, headers: string[]): WebSocket
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

  function trusted(baseUrl: string): URL {
    const url = new URL(baseUrl)
    // Asked again here: the list of trusted origins may have become shorter since the key was stored.
    if (isTrustedOrigin(url, settings)) return url
    throw new AppError('upstream_unreachable', "This API key's base URL is not trusted by the operator any more.")
  }

  function poolFor(baseUrl: string): { pool: Pool; prefix: string } {
    const known = pools.get(baseUrl)
    if (known) return known
    const url = trusted(baseUrl)
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
    const entry = { pool, prefix: prefixOf(url) }
    pools.set(baseUrl, entry)
    return entry
  }

  function openSocket(key: UpstreamKey, path: string, headers: string[]): WebSocket {
    const url = trusted(key.baseUrl ?? settings.openaiBaseUrl.href)
    const scheme = url.protocol === 'https:' ? 'wss' : 'ws'
    return new WebSocket(`${scheme}://${url.host}${prefixOf(url)}${path}`, {
      headers: toRecord(headers),
      perMessageDeflate: false,
      handshakeTimeout: settings.openaiConnectTimeoutMs,
      maxPayload: EVENT_BYTES_MAX,
    })
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
    openSocket,
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

function prefixOf(url: URL): string {
  return url.pathname.replace(/\/+$/, '')
}

/** From names and values in turn. */
function toRecord(headers: readonly string[]): Record<string, string | string[]> {
  const record: Record<string, string[]> = {}
  for (let at = 0; at < headers.length; at += 2) {
    const name = headers[at] as string
    record[name] = [...(record[name] ?? []), headers[at + 1] as string]
  }
  return Object.fromEntries(
    Object.entries(record).map(([name, values]) => [name, values.length > 1 ? values : values[0]]),
  ) as Record<string, string | string[]>
}

/** Of one event over a WebSocket: images come whole. */
const EVENT_BYTES_MAX = 128 * 1024 * 1024

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

/** Answers of OpenAI's that are about the proxy's own business with it, not about the caller's request. */
export function refusalFor(status: number): AppError | undefined {
  if (status === 401) {
    return new AppError(
      'upstream_unauthorized',
      'OpenAI refused the OpenAI key behind this API key. Ask an administrator to replace it.',
    )
  }
  if (status >= 300 && status < 400) {
    return new AppError('upstream_redirected', 'OpenAI answered with a redirect, which is not followed.')
  }
  return undefined
}
