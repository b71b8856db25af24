// A simulated OpenAI: a real server that speaks the Responses API, misbehaves on request, and keeps its own ledger of what it served.
import { hash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ApiError, errorBody } from './api-error.ts'
import { type Behaviour, ORDINARY, parseBehaviour, specInModel } from './behaviour.ts'
import { type Call, newCall, pause, sendWhole } from './call.ts'
import { missingKey, readCredentials } from './credentials.ts'
import { answerFault } from './faults.ts'
import { type Ledger, type LedgerBook, openLedger } from './ledger.ts'
import { parseBody, readBody } from './request-body.ts'
import { openResponseStore, type ResponseStore } from './response-store.ts'
import { route } from './routes.ts'

export type Simulator = {
  /** Base URL for an SDK, such as `http://127.0.0.1:1234/v1`. */
  url: string
  port: number
  ledger: Ledger
  /** Connections that clients hold open at this moment. */
  openSockets(): number
  [Symbol.asyncDispose](): Promise<void>
}

type State = {
  ledger: LedgerBook
  store: ResponseStore
  /** How often each behaviour with `times` was met. */
  met: Map<string, number>
  sockets: number
}

/** @param options Port 0, the default, takes a free one. Calls are appended to `ledgerFile` as JSON lines when they end. */
export async function startSimulator(
  options: { port?: number; host?: string; ledgerFile?: string } = {},
): Promise<Simulator> {
  const { port = 0, host = '127.0.0.1', ledgerFile } = options
  const state: State = { ledger: openLedger(ledgerFile), store: openResponseStore(), met: new Map(), sockets: 0 }
  const server = createServer(
    { maxHeaderSize: 64 * 1024, requestTimeout: 0, keepAliveTimeout: 65_000 },
    (request, response) => {
      const url = request.url ?? '/'
      if (url.startsWith('/__sim/')) answerAboutItself(state, request, response)
      else void serve(state, request, response)
    },
  )
  server.on('connection', (socket) => {
    state.sockets++
    socket.on('close', () => state.sockets--)
  })
  server.listen({ port, host, backlog: 4096 })
  await once(server, 'listening')
  const address = server.address() as AddressInfo

  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${address.port}/v1`,
    port: address.port,
    ledger: state.ledger,
    openSockets: () => state.sockets,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      state.store.close()
      await closed
      await state.ledger.idle()
      await state.ledger.close()
    },
  }
}

/** One call from its head to its line in the ledger. */
async function serve(state: State, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { authorization } = request.headers
  const credentials = readCredentials(authorization)
  const entry = state.ledger.open({
    at: new Date().toISOString(),
    method: request.method ?? 'GET',
    path: request.url ?? '/',
    keyHash: credentials?.keyHash ?? null,
    model: null,
    stream: false,
    background: false,
    status: null,
    responseId: null,
    requestHeaders: authorization === undefined ? request.headers : { ...request.headers, authorization: '[hidden]' },
    bodySha256: null,
    usage: null,
    terminalSent: false,
    finished: false,
    clientClosed: false,
    bytesSent: 0,
    bodyOutSha256: null,
  })
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
  readFields(call)
  call.behaviour = behaviourOf(state, call)
  if (call.behaviour !== ORDINARY) {
    if (call.behaviour.delay !== undefined) await pause(call, call.behaviour.delay)
    if (call.closed || (await answerFault(call))) return
  }
  await route(state, call, path, question < 0 ? '' : url.slice(question + 1))
}

function readFields(call: Call): void {
  const body = parseBody(call.rawBody)
  if (!body) return
  const { model, stream, background } = body
  call.body = body
  call.isJson = true
  call.entry.model = typeof model === 'string' ? model : null
  call.entry.stream = stream === true
  call.entry.background = background === true
}

function behaviourOf({ met }: State, { request, body }: Call): Behaviour {
  const header = request.headers['x-sim']
  const inModel = specInModel(body.model)
  if (header === undefined && inModel === '') return ORDINARY
  // Of a key given twice the later value counts.
  const spec = `${inModel},${header ?? ''}`
  const behaviour = parseBehaviour(spec)
  if (behaviour.times === undefined) return behaviour
  const before = met.get(spec) ?? 0
  met.set(spec, before + 1)
  if (before < behaviour.times) return behaviour
  return behaviour.model === undefined ? ORDINARY : { model: behaviour.model }
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
