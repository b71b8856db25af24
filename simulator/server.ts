// A simulated OpenAI: a real server that speaks OpenAI's API, misbehaves on request, and keeps its own ledger of what it served.
import { hash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ApiError, errorBody } from './api-error.ts'
import { BATCH_HEADER } from './batch-run.ts'
import { behaviourOf, ORDINARY } from './behaviour.ts'
import { type Call, newCall, pause, sendWhole } from './call.ts'
import { missingKey, readCredentials } from './credentials.ts'
import { answerFault } from './faults.ts'
import { readForm } from './form.ts'
import { begunEntry, type Ledger, openLedger } from './ledger.ts'
import { openObjects } from './objects.ts'
import { parseBody, readBody } from './request-body.ts'
import { route } from './routes.ts'
import { acceptWebSockets, type WebSocketState } from './websocket.ts'

export type Simulator = {
  /** Base URL for an SDK, such as `http://127.0.0.1:1234/v1`. */
  url: string
  port: number
  ledger: Ledger
  /** Connections that clients hold open at this moment. */
  openSockets(): number
  /** A status with which every WebSocket is refused, such as 426; null, the default, to accept them. */
  refuseUpgradesWith: number | null
  [Symbol.asyncDispose](): Promise<void>
}

type State = WebSocketState & {
  sockets: number
}

/** @param options Port 0, the default, takes a free one. Calls are appended to `ledgerFile` as JSON lines when they end. */
export async function startSimulator(
  options: { port?: number; host?: string; ledgerFile?: string; ledgerEntriesMax?: number } = {},
): Promise<Simulator> {
  const { port = 0, host = '127.0.0.1', ledgerFile, ledgerEntriesMax } = options
  const state: State = {
    ledger: openLedger(ledgerFile, ledgerEntriesMax),
    objects: openObjects(),
    url: '',
    met: new Map(),
    sockets: 0,
    refuseUpgradesWith: null,
  }
  const server = createServer(
    { maxHeaderSize: 64 * 1024, requestTimeout: 0, keepAliveTimeout: 65_000 },
    (request, response) => {
      const url = request.url ?? '/'
      if (url.startsWith('/__sim/')) answerAboutItself(state, request, response)
      else void serve(state, request, response)
    },
  )
  const webSockets = acceptWebSockets(server, state)
  server.on('connection', (socket) => {
    state.sockets++
    socket.on('close', () => state.sockets--)
  })
  server.listen({ port, host, backlog: 4096 })
  await once(server, 'listening')
  const address = server.address() as AddressInfo
  state.url = `http://${host.includes(':') ? `[${host}]` : host}:${address.port}/v1`

  return {
    url: state.url,
    port: address.port,
    ledger: state.ledger,
    openSockets: () => state.sockets,
    get refuseUpgradesWith() {
      return state.refuseUpgradesWith
    },
    set refuseUpgradesWith(status) {
      state.refuseUpgradesWith = status
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      webSockets.close()
      state.objects.close()
      await closed
      await state.ledger.idle()
      await state.ledger.close()
    },
  }
}

/** One call from its head to its line in the ledger. */
async function serve(state: State, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const credentials = readCredentials(request.headers.authorization)
  const transport = request.headers[BATCH_HEADER] === undefined ? 'http' : 'batch'
  const entry = state.ledger.open(begunEntry(request, credentials?.keyHash ?? null, transport))
  const call = newCall(request, response, entry)
  const ended = new Promise<void>((resolve) => {
    response.on('close', () => {
      call.closed = true
      call.wake?.()
      resolve()
    })
  })
  response.on('error', () => undefined)

  try {
    call.rawBody = await readBody(call)
    entry.bodySha256 = hash('sha256', call.rawBody)
    if (!credentials) throw missingKey()
    if (credentials.refusal) throw credentials.refusal
    call.project = credentials.project
    await answer(state, call)
  } catch (error) {
    await answerError(call, error)
  }
  await ended
  entry.finished = response.writableFinished && !call.cut
  entry.clientClosed = !entry.finished && !call.cut
  entry.bodyOutSha256 ??= call.hash?.digest('hex') ?? hash('sha256', '')
  await call.outlivedBy
  state.ledger.settle(entry)
}

async function answer(state: State, call: Call): Promise<void> {
  const url = call.request.url ?? '/'
  const question = url.indexOf('?')
  const path = question < 0 ? url : url.slice(0, question)
  if (!path.startsWith('/v1/')) throw new ApiError(404, `Invalid URL (${call.request.method} ${url})`)
  call.query = question < 0 ? '' : url.slice(question + 1)
  await readFields(call)
  call.behaviour = behaviourOf(state.met, call.request.headers['x-sim'], call.body.model)
  if (call.behaviour !== ORDINARY) {
    if (call.behaviour.delay !== undefined) await pause(call, call.behaviour.delay)
    if (call.closed || (await answerFault(call))) return
  }
  await route(state, call, path)
}

function readFields(call: Call): Promise<void> | undefined {
  const contentType = call.request.headers['content-type']
  if (contentType?.startsWith('multipart/form-data')) return readFormFields(call, contentType)
  const body = parseBody(call.rawBody)
  if (!body) return undefined
  call.isJson = true
  noteFields(call, body)
  return undefined
}

async function readFormFields(call: Call, contentType: string): Promise<void> {
  call.form = await readForm(call.rawBody, contentType)
  const { stream, ...fields } = call.form.fields
  noteFields(call, { ...fields, stream: stream === 'true' })
}

function noteFields(call: Call, body: Record<string, unknown>): void {
  const { model, stream, background } = body
  call.body = body
  call.entry.model = typeof model === 'string' ? model : null
  call.entry.stream = stream === true
  call.entry.background = background === true
}

async function answerError(call: Call, error: unknown): Promise<void> {
  const known = error instanceof ApiError ? error : new ApiError(500, `The simulator failed: ${error}`)
  if (call.entry.status !== null) {
    call.response.destroy()
    return
  }
  await sendWhole(call, known.status, 'application/json', errorBody(known))
}

/** `GET` and `DELETE /__sim/ledger`, `GET /__sim/sockets`: for who can not reach the `Simulator` object. No key needed. */
function answerAboutItself({ ledger, sockets }: State, request: IncomingMessage, response: ServerResponse): void {
  const asked = `${request.method} ${request.url}`
  if (asked === 'DELETE /__sim/ledger') {
    ledger.reset()
    response.writeHead(204).end()
    return
  }
  const answers: Record<string, () => unknown> = {
    'GET /__sim/ledger': () => ({ entries: ledger.entries(), forgotten: ledger.forgotten() }),
    'GET /__sim/sockets': () => ({ open: sockets }),
  }
  const found = answers[asked]
  response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' })
  response.end(JSON.stringify(found ? found() : { error: { message: `The simulator has no ${asked}.` } }))
}
