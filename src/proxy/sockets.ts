import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer } from 'ws'
import type { KeyRing } from '../api-keys/key-ring.ts'
import type { Authenticator } from '../auth/authenticate.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../http/log.ts'
import { outcomeOf, type RequestRecord } from '../http/request-record.ts'
import { newSessionId } from '../ids.ts'
import type { PolicyReader } from '../organizations/policies.ts'
import type { Admission } from './admission.ts'
import type { EditCall } from './call-edits.ts'
import { CallWatch } from './call-watch.ts'
import { type CallsDeps, validTraceParent } from './calls.ts'
import type { Capacity } from './capacity.ts'
import { Drains } from './drains.ts'
import { type Endpoint, upstreamPath } from './endpoints.ts'
import { openFrameAdmission } from './frame-admission.ts'
import { errorFrame } from './frames.ts'
import { upstreamHeaders } from './headers.ts'
import type { RelayCall } from './relay.ts'
import { ResponsesSocket } from './responses-socket.ts'
import { namedByTarget, readQuery } from './target.ts'

/** A request for a WebSocket that is not answered yet. */
export interface Upgrade {
  request: IncomingMessage
  /** For a refusal. */
  response: ServerResponse
  socket: Duplex
  /** What the client has sent behind the request. */
  head: Buffer
}

/** The WebSockets of clients. */
export interface Sockets {
  /** @throws {AppError} as for a request over HTTP. */
  upgrade(upgrade: Upgrade, endpoint: Endpoint, call: RelayCall): Promise<void>
  stopAccepting(): void
  /** Responses under way. */
  readonly inFlightCount: number
  cutAll(error: AppError): void
}

export function openSockets(
  deps: Omit<CallsDeps, 'config'> & {
    config: Config
    log: Logger
    authenticator: Authenticator
    keyRing: KeyRing
    policies: PolicyReader
    admission: Admission
    editCall: EditCall
    capacity: Capacity
  },
): Sockets {
  const { config, log, metrics, upstream, admission } = deps
  const frames = openFrameAdmission(deps)
  const drains = new Drains()
  const open = new Set<ResponsesSocket>()
  const countByOrganization = new Map<string, number>()
  let isStopping = false

  /** Says what is wrong in a frame of its own before it closes for a frame that is too large, which it does by itself. */
  class ClientSocket extends WebSocket {
    override close(code?: number, reason?: string | Buffer): void {
      if (code === TOO_BIG) this.send(errorFrame(frameTooLarge(config.webSocketFrameBytesMax), undefined))
      super.close(code, reason)
    }
  }
  const answers = new WeakMap<IncomingMessage, string[]>()
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: config.webSocketFrameBytesMax,
    handleProtocols: () => false,
    WebSocket: ClientSocket,
  })
  server.on('headers', (headers, request) => headers.push(...(answers.get(request) ?? [])))

  function enter(organizationId: string): void {
    const count = countByOrganization.get(organizationId) ?? 0
    if (open.size >= config.concurrentRequestsMax) throw full()
    if (count >= config.webSocketsPerOrganizationMax) throw tooManySockets(config.webSocketsPerOrganizationMax)
    countByOrganization.set(organizationId, count + 1)
  }

  function leave(organizationId: string): void {
    const count = (countByOrganization.get(organizationId) ?? 1) - 1
    if (count > 0) countByOrganization.set(organizationId, count)
    else countByOrganization.delete(organizationId)
  }

  return {
    async upgrade({ request, response, socket, head }, endpoint, call) {
      const { headers, requestId, query, record, trace } = call
      if (isStopping) throw shuttingDown()
      const sessionId = headers.sessionId ?? newSessionId()
      response.setHeader('x-session-id', sessionId)
      const named = namedByTarget([], readQuery(query))
      const asker = await frames.identify(headers)
      const { organizationId } = asker.identity
      record.organizationId = organizationId
      const opening = { endpoint, organizationId, headers, sessionId, named }
      checkHandshake(request)
      // Whoever has no key learns it here; which one it will be depends on what the first frame names.
      await admission.admit({ ...asker, ids: [] }, named)
      if (isStopping) throw shuttingDown()
      enter(organizationId)
      answers.set(request, [`X-Request-ID: ${requestId}`, `X-Session-ID: ${sessionId}`])
      response.detachSocket(socket as typeof request.socket)
      let client: WebSocket | undefined
      server.handleUpgrade(request, socket, head, (opened) => {
        client = opened
      })
      if (!client) {
        leave(organizationId)
        return
      }
      const responses = new ResponsesSocket({
        ...deps,
        frames,
        drains,
        opening,
        client,
        connect: (key) =>
          upstream.openSocket(
            key,
            `${upstreamPath(endpoint, [])}${query}`,
            upstreamHeaders(request.rawHeaders, {
              upstreamKey: key.secret.reveal(),
              body: undefined,
              requestId,
              traceparent: validTraceParent(request.headers.traceparent),
              // Nothing is repeated on a socket: no two requests could be taken for one.
              namespace: () => requestId,
            }),
          ),
        watch: (record, key, model) => {
          const baseUrl = key.baseUrl ?? config.openaiBaseUrl.href
          return new CallWatch({ record, metrics, span: trace?.begin({ endpoint: endpoint.name, model, baseUrl }) })
        },
        onResponseOver(response) {
          const outcome = outcomeOf(response, { status: null, isComplete: false })
          metrics.requestEnded(response, outcome)
          log.info({ ...toLog(response, outcome), socket_request_id: requestId })
        },
        onFault: (error) => log.error({ request_id: requestId, err: error }, 'a frame failed unexpectedly'),
        onClose() {
          open.delete(responses)
          leave(organizationId)
          trace?.end(record, 'completed', 101)
          log.info({ ...toLog(record, 'completed'), session_id: sessionId, status: 101 })
        },
      })
      open.add(responses)
    },
    stopAccepting() {
      isStopping = true
      for (const one of open) one.stop(shuttingDown())
    },
    get inFlightCount() {
      return [...open].reduce((count, one) => count + one.inFlightCount, 0)
    },
    cutAll(error) {
      for (const one of open) one.cut(error)
    },
  }
}

function toLog(record: RequestRecord, outcome: string): Record<string, unknown> {
  return {
    request_id: record.requestId,
    endpoint: record.endpoint,
    organization_id: record.organizationId,
    outcome,
    error_code: record.errorCode,
    duration_ms: Math.round(performance.now() - record.startedAt),
  }
}

const TOO_BIG = 1009
const KEY = /^[+/0-9A-Za-z]{22}==$/

/** What RFC 6455, section 4.2.1, asks of a request beyond its being one for a WebSocket. */
function checkHandshake({ headers }: IncomingMessage): void {
  if (headers['sec-websocket-version'] !== '13') {
    throw new AppError('invalid_request', 'Sec-WebSocket-Version must be 13.', { param: 'Sec-WebSocket-Version' })
  }
  if (!KEY.test(headers['sec-websocket-key'] ?? '')) {
    throw new AppError('invalid_request', 'Sec-WebSocket-Key must be 16 bytes in base64.', {
      param: 'Sec-WebSocket-Key',
    })
  }
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0) {
    throw new AppError('invalid_request', 'A request for a WebSocket has no body.')
  }
}

function frameTooLarge(bytesMax: number): AppError {
  return new AppError('body_too_large', `The frame is larger than the ${bytesMax} bytes this proxy accepts.`)
}

function tooManySockets(countMax: number): AppError {
  return new AppError(
    'rate_limited',
    `Your organization has ${countMax} WebSockets open, which is as many as it may have: close some, or send the request over HTTP.`,
    { retryAfterSeconds: 1 },
  )
}

function full(): AppError {
  return new AppError('overloaded', 'The proxy has as many WebSockets open as it takes; try again shortly.', {
    retryAfterSeconds: 1,
  })
}

function shuttingDown(): AppError {
  return new AppError('shutting_down', 'The proxy is shutting down; connect and send the request again.', {
    retryAfterSeconds: 1,
  })
}
