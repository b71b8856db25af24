import { createServer, type IncomingMessage, type Server, ServerResponse, STATUS_CODES } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import { getRequestListener, RequestError } from '@hono/node-server'
import type { Hono } from 'hono'
import type { Config } from './config.ts'
import { AppError, toErrorBody } from './errors.ts'
import { applyCors } from './http/cors.ts'
import { readIdentityHeaders } from './http/identity-headers.ts'
import type { Logger } from './http/log.ts'
import { readBody } from './http/read-body.ts'
import { refuse } from './http/refuse.ts'
import { openRequestRecord, outcomeOf, type RequestRecord } from './http/request-record.ts'
import { newRequestId } from './ids.ts'
import type { FindEndpoints } from './proxy/endpoints.ts'
import type { Relay } from './proxy/relay.ts'
import type { Upgrade } from './proxy/sockets.ts'
import type { Metrics } from './telemetry/metrics.ts'
import type { RequestTrace, Tracer } from './telemetry/tracer.ts'

/** A listener with everything a request passes before it is either relayed or given to the control plane. */
export interface HttpServer {
  readonly port: number
  /** From now on each answer ends its connection, so that whoever balances the load opens the next one elsewhere. */
  beginStopping(): void
  /** No new connections; those that were made already are served. */
  stopAccepting(): Promise<void>
  /** Resolves when the last connection is closed. */
  readonly closed: Promise<void>
  closeAllConnections(): void
}

export interface ServerOptions {
  config: Config
  log: Logger
  host: string
  port: number
  app: Hono
  /** Absent on a listener for administrators only. */
  relay?: Relay
  metrics: Metrics
  /** Absent when no traces are made. */
  tracer: Tracer | undefined
  /** What is relayed; nothing without a relay. */
  findEndpoints?: FindEndpoints
}

/** Listens; rejects when the address cannot be had. */
export async function startServer(options: ServerOptions): Promise<HttpServer> {
  const { config, log, app, relay, findEndpoints, metrics, tracer } = options
  const control = getRequestListener(app.fetch, { overrideGlobalObjects: false, errorHandler: answerControlError })
  /** The newest answer on each connection. */
  const answers = new WeakMap<Duplex, ServerResponse>()
  let isStopping = false
  let isClosed = false

  /** What is no request any more for Node: a refusal is written as the answer to one. */
  function onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => {})
    const response = new ServerResponse(request)
    response.shouldKeepAlive = false
    response.assignSocket(socket as Socket)
    response.once('finish', () => lingerOn(socket))
    onRequest(request, response, { request, response, socket, head })
  }

  function onRequest(request: IncomingMessage, response: ServerResponse, upgrade?: Upgrade): void {
    const requestId = newRequestId()
    const record = openRequestRecord(requestId)
    let trace: RequestTrace | undefined
    answers.set(request.socket, response)
    response.setHeader('x-request-id', requestId)
    response.once('close', () => {
      const status = response.headersSent ? response.statusCode : null
      const outcome = outcomeOf(record, { status, isComplete: response.writableFinished })
      metrics.requestEnded(record, outcome)
      trace?.end(record, outcome, status)
      logRequest(log, request, response, record, outcome)
      // What became idle after the listener was closed would be kept alive, and stopping would wait for it.
      if (isClosed) server.closeIdleConnections()
    })
    request.on('error', () => {})
    const refuseWith = (error: AppError) => {
      record.errorCode = error.code
      refuse(request, response, error)
    }
    try {
      if (isStopping) response.setHeader('connection', 'close')
      checkFraming(request, upgrade)
      if (!applyCors(request, response, config.corsOrigins)) return
      const headers = readIdentityHeaders(request.rawHeaders)
      const { path, query } = splitTarget(request)
      const match = relay && findEndpoints?.(path)
      const endpoints = match?.endpoints.filter(({ body }) => (body === 'websocket') === (upgrade !== undefined)) ?? []
      if (upgrade && endpoints.length === 0) throw match ? notUpgradable() : noWebSocket()
      if (match) {
        record.endpoint = 'unknown_method'
        const endpoint = endpoints.find(({ method }) => method === request.method)
        if (!endpoint) {
          const methods = endpoints.map(({ method }) => method).join(', ')
          response.setHeader('allow', methods)
          throw new AppError('method_not_allowed', `Only ${methods} is possible here.`)
        }
        record.endpoint = endpoint.name
        trace = tracer?.begin(headerText(request.headers.traceparent))
        const call = { requestId, headers, query, ids: match.ids, refuse: refuseWith, record, trace }
        const handled = upgrade
          ? relay.upgrade(upgrade, endpoint, call)
          : relay.handle(request, response, endpoint, call)
        handled.catch(onFault)
      } else {
        // Host decides nothing: a URL built from it could be routed to another path than the one checked here.
        request.headers.host = 'proxy.internal'
        if (PROBES.has(path)) record.endpoint = 'health'
        administer(Object.assign(request, { record }), response).catch(onFault)
      }
    } catch (error) {
      onFault(error)
    }

    function onFault(error: unknown): void {
      if (!(error instanceof AppError))
        log.error({ request_id: requestId, err: error }, 'a request failed unexpectedly')
      refuseWith(error instanceof AppError ? error : internalError())
    }
  }

  /** The body is read here, where one that is too large can be refused without resetting the connection the answer goes out on. */
  async function administer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const rawBody = await readBody(request, ADMINISTRATION_BODY_BYTES_MAX)
    await control(Object.assign(request, { rawBody }), response)
  }

  /** What the adapter refuses before the control plane sees it. */
  function answerControlError(error: unknown): Response {
    if (!(error instanceof RequestError)) log.error({ err: error }, 'a request failed unexpectedly')
    const refusal =
      error instanceof RequestError
        ? new AppError('invalid_request', 'The request target is not a valid path.')
        : internalError()
    return Response.json(toErrorBody(refusal), { status: refusal.status })
  }

  const server = createServer(
    {
      // Missing or doubled ones are refused in `checkFraming`, in our shape.
      requireHostHeader: false,
      maxHeaderSize: config.requestHeaderBytesMax,
      headersTimeout: Math.min(HEADERS_TIMEOUT_MS, config.requestTimeoutMs),
      requestTimeout: config.requestTimeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // The timers above are looked at only this often.
      connectionsCheckingInterval: 1000,
      noDelay: true,
    },
    (request, response) => onRequest(request, response),
  )
  let connectionCount = 0
  server.on('connection', () => {
    connectionCount += 1
  })
  server.maxHeadersCount = config.requestHeadersMax
  server.on('checkExpectation', (request, response) => onRequest(request, response))
  server.on('upgrade', onUpgrade)
  server.on('connect', (_request, socket) => {
    endWith(socket, new AppError('not_implemented', 'The method CONNECT is not supported.'))
  })
  server.on('clientError', (error, socket) => answerClientError(error, socket, answers.get(socket)))
  await listen(server, options.port, options.host)

  return {
    port: (server.address() as AddressInfo).port,
    beginStopping() {
      isStopping = true
    },
    async stopAccepting() {
      isStopping = true
      // Closing resets the connections that the kernel has made and nobody has taken yet, of which a busy process has many.
      const giveUpAt = performance.now() + TAKE_MS
      let takenBefore: number
      do {
        takenBefore = connectionCount
        await turnOfTheLoop()
      } while (connectionCount > takenBefore && performance.now() < giveUpAt)
      isClosed = true
      server.close()
      server.closeIdleConnections()
    },
    closed: new Promise((resolve) => server.once('close', resolve)),
    closeAllConnections: () => server.closeAllConnections(),
  }
}

/** For how long connections are still taken after the end, when they do not cease to come. */
const TAKE_MS = 1000
const HEADERS_TIMEOUT_MS = 10_000
const ADMINISTRATION_BODY_BYTES_MAX = 256 * 1024
/** Above the 60 s of common load balancers, so that they and not we close idle connections. */
const KEEP_ALIVE_MS = 65_000
/** What is asked for every few seconds by machines. */
const PROBES = new Set(['/health', '/livez', '/readyz', '/metrics'])
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** One reading of the request line and framing, refused where two parsers could differ (RFC 9112, sections 3 and 6). */
function checkFraming(request: IncomingMessage, upgrade: Upgrade | undefined): void {
  if (!METHODS.has(request.method ?? '')) {
    throw new AppError('not_implemented', `The method ${request.method} is not supported.`)
  }
  if (!request.url?.startsWith('/') || request.url.includes('#')) {
    throw new AppError('invalid_request', 'The request target must be a path, without a fragment.')
  }
  const hostCount = countHosts(request.rawHeaders)
  if (hostCount > 1 || (hostCount === 0 && request.httpVersion === '1.1')) {
    throw new AppError('invalid_request', 'The request must have one Host header.')
  }
  if ((request.headers.expect ?? '100-continue').toLowerCase() !== '100-continue') {
    throw new AppError('not_implemented', 'The only expectation supported is "100-continue".')
  }
  const transferEncoding = request.headers['transfer-encoding']
  if (
    transferEncoding !== undefined &&
    (transferEncoding.toLowerCase() !== 'chunked' || request.httpVersion !== '1.1')
  ) {
    throw new AppError('not_implemented', 'The only transfer encoding supported is "chunked", on HTTP/1.1.')
  }
  const protocol = request.headers.upgrade?.toLowerCase()
  if (protocol === 'websocket' && !upgrade) throw notUpgradable()
  if (protocol !== undefined && protocol !== 'websocket')
    throw new AppError('not_implemented', 'Protocol upgrades are not supported.')
}

function notUpgradable(): AppError {
  return new AppError('upgrade_required', 'WebSockets are not available here: send the request over HTTP.')
}

function noWebSocket(): AppError {
  return new AppError('not_found', 'No WebSocket is relayed at this path.')
}

function headerText(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function countHosts(rawHeaders: readonly string[]): number {
  let count = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]?.length === 4 && rawHeaders[at]?.toLowerCase() === 'host') count += 1
  }
  return count
}

/** The path, and the query with its question mark; both byte for byte. */
function splitTarget(request: IncomingMessage): { path: string; query: string } {
  const url = request.url ?? '/'
  const mark = url.indexOf('?')
  return mark === -1 ? { path: url, query: '' } : { path: url.slice(0, mark), query: url.slice(mark) }
}

function internalError(): AppError {
  return new AppError(
    'internal_error',
    'Something went wrong in the proxy. The request id says where to look in its log.',
  )
}

/** What Node's parser refuses: answered in our shape if an answer can be read as one, and the connection closed. */
function answerClientError(error: Error & { code?: string }, socket: Duplex, last: ServerResponse | undefined): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  // In the middle of an answer, or behind the last one of a connection, another would be read as part of it.
  if (last?.headersSent && !last.writableEnded) {
    socket.destroy()
    return
  }
  if (last?.headersSent && last.getHeader('connection') === 'close') return
  endWith(
    socket,
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new AppError('headers_too_large', 'The request headers are larger or more than this proxy accepts.')
      : new AppError('invalid_request', 'The request is not valid HTTP/1.1, or took too long to arrive.'),
  )
}

/** The answer to what never became a request; the connection is closed behind it, by us if the client does not. */
function endWith(socket: Duplex, refusal: AppError): void {
  const body = JSON.stringify(toErrorBody(refusal))
  const head = [
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-ID: ${newRequestId()}`,
  ]
  socket.on('error', () => {})
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
  lingerOn(socket)
}

/** Ends a connection, but reads on for a moment: closing at once would reset it, and with it the answer on its way. */
function lingerOn(socket: Duplex): void {
  socket.end()
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(timer))
}

const LINGER_MS = 2000

function logRequest(
  log: Logger,
  request: IncomingMessage,
  response: ServerResponse,
  record: RequestRecord,
  outcome: string,
): void {
  log.info({
    request_id: record.requestId,
    endpoint: record.endpoint,
    organization_id: record.organizationId,
    method: request.method,
    path: splitTarget(request).path.slice(0, 256),
    status: response.headersSent ? response.statusCode : null,
    outcome,
    error_code: record.errorCode,
    duration_ms: Math.round(performance.now() - record.startedAt),
    is_complete: response.writableFinished,
  })
}
