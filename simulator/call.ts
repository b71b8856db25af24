import { createHash, type Hash, hash, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { gzipSync } from 'node:zlib'
import { type Behaviour, ORDINARY } from './behaviour.ts'
import type { Form } from './form.ts'
import type { LedgerEntry } from './ledger.ts'

/** One request and its answer, with what the ledger says about it. */
export type Call = {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly entry: LedgerEntry
  readonly startedAt: number
  behaviour: Behaviour
  /** Whose stored objects it may see. */
  project: string
  rawBody: Buffer<ArrayBuffer>
  /** The parsed body; empty when there was none, or it was no JSON object. */
  body: Record<string, unknown>
  isJson: boolean
  /** Of a multipart body; its texts are also the `body`. */
  form: Form | undefined
  /** What the path held in the places of `{name}`. */
  params: Readonly<Record<string, string>>
  /** What followed the question mark. */
  query: string
  /** The answer has ended, whoever ended it. */
  closed: boolean
  /** The simulator itself cut the answer off. */
  cut: boolean
  /** Work that goes on after the answer and still belongs in the ledger. */
  outlivedBy: Promise<void> | undefined
  /** Ends the wait under way, if there is one. */
  wake: (() => void) | undefined
  hash: Hash | undefined
}

export function newCall(request: IncomingMessage, response: ServerResponse, entry: LedgerEntry): Call {
  return {
    request,
    response,
    entry,
    startedAt: performance.now(),
    behaviour: ORDINARY,
    project: 'default',
    rawBody: NOTHING,
    body: {},
    isJson: false,
    form: undefined,
    params: {},
    query: '',
    closed: false,
    cut: false,
    outlivedBy: undefined,
    wake: undefined,
    hash: undefined,
  }
}

const NOTHING = Buffer.alloc(0)
const ID_PREFIX = randomBytes(16).toString('hex')
let lastId = 0

/** Unique within every simulator there is, and as long as OpenAI's. */
export function newId(kind: string): string {
  return `${kind}${kind === 'file' || kind === 'chatcmpl' || kind === 'cmpl' ? '-' : '_'}${ID_PREFIX}${(++lastId).toString(16).padStart(16, '0')}`
}

/** What OpenAI and the network before it put on every answer; a proxy has to choose what to pass on. */
const USUAL_HEADERS = {
  'openai-organization': 'org-sim',
  'openai-project': 'proj_sim',
  'openai-version': '2020-10-01',
  'x-ratelimit-limit-requests': '10000',
  'x-ratelimit-limit-tokens': '2000000',
  'x-ratelimit-remaining-requests': '9999',
  'x-ratelimit-remaining-tokens': '1999950',
  'x-ratelimit-reset-requests': '6ms',
  'x-ratelimit-reset-tokens': '1ms',
  'set-cookie': ['__cf_bm=simulated; path=/; HttpOnly; Secure; SameSite=None', '_cfuvid=simulated; path=/; HttpOnly'],
  server: 'cloudflare',
  'cf-ray': 'simulated-SIM',
  'alt-svc': 'h3=":443"; ma=86400',
  'strict-transport-security': 'max-age=31536000; includeSubDomains; preload',
}

export function sendHead(
  call: Call,
  status: number,
  contentType: string,
  headers?: Record<string, string | number>,
): void {
  if (call.closed) return
  call.entry.status = status
  call.response.writeHead(status, {
    'content-type': call.behaviour.content_type ?? contentType,
    'x-request-id': newId('req'),
    'openai-processing-ms': Math.round(performance.now() - call.startedAt),
    ...USUAL_HEADERS,
    ...headers,
  })
}

export function sendJson(call: Call, status: number, value: unknown): Promise<void> | undefined {
  return sendWhole(call, status, 'application/json', JSON.stringify(value))
}

/** An answer that is not text. */
export function sendBytes(
  call: Call,
  contentType: string,
  body: Buffer,
  headers?: Record<string, string | number>,
): Promise<void> | undefined {
  return sendWhole(call, 200, contentType, body, headers)
}

/** A whole answer with its length. */
export function sendWhole(
  call: Call,
  status: number,
  contentType: string,
  body: string | Buffer,
  headers?: Record<string, string | number>,
): Promise<void> | undefined {
  if (call.closed) return undefined
  const { chunk, reset, gzip } = call.behaviour
  if (chunk !== undefined || reset !== undefined || gzip)
    return sendWholeOddly(call, status, contentType, body, headers)
  const bytes = Buffer.byteLength(body)
  sendHead(call, status, contentType, { 'content-length': bytes, ...headers })
  call.entry.bytesSent = bytes
  call.entry.bodyOutSha256 = hash('sha256', body)
  call.entry.terminalSent = true
  // A string, because Node writes it together with the head: one system call less than for a buffer.
  call.response.end(body)
  return undefined
}

async function sendWholeOddly(
  call: Call,
  status: number,
  contentType: string,
  body: string | Buffer,
  headers: Record<string, string | number> | undefined,
): Promise<void> {
  const { gzip } = call.behaviour
  const bytes = gzip ? gzipSync(body) : Buffer.from(body)
  const encoding = gzip ? { 'content-encoding': 'gzip' } : undefined
  sendHead(call, status, contentType, { 'content-length': bytes.length, ...encoding, ...headers })
  await send(call, bytes)
  if (call.cut || call.closed) return
  call.entry.terminalSent = true
  call.response.end()
}

/** A part of an answer. Resolves when the next part may follow: the client's slowness is felt here. */
export function send(call: Call, bytes: Buffer): Promise<void> | undefined {
  if (call.closed || call.cut) return undefined
  const { chunk, reset } = call.behaviour
  if (chunk === undefined && reset === undefined) return write(call, bytes) ? undefined : drained(call)
  return sendSliced(call, bytes, chunk ?? bytes.length, typeof reset === 'number' ? reset : Number.POSITIVE_INFINITY)
}

async function sendSliced(call: Call, bytes: Buffer, sliceBytes: number, resetAt: number): Promise<void> {
  let offset = 0
  while (offset < bytes.length && call.entry.bytesSent < resetAt && !call.closed) {
    const end = Math.min(offset + sliceBytes, bytes.length, offset + resetAt - call.entry.bytesSent)
    const mayGoOn = write(call, bytes.subarray(offset, end))
    offset = end
    // Node joins what is written in one turn of the event loop into one segment: each slice needs a turn of its own.
    await (mayGoOn ? new Promise((resolve) => setImmediate(resolve)) : drained(call))
  }
  if (call.entry.bytesSent >= resetAt) cutOff(call)
}

/** Destroys the socket, after what was already written has left. */
export function cutOff(call: Call): void {
  if (call.closed || call.cut) return
  call.cut = true
  if (call.entry.status !== null) call.response.flushHeaders()
  call.request.socket.destroySoon()
}

/** Waits, but not longer than the client does. */
export function pause(call: Call, ms: number): Promise<void> | undefined {
  if (call.closed || ms <= 0) return undefined
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    call.wake = () => {
      clearTimeout(timer)
      resolve()
    }
  })
}

/** Waits for something, or until the answer has ended: for ever, if it is for nothing. */
export function waitFor(call: Call, something?: Promise<unknown>): Promise<void> | undefined {
  if (call.closed) return undefined
  return new Promise((resolve) => {
    call.wake = resolve
    something?.then(() => resolve())
  })
}

function drained(call: Call): Promise<void> {
  return new Promise((resolve) => {
    call.wake = resolve
    call.response.once('drain', resolve)
  })
}

function write(call: Call, bytes: Buffer): boolean {
  call.entry.bytesSent += bytes.length
  call.hash ??= createHash('sha256')
  call.hash.update(bytes)
  return call.response.write(bytes)
}
