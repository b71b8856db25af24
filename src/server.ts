import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import type { Hono } from 'hono'
import type { Config } from './config.ts'
import { AppError, toErrorBody } from './errors.ts'
import { applyCors } from './http/cors.ts'
import { readIdentityHeaders } from './http/identity-headers.ts'
import type { Logger } from './http/log.ts'
import { refuse } from './http/refuse.ts'
import { newRequestId } from './ids.ts'
import { findEndpoints } from './proxy/endpoints.ts'
import type { Relay } from './proxy/relay.ts'

/** A listener with everything a request passes before it is either relayed or given to the control plane. */
export interface HttpServer {
  readonly port: number
  /** No new connections, and `Connection: close` on those that are open. */
  stopAccepting(): void
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
}

/** Listens; rejects when the address cannot be had. */
export async function startServer(options: ServerOptions): Promise<HttpServer> {
  const { config, log, app, relay } = options
  const control = getRequestListener(app.fetch, { overrideGlobalObjects: false })
  let isStopping = false

  function onRequest(request: IncomingMessage, response: ServerResponse): void {
    const requestId = newRequestId()
    const startedAt = performance.now()
    response.setHeader('x-request-id', requestId)
    response.once('close', () => logRequest(log, request, response, requestId, startedAt))
    request.on('error', () => {})
    const refuseWith = (error: AppError) => refuse(request, response, error)
    try {
      if (isStopping) response.setHeader('connection', 'close')
      checkFraming(request)
      if (!applyCors(request, response, config.corsOrigins)) return
      const headers = readIdentityHeaders(request.rawHeaders)
      const endpoints = relay ? findEndpoints(pathOf(request)) : []
      if (endpoints.length > 0 && relay) {
        const endpoint = endpoints.find(({ method }) => method === request.method)
        if (!endpoint) {
          response.setHeader('allow', endpoints.map(({ method }) => method).join(', '))
          throw new AppError(
            'method_not_allowed',
            `Only ${endpoints.map(({ method }) => method).join(', ')} is possible here.`,
          )
        }
        relay.handle(request, response, endpoint, { requestId, headers, refuse: refuseWith }).catch(onFault)
      } else {
        // Host decides nothing: a URL built from it could be routed to another path than the one checked here.
        request.headers.host = 'proxy.internal'
        Promise.resolve(control(request, response)).catch(onFault)
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

  const server = createServer(
    {
      maxHeaderSize: config.requestHeaderBytesMax,
      headersTimeout: Math.min(HEADERS_TIMEOUT_MS, config.requestTimeoutMs),
      requestTimeout: config.requestTimeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // The timers above are looked at only this often.
      connectionsCheckingInterval: 1000,
      noDelay: true,
    },
    onRequest,
  )
  server.maxHeadersCount = config.requestHeadersMax
  server.on('clientError', answerClientError)
  await listen(server, options.port, options.host)

  return {
    port: (server.address() as AddressInfo).port,
    stopAccepting() {
      isStopping = true
      server.close()
      server.closeIdleConnections()
    },
    closed: new Promise((resolve) => server.once('close', resolve)),
    closeAllConnections: () => server.closeAllConnections(),
  }
}

const HEADERS_TIMEOUT_MS = 10_000
/** Above the 60 s of common load balancers, so that they and not we close idle connections. */
const KEEP_ALIVE_MS = 65_000
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
function checkFraming(request: IncomingMessage): void {
  if (!METHODS.has(request.method ?? '')) {
    throw new AppError('not_implemented', `The method ${request.method} is not supported.`)
  }
  if (!request.url?.startsWith('/')) {
    throw new AppError('invalid_request', 'The request target must be a path.')
  }
  const transferEncoding = request.headers['transfer-encoding']
  if (
    transferEncoding !== undefined &&
    (transferEncoding.toLowerCase() !== 'chunked' || request.httpVersion !== '1.1')
  ) {
    throw new AppError('not_implemented', 'The only transfer encoding supported is "chunked", on HTTP/1.1.')
  }
  const upgrade = request.headers.upgrade?.toLowerCase()
  if (upgrade === 'websocket') {
    throw new AppError('upgrade_required', 'WebSockets are not available here: send the request over HTTP.')
  }
  if (upgrade !== undefined) throw new AppError('not_implemented', 'Protocol upgrades are not supported.')
}

function pathOf(request: IncomingMessage): string {
  const url = request.url ?? '/'
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}

function internalError(): AppError {
  return new AppError(
    'internal_error',
    'Something went wrong in the proxy. The request id says where to look in its log.',
  )
}

/** What Node's parser refuses before there is a request: answered in our shape, and the connection closed. */
function answerClientError(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  const refusal =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new AppError('headers_too_large', 'The request headers are larger or more than this proxy accepts.')
      : new AppError('invalid_request', 'The request is not valid HTTP/1.1, or took too long to arrive.')
  const body = JSON.stringify(toErrorBody(refusal))
  const head = [
    `HTTP/1.1 ${refusal.status} ${refusal.status === 431 ? 'Request Header Fields Too Large' : 'Bad Request'}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-ID: ${newRequestId()}`,
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

function logRequest(
  log: Logger,
  request: IncomingMessage,
  response: ServerResponse,
  requestId: string,
  startedAt: number,
): void {
  log.info({
    request_id: requestId,
    method: request.method,
    path: pathOf(request).slice(0, 256),
    status: response.headersSent ? response.statusCode : null,
    duration_ms: Math.round(performance.now() - startedAt),
    is_complete: response.writableFinished,
  })
}
