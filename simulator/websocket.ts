import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { type ApiError, errorBody, typicalError } from './api-error.ts'
import { type Credentials, missingKey, readCredentials } from './credentials.ts'
import type { Simulated } from './handler.ts'
import { begunEntry, type LedgerBook } from './ledger.ts'
import { serveRealtime } from './realtime-websocket.ts'
import { serveResponses } from './responses-websocket.ts'

export type WebSocketState = Simulated & {
  ledger: LedgerBook
  /** How often each behaviour with `times` was met. */
  met: Map<string, number>
  refuseUpgradesWith: number | null
}

const ENDPOINTS: Record<string, typeof serveResponses> = {
  '/v1/responses': serveResponses,
  '/v1/realtime': serveRealtime,
}

/** Accepts WebSockets where OpenAI has them. Each has an entry in the ledger for its opening, and one for each response asked for. */
export function acceptWebSockets(server: Server, state: WebSocketState): { close(): void } {
  const webSockets = new WebSocketServer({
    noServer: true,
    maxPayload: 16 * 1024 * 1024,
    handleProtocols: (protocols) => (protocols.has('realtime') ? 'realtime' : false),
  })
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => undefined)
    const credentials = readCredentials(request.headers.authorization ?? keyInProtocol(request))
    const entry = state.ledger.open(begunEntry(request, credentials?.keyHash ?? null, 'websocket'))
    const serve = ENDPOINTS[(request.url ?? '').split('?')[0] ?? '']
    const refusal = refusalOf(state, request, credentials, serve)
    entry.status = refusal?.status ?? 101
    entry.finished = true
    state.ledger.settle(entry)
    if (refusal || !credentials || !serve) return refuse(socket, refusal ?? missingKey())
    webSockets.handleUpgrade(request, socket, head, (webSocket) => serve(state, webSocket, request, credentials))
  })
  return {
    close() {
      for (const client of webSockets.clients) client.terminate()
    },
  }
}

function refusalOf(
  state: WebSocketState,
  { headers }: IncomingMessage,
  credentials: Credentials | undefined,
  serve: unknown,
): ApiError | undefined {
  if (!credentials) return missingKey()
  if (credentials.refusal) return credentials.refusal
  if (state.refuseUpgradesWith !== null) return typicalError(state.refuseUpgradesWith)
  if (!serve || headers.upgrade?.toLowerCase() !== 'websocket') return typicalError(404)
  return undefined
}

function refuse(socket: Duplex, error: ApiError): void {
  const body = errorBody(error)
  socket.end(
    `HTTP/1.1 ${error.status} Refused\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}

/** Browsers can not set headers: they send the key as a subprotocol. */
function keyInProtocol({ headers }: IncomingMessage): string | undefined {
  const key = /openai-insecure-api-key\.([^\s,]+)/.exec(headers['sec-websocket-protocol'] ?? '')?.[1]
  return key === undefined ? undefined : `Bearer ${key}`
}
