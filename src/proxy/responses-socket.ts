import type { RawData, WebSocket } from 'ws'
import type { UpstreamKey } from '../api-keys/key-ring.ts'
import type { Config } from '../config.ts'
import { captureBody } from '../content/capture.ts'
import type { ContentWriter } from '../content/writer.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import { openRequestRecord, type RequestRecord } from '../http/request-record.ts'
import { newRequestId } from '../ids.ts'
import { measureInput } from '../ledger/estimate.ts'
import type { Ledger } from '../ledger/ledger.ts'
import type { Ownership } from '../ownership/service.ts'
import type { CallWatch } from './call-watch.ts'
import type { Capacity, Place } from './capacity.ts'
import { DRAIN_BYTES_MAX, DRAIN_TIMEOUT_MS, type Drains } from './drains.ts'
import { type AdmittedFrame, CREATE, type FrameAdmission, type SocketOpening } from './frame-admission.ts'
import { type ClientFrame, errorFrame, readClientFrame, readServerFrame, refusalFrame } from './frames.ts'
import { Lanes } from './lanes.ts'
import { type SocketCall, SocketResponse } from './socket-response.ts'
import { opened, UpstreamRefusal } from './upstream-socket.ts'

export interface ResponsesSocketOptions {
  config: Config
  ledger: Ledger
  ownership: Ownership
  contents: ContentWriter
  frames: FrameAdmission
  capacity: Capacity
  drains: Drains
  opening: SocketOpening
  client: WebSocket
  /** A connection to OpenAI that is about to open. */
  connect(key: UpstreamKey): WebSocket
  /** What is told of the call for a response. */
  watch(record: RequestRecord, key: UpstreamKey, model: string | null): CallWatch
  /** A response, or a frame that asked for one and was refused, is over. */
  onResponseOver(record: RequestRecord): void
  /** A frame failed in a way nobody foresaw. */
  onFault(error: unknown): void
  /** Called once, when nothing more will be read, written or recorded. */
  onClose(): void
}

/**
 * A client's WebSocket and the one to OpenAI behind it. Each frame is admitted, recorded and settled on its own; events pass as they
 * come, at the client's pace. However either end goes, every response under way is settled once, and the client sees how.
 */
export class ResponsesSocket {
  readonly #options: ResponsesSocketOptions
  readonly #client: WebSocket
  readonly #lanes = new Lanes((before) => this.#follow(before))
  readonly #timer: NodeJS.Timeout
  /** Frames of the client's that wait for those before them. */
  #queue: { data: Buffer; isBinary: boolean }[] = []
  #queueBytes = 0
  #isWorking = false
  #upstream: WebSocket | undefined
  #upstreamRequestId: string | null = null
  #key: UpstreamKey | undefined
  #clientGone: 'abort' | 'drain' = 'abort'
  #lastActiveAt = performance.now()
  #isClientAlive = true
  #isUpstreamAlive = true
  /** Why no more frames are taken; the socket is closed with the code when nothing is under way any more. */
  #closing: { code: number; error: AppError } | undefined
  #writeTimer: NodeJS.Timeout | undefined
  #drainTimer: NodeJS.Timeout | undefined
  #drainedBytes = 0
  #isClosed = false

  constructor(options: ResponsesSocketOptions) {
    const { client, config } = options
    this.#options = options
    this.#client = client
    client.on('message', (data, isBinary) => this.#onFrame(data, isBinary))
    client.on('pong', () => {
      this.#isClientAlive = true
    })
    client.on('error', () => {})
    client.on('close', () => this.#onClientClose())
    const tickMs = Math.min(config.webSocketPingIntervalMs, config.webSocketIdleTimeoutMs)
    this.#timer = setInterval(() => this.#tick(), tickMs)
  }

  /** Responses under way. */
  get inFlightCount(): number {
    return this.#lanes.open().length
  }

  /** What is under way may go on to its end; then the socket is closed. */
  stop(error: AppError): void {
    this.#closing ??= { code: SERVICE_RESTART, error }
    this.#closeIfDone()
  }

  /** Ends everything, visibly. */
  cut(error: AppError): void {
    this.#end(error, SERVICE_RESTART)
  }

  // From the client.

  #onFrame(data: RawData, isBinary: boolean): void {
    if (this.#client.readyState !== this.#client.OPEN) return
    this.#isClientAlive = true
    this.#lastActiveAt = performance.now()
    this.#queue.push({ data: data as Buffer, isBinary })
    this.#queueBytes += (data as Buffer).length
    if (this.#queue.length >= QUEUE_MAX || this.#queueBytes >= QUEUE_BYTES_MAX) this.#client.pause()
    if (!this.#isWorking) this.#work().catch((error: unknown) => this.#options.onFault(error))
  }

  async #work(): Promise<void> {
    this.#isWorking = true
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
      await this.#handle(next.data, next.isBinary)
      this.#queueBytes -= next.data.length
      if (this.#client.isPaused && this.#queueBytes < QUEUE_BYTES_MAX) this.#client.resume()
    }
    this.#isWorking = false
    this.#closeIfDone()
  }

  async #handle(data: Buffer, isBinary: boolean): Promise<void> {
    let frame: ClientFrame | undefined
    try {
      if (isBinary) throw new AppError('invalid_request', 'Frames must be text: this one is binary.')
      frame = await readClientFrame(data)
      if (this.#closing) throw this.#closing.error
      if (frame.type === CREATE) await this.#create(frame)
      else await this.#pass(frame)
    } catch (error) {
      await this.#refuse(error, frame?.streamId)
    }
  }

  /** A response is asked for. */
  async #create(frame: ClientFrame): Promise<void> {
    const record = this.#newRecord()
    let response: SocketResponse | undefined
    let place: Place | undefined
    try {
      if (this.inFlightCount >= RESPONSES_MAX) throw tooMany()
      place = this.#options.capacity.enter()
      place.holdBody(frame.payload.bytes.length)
      const admitted = await this.#admit(frame, place)
      if (this.#client.readyState !== this.#client.OPEN) {
        place.leave()
        return
      }
      response = this.#open(frame, admitted, record, place)
      this.#lanes.expect(response)
      await this.#send(admitted, response)
      place.releaseBody()
    } catch (error) {
      record.errorCode = error instanceof AppError ? error.code : undefined
      if (error instanceof UpstreamRefusal) response?.refuse(error.status, error.error)
      else response?.end('upstream_error', record.errorCode ?? 'internal_error')
      if (!response) {
        place?.leave()
        this.#options.onResponseOver(record)
      }
      throw error
    }
  }

  /** What is under way is steered. */
  async #pass(frame: ClientFrame): Promise<void> {
    await this.#send(await this.#admit(frame, undefined), undefined)
  }

  async #admit(frame: ClientFrame, place: Place | undefined): Promise<AdmittedFrame> {
    const { frames, opening } = this.#options
    const admitted = await frames.admit(opening, frame, this.#key?.apiKeyId, place)
    this.#clientGone = admitted.policies.clientGone
    return admitted
  }

  #open(frame: ClientFrame, admitted: AdmittedFrame, record: RequestRecord, place: Place): SocketResponse {
    const { endpoint, sessionId } = this.#options.opening
    const { payload, streamId } = frame
    const call = {
      ...admitted,
      requestId: record.requestId,
      endpoint,
      sessionId,
      streamId,
      model: payload.model,
      previousResponseId: payload.references.find(({ param }) => param === 'previous_response_id')?.id,
      input: measureInput(admitted.bytes),
      captured: admitted.policies.content === 'full' ? captureBody(payload.bytes) : undefined,
    }
    return this.#newResponse(call, record, () => place.leave())
  }

  #newRecord(): RequestRecord {
    const { endpoint, organizationId } = this.#options.opening
    return Object.assign(openRequestRecord(newRequestId()), { endpoint: endpoint.name, organizationId })
  }

  #newResponse(call: Omit<SocketCall, 'watch'>, record: RequestRecord, leave: () => void): SocketResponse {
    const { watch, onResponseOver } = this.#options
    const watched = { ...call, watch: watch(record, call.key, call.model) }
    const onOver = () => {
      leave()
      onResponseOver(record)
    }
    return new SocketResponse(this.#options, watched, () => this.#upstreamRequestId, onOver)
  }

  async #send({ key, bytes }: AdmittedFrame, response: SocketResponse | undefined): Promise<void> {
    const upstream = await this.#connected(key)
    // The client has gone meanwhile.
    if (!upstream || response?.isOver) return
    if (response) response.isSent = true
    // At OpenAI's pace: the next frame is read when this one has left.
    await new Promise<void>((resolve) => upstream.send(bytes, { binary: false }, () => resolve()))
  }

  async #connected(key: UpstreamKey): Promise<WebSocket | undefined> {
    if (this.#upstream) return this.#upstream
    if (this.#client.readyState !== this.#client.OPEN) return undefined
    const upstream = this.#options.connect(key)
    this.#upstream = upstream
    this.#key = key
    let isOpen = false
    upstream.on('error', () => {})
    upstream.on('message', (data, isBinary) => this.#onEvent(data as Buffer, isBinary))
    upstream.on('pong', () => {
      this.#isUpstreamAlive = true
    })
    upstream.on('close', (code) => {
      if (isOpen) this.#onUpstreamClose(code)
    })
    try {
      this.#upstreamRequestId = await opened(upstream)
      isOpen = true
    } catch (error) {
      // Another frame may try again, and with another key.
      this.#upstream = undefined
      this.#key = undefined
      if (this.#client.readyState !== this.#client.OPEN) return undefined
      throw error
    }
    return upstream
  }

  async #refuse(error: unknown, streamId: string | undefined): Promise<void> {
    if (error instanceof UpstreamRefusal) return this.#tell(refusalFrame(error.status, error.error, streamId))
    if (!(error instanceof AppError)) this.#options.onFault(error)
    const known =
      error instanceof AppError ? error : new AppError('internal_error', 'Something went wrong in the proxy.')
    if (ENDS_SOCKET.has(known.code)) this.#closing ??= { code: POLICY_VIOLATION, error: known }
    await this.#tell(errorFrame(known, streamId))
  }

  /** Waits until it has left, so that who sends nonsense and does not read is held back. */
  #tell(text: string): Promise<void> {
    if (this.#client.readyState !== this.#client.OPEN) return Promise.resolve()
    return new Promise((resolve) => this.#client.send(text, () => resolve()))
  }

  // From OpenAI.

  #onEvent(bytes: Buffer, isBinary: boolean): void {
    if (this.#isClosed) return
    this.#isUpstreamAlive = true
    this.#lastActiveAt = performance.now()
    const frame = isBinary ? undefined : readServerFrame(bytes)
    if (!frame) {
      this.#end(unreadable(), INTERNAL_ERROR)
      return
    }
    let response: SocketResponse | undefined
    try {
      response = this.#lanes.take(frame, bytes)
    } catch (error) {
      this.#end(error instanceof AppError ? error : unreadable(), INTERNAL_ERROR)
      return
    }
    const related = response ? [response] : this.#lanes.hiding(frame.streamId)
    const shown = related.reduce((rest, one) => one.hide(frame, rest), bytes)
    response?.keep(shown)
    if (this.#drainTimer) this.#drain(bytes.length)
    else this.#write(shown)
    if (response?.isOver) this.#closeIfDone()
  }

  /** A response that nobody asked for begins: it follows one that was steered. What has begun cannot be refused a place. */
  #follow({ call, id }: SocketResponse): SocketResponse {
    const record = this.#newRecord()
    const { requestId } = record
    const settings = { ...call, requestId, previousResponseId: id ?? undefined, captured: undefined }
    const next = this.#newResponse(settings, record, () => {})
    next.isSent = true
    next.isAbandoned = this.#drainTimer !== undefined
    return next
  }

  #write(bytes: Buffer): void {
    const client = this.#client
    if (client.readyState !== client.OPEN) return
    client.send(bytes, { binary: false }, this.#onWritten)
    if (client.bufferedAmount < WRITE_HIGH_BYTES || this.#writeTimer) return
    this.#upstream?.pause()
    this.#writeTimer = setTimeout(() => client.terminate(), WRITE_IDLE_MS)
  }

  #onWritten = (): void => {
    if (!this.#writeTimer || this.#client.bufferedAmount > WRITE_LOW_BYTES) return
    clearTimeout(this.#writeTimer)
    this.#writeTimer = undefined
    this.#upstream?.resume()
  }

  // Endings.

  #onUpstreamClose(code: number): void {
    this.#upstream = undefined
    const isBroken = this.#lanes.open().length > 0
    this.#end(lost(), isBroken ? INTERNAL_ERROR : passable(code))
  }

  /** Everything under way ends here, and so does the socket. */
  #end(error: AppError, code: number): void {
    if (this.#isClosed) return
    for (const { response } of this.#lanes.open()) {
      if (this.#drainTimer) {
        response.end('client_closed', error.code)
        continue
      }
      const text = response.cut(error)
      if (text !== undefined) this.#write(Buffer.from(text))
    }
    this.#dropUpstream()
    if (this.#drainTimer) this.#close()
    else this.#closeClient(code)
  }

  #closeClient(code: number, reason?: string): void {
    const client = this.#client
    client.close(code, reason)
    const timer = setTimeout(() => client.terminate(), CLOSE_TIMEOUT_MS)
    client.once('close', () => clearTimeout(timer))
  }

  #onClientClose(): void {
    this.#queue = []
    const { drains } = this.#options
    const open = this.#lanes.open()
    if (this.#clientGone === 'drain' && open.some(({ response }) => response.isSent) && drains.begin()) {
      for (const { response } of open) response.isAbandoned = true
      this.#drainTimer = setTimeout(() => this.#abandon(), DRAIN_TIMEOUT_MS)
      clearTimeout(this.#writeTimer)
      this.#upstream?.resume()
      return
    }
    this.#abandon()
  }

  #drain(bytes: number): void {
    this.#drainedBytes += bytes
    if (this.#drainedBytes > DRAIN_BYTES_MAX || this.#lanes.open().length === 0) this.#abandon()
  }

  /** Nobody waits for what is under way. */
  #abandon(): void {
    for (const { response, hasBegun } of this.#lanes.open()) response.end('client_closed', null, hasBegun)
    this.#dropUpstream()
    this.#close()
  }

  #dropUpstream(): void {
    this.#upstream?.terminate()
    this.#upstream = undefined
  }

  #close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#timer)
    clearTimeout(this.#writeTimer)
    if (this.#drainTimer) {
      clearTimeout(this.#drainTimer)
      this.#options.drains.end()
    }
    this.#options.onClose()
  }

  #closeIfDone(): void {
    if (!this.#closing || this.#isWorking || this.inFlightCount > 0) return
    this.#dropUpstream()
    this.#closeClient(this.#closing.code)
  }

  /** Looks after ends that have gone without saying so, and after what does not move. */
  #tick(): void {
    const { openaiTimeoutMs, openaiIdleTimeoutMs, openaiTotalTimeoutMs, webSocketIdleTimeoutMs } = this.#options.config
    const now = performance.now()
    const open = this.#lanes.open()
    const isStuck = open.some(({ response, hasBegun }) => {
      const stillMs = now - response.lastMovedAt
      if (!hasBegun || !response.isSent) return false
      return (
        stillMs > (response.id === null ? openaiTimeoutMs : openaiIdleTimeoutMs) ||
        now - response.askedAt > openaiTotalTimeoutMs
      )
    })
    if (isStuck) this.#end(stuck(), INTERNAL_ERROR)
    else if (this.#isUnanswered()) return
    else if (open.length === 0 && !this.#isWorking && now - this.#lastActiveAt >= webSocketIdleTimeoutMs) {
      this.#dropUpstream()
      this.#closeClient(GOING_AWAY, 'idle')
    }
  }

  /** Pings both ends; one that has not answered since the last time is gone. Who is held back cannot answer. */
  #isUnanswered(): boolean {
    const client = this.#client
    if (client.readyState === client.OPEN && !client.isPaused) {
      if (!this.#isClientAlive) {
        client.terminate()
        return true
      }
      this.#isClientAlive = false
      client.ping()
    }
    const upstream = this.#upstream
    if (upstream?.readyState === client.OPEN && !upstream.isPaused) {
      if (!this.#isUpstreamAlive) {
        upstream.terminate()
        return true
      }
      this.#isUpstreamAlive = false
      upstream.ping()
    }
    return false
  }
}

/** RFC 6455, section 7.4.1. */
const [GOING_AWAY, POLICY_VIOLATION, INTERNAL_ERROR, SERVICE_RESTART] = [1001, 1008, 1011, 1012] as const

/** With these no later frame would fare better. */
const ENDS_SOCKET: ReadonlySet<ErrorCode> = new Set([
  'invalid_authentication',
  'insufficient_scope',
  'user_mismatch',
  'missing_user_id',
  'upgrade_required',
])

/** Responses under way on one socket. */
const RESPONSES_MAX = 100
const QUEUE_MAX = 16
const QUEUE_BYTES_MAX = 1024 * 1024
const WRITE_HIGH_BYTES = 1024 * 1024
const WRITE_LOW_BYTES = 64 * 1024
/** A client that takes nothing for this long is taken for gone. */
const WRITE_IDLE_MS = 60_000
/** For a client that does not answer a goodbye. */
const CLOSE_TIMEOUT_MS = 400

/** OpenAI's own code where it can be sent on. */
function passable(code: number): number {
  const isReserved = code < 1000 || code === 1004 || code === 1005 || code === 1006 || code > 1014
  return isReserved ? INTERNAL_ERROR : code
}

function tooMany(): AppError {
  return new AppError(
    'rate_limited',
    `This WebSocket has ${RESPONSES_MAX} responses under way, which is as many as it takes; wait for one to end.`,
    { retryAfterSeconds: 1 },
  )
}

function lost(): AppError {
  return new AppError('upstream_unreachable', 'OpenAI closed the WebSocket before its answer was complete.')
}

function unreadable(): AppError {
  return new AppError('upstream_unreachable', 'OpenAI sent something that is no event, and is not passed on.')
}

function stuck(): AppError {
  return new AppError('upstream_timeout', 'OpenAI did not go on with its answer in time.')
}
