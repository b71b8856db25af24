import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import type { Capture } from '../content/capture.ts'
import { AppError, toErrorBody } from '../errors.ts'
import type { Attempt, Ending, Progress, SettledUsage, Settlement } from '../ledger/ledger.ts'
import type { ObjectKind } from '../ownership/kinds.ts'
import { type AnswerIds, type HandedOut, watchIds } from './answer-ids.ts'
import { type AnswerWatcher, type Meter, watchAnswer } from './answer-watcher.ts'
import type { ByteFilter } from './byte-filter.ts'
import type { CallWatch } from './call-watch.ts'
import { DRAIN_BYTES_MAX, DRAIN_TIMEOUT_MS, type Drains } from './drains.ts'
import { clientHeaders } from './headers.ts'
import type { HiddenText } from './hidden-text.ts'
import { openRedactor, type Redactor } from './redact.ts'
import { refusalFor, upstreamFault } from './upstream.ts'

/** What an exchange needs to know and whom it tells. */
export interface ExchangeOptions {
  response: ServerResponse
  attempt: Attempt
  watch: CallWatch
  meter: Meter
  /** Asked for when the call is settled: a form may name its model behind its files. */
  modelRequested: () => string | null
  /** Where the answer hands out ids, if it does. */
  handsOut: HandedOut | undefined
  /** Whether the caller asked for a stream. */
  wantsStream: boolean
  totalTimeoutMs: number
  /** The answer goes on at OpenAI when this call ends. */
  isBackground: boolean
  /** Given when the organization wants answers read to their end after the client has gone. */
  drains: Drains | undefined
  /** What the call uses, where its request alone tells that and the answer does not. */
  usageByRequest: SettledUsage | undefined
  /** Given when the client is not to see a stream quite as it came. */
  filter: ByteFilter | undefined
  /** Given when the organization keeps content: takes the answer's pieces as they pass. */
  capture: Capture | undefined
  /** Given when a persona is in it: what the client may not be told. */
  hidden: HiddenText | undefined
  /** An id is about to reach the client: whose it is must be on record first. */
  onId(kind: ObjectKind, id: string): void
  /** Called once when the answer says that the call did what it was for. */
  onSuccess(): void
  /** Answers with our own error; the head has not been sent. */
  refuse(error: AppError): void
  /** Given while a call that could not leave may be made again; nothing has been sent to anyone then. */
  tryAgain: (() => void) | undefined
  /** OpenAI has begun to answer: it has the request. */
  onAnswer(): void
  /** Called once, when nothing more will be read or written. */
  onClose(wasSent: boolean): void
}

/**
 * One call upstream and its answer on the way to the client: the hot path. Each piece is watched, then written, with the client's
 * pace holding back OpenAI's. However it ends, the attempt is settled once and the client sees how.
 */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly #options: Omit<ExchangeOptions, 'tryAgain'>
  #tryAgain: (() => void) | undefined
  readonly #response: ServerResponse
  readonly #startedAt = performance.now()
  readonly #totalTimer: NodeJS.Timeout
  #controller: Dispatcher.DispatchController | undefined
  #writeTimer: NodeJS.Timeout | undefined
  #watcher: AnswerWatcher | undefined
  #ids: AnswerIds | undefined
  #redactor: Redactor | undefined
  #unsentHead: (() => void) | undefined
  #httpStatus: number | null = null
  #upstreamRequestId: string | null = null
  #firstByteMs: number | null = null
  #isResponseIdKnown = false
  /** Whether the request may have reached OpenAI. */
  #isSent = false
  /** Why we ended it ourselves, if we did. */
  #abortedFor: 'client' | 'slow_client' | AppError | undefined
  /** The upstream's answer is not for the client: its body is thrown away. */
  #isDiscarding = false
  #isStream = false
  #isClosed = false
  /** The client has gone and the answer is read to its end for the record. */
  #drainTimer: NodeJS.Timeout | undefined
  #drainedBytes = 0

  constructor(options: ExchangeOptions) {
    const { tryAgain, ...rest } = options
    this.#options = rest
    this.#tryAgain = tryAgain
    this.#response = options.response
    this.#totalTimer = setTimeout(() => {
      this.#abort(new AppError('upstream_timeout', 'The whole call took longer than allowed (OPENAI_TOTAL_TIMEOUT).'))
    }, options.totalTimeoutMs)
    this.#response.on('drain', this.#onDrain)
    this.#response.on('close', this.#onClientClose)
    this.#response.on('error', this.#onClientClose)
  }

  /** How far the answer has come. */
  progress(): Progress {
    return {
      outputTokens: this.#watcher?.outputTokensEstimate ?? 0,
      modelUsed: this.#watcher?.modelUsed ?? null,
      serviceTier: this.#watcher?.serviceTier ?? null,
      responseId: this.#watcher?.responseId ?? null,
    }
  }

  /** Ends the exchange from outside, as at a shutdown whose deadline has passed. */
  cut(error: AppError): void {
    this.#abort(error)
  }

  /** The call could not be made at all. */
  failToStart(error: AppError): void {
    this.#fail(error)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#abortedFor) controller.abort(new Error('aborted before the call'))
    else this.#isSent = true
    // With it goes the request's body, which nobody needs once it is on its way.
    this.#tryAgain = undefined
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) return
    this.#httpStatus = status
    const upstreamMs = performance.now() - this.#startedAt
    this.#firstByteMs = Math.round(upstreamMs)
    this.#options.onAnswer()
    this.#upstreamRequestId = headerText(headers['x-request-id'])
    const { hidden } = this.#options
    const refusal = refusalFor(status) ?? (hidden && isEncoded(headers) ? unreadable() : undefined)
    if (refusal) {
      this.#isDiscarding = true
      this.#settle('upstream_error', refusal.code, { source: status === 200 ? 'unknown' : 'none' })
      this.#options.refuse(refusal)
      return
    }
    const contentType = headerText(headers['content-type']) ?? ''
    // What was asked for counts as much: a stream under a false name must not look whole when it breaks. But models that cannot stream
    // what they hear are asked to in vain, and answer in one piece.
    const isAskedFor = this.#options.wantsStream && this.#options.meter !== 'audio'
    this.#isStream = isEventStream(contentType) || (isAskedFor && status === 200)
    const form = this.#isStream ? 'stream' : 'json'
    this.#watcher = watchAnswer(this.#options.meter, form)
    if (status < 300) {
      this.#options.onSuccess()
      this.#ids = this.#options.handsOut && watchIds(this.#options.handsOut, form, this.#options.onId)
    }
    if (hidden) this.#redactor = openRedactor(status >= 400 ? 'error' : this.#isStream ? 'stream' : 'json', hidden)
    // A stream goes without a length: one that it has reached would make it whole, whether or not it has said how it ended.
    const kept = clientHeaders(headers, hidden || this.#isStream ? 'edited' : 'as it came')
    this.#options.watch.head(upstreamMs)
    this.#unsentHead = () => this.#response.writeHead(status, kept)
    // With an answer that may turn out to be unreadable goes its head: until something of it passes, it can still be refused.
    if (!hidden || this.#isStream) this.#sendHead()
    if (this.#isStream) this.#response.flushHeaders()
  }

  #sendHead(): void {
    this.#unsentHead?.()
    this.#unsentHead = undefined
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#isDiscarding || this.#abortedFor || !this.#watcher) return
    // Watched first: whoever sees the end of an answer finds it recorded.
    this.#ids?.push(chunk)
    this.#watcher.push(chunk)
    this.#noteResponseId()
    const passing = this.#edited(chunk)
    this.#options.capture?.push(passing)
    if (this.#drainTimer) {
      this.#drain(chunk)
      return
    }
    if (this.#watcher.end) this.#settleAnswer()
    if (passing.length === 0) return
    if (this.#isStream) this.#options.watch.piece()
    this.#sendHead()
    if (!this.#response.write(passing)) {
      controller.pause()
      this.#writeTimer = setTimeout(() => this.#abort('slow_client'), WRITE_IDLE_MS)
    }
  }

  /** What the client sees of a piece. */
  #edited(chunk: Buffer): Buffer {
    const redacted = this.#redactor?.push(chunk) ?? chunk
    return this.#isFiltered ? (this.#options.filter?.push(redacted) ?? NOTHING) : redacted
  }

  #editedRest(): Buffer {
    const redacted = this.#redactor?.finish() ?? NOTHING
    if (!this.#isFiltered || !this.#options.filter) return redacted
    return Buffer.concat([this.#options.filter.push(redacted) ?? NOTHING, this.#options.filter.finish() ?? NOTHING])
  }

  /** Only a stream that was really answered is one that was asked for. */
  get #isFiltered(): boolean {
    return this.#options.filter !== undefined && this.#isStream && this.#httpStatus === 200
  }

  onResponseEnd(): void {
    if (this.#isDiscarding) {
      this.#close()
      return
    }
    this.#watcher?.finish()
    if (this.#isStreamBroken()) {
      this.#fail(new AppError('upstream_unreachable', 'OpenAI ended its answer before it was complete.'))
      return
    }
    this.#settleAnswer()
    if (this.#redactor?.isLost) {
      this.#fail(unreadable())
      return
    }
    const rest = this.#editedRest()
    this.#options.capture?.push(rest)
    this.#sendHead()
    this.#response.end(rest)
    this.#close()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#isClosed || this.#isDiscarding) {
      this.#close()
      return
    }
    if (this.#abortedFor === 'client' || this.#abortedFor === 'slow_client') {
      this.#settle('client_closed', this.#abortedFor === 'client' ? null : 'client_too_slow', this.#estimate())
      this.#response.destroy()
      this.#close()
      return
    }
    if (error instanceof AppError) {
      // Its own body was refused while it was on its way: OpenAI never had the whole of it.
      this.#settle('failed', error.code, { source: 'none' })
      this.#fail(error)
      return
    }
    this.#fail(this.#abortedFor ?? upstreamFault(error))
  }

  /** The client is told in whatever way is still honest: a status, an error event between two events, or a broken connection. */
  #fail(error: AppError): void {
    this.#settle('upstream_error', error.code, this.#estimate())
    const tryAgain = this.#tryAgain
    if (tryAgain && this.#mayTryAgain(error)) {
      this.#close()
      tryAgain()
      return
    }
    if (!this.#response.headersSent) {
      this.#options.refuse(error)
    } else if (this.#watcher?.isBetweenEvents) {
      this.#response.end(errorEvent(this.#options.meter, error, this.#watcher.eventCount))
    } else {
      this.#response.destroy()
    }
    this.#close()
  }

  /** Only what never reached OpenAI may be sent again: anything else might be paid for twice. */
  #mayTryAgain(error: AppError): boolean {
    return !this.#isSent && !this.#abortedFor && error.code === 'upstream_unreachable' && !this.#response.destroyed
  }

  /** From here on the end of a background response can be asked for, even by another process. */
  #noteResponseId(): void {
    if (this.#isResponseIdKnown || !this.#options.isBackground || !this.#watcher?.responseId) return
    this.#isResponseIdKnown = true
    this.#options.attempt.recordProgress()
  }

  #settleAnswer(): void {
    const status = this.#httpStatus ?? 0
    const end = this.#watcher?.end
    if (status >= 400) {
      this.#settle(status >= 500 ? 'upstream_error' : 'failed', end?.errorCode ?? `http_${status}`, { source: 'none' })
    } else if (end) {
      const isSaidElsewhere = end.ending === 'completed' && end.usage.source === 'unknown'
      this.#settle(end.ending, end.errorCode, (isSaidElsewhere && this.#options.usageByRequest) || end.usage)
    } else {
      this.#settle('upstream_error', 'unreadable_answer', { source: 'unknown' })
    }
  }

  #settle(ending: Ending | 'pending', errorCode: string | null, usage: SettledUsage): void {
    const watcher = this.#watcher
    const goesOn = ending === 'pending' || (this.#options.isBackground && watcher?.end === undefined)
    const settlement: Settlement = {
      ending: ending === 'pending' ? 'completed' : ending,
      errorCode,
      usage,
      httpStatus: this.#httpStatus,
      responseId: watcher?.responseId ?? null,
      upstreamRequestId: this.#upstreamRequestId,
      modelUsed: watcher?.end?.modelUsed ?? watcher?.modelUsed ?? this.#options.modelRequested(),
      serviceTier: watcher?.end?.serviceTier ?? watcher?.serviceTier ?? null,
      firstByteMs: this.#firstByteMs,
    }
    this.#options.watch.settled(settlement)
    if (goesOn && watcher?.responseId && this.#httpStatus === 200) this.#options.attempt.defer(watcher.responseId)
    else this.#options.attempt.settle(settlement)
  }

  /** What a call that was cut has probably used. What never left for OpenAI has used nothing. */
  #estimate(): SettledUsage {
    if (!this.#isSent) return { source: 'none' }
    return this.#watcher?.usageIfCut ?? { source: 'estimated', outputTokens: 0 }
  }

  /** A stream that OpenAI ended without saying how it ended: passing that on would look like an answer. */
  #isStreamBroken(): boolean {
    return this.#isStream && this.#httpStatus === 200 && this.#watcher?.end === undefined
  }

  #onDrain = (): void => {
    clearTimeout(this.#writeTimer)
    this.#controller?.resume()
  }

  #onClientClose = (): void => {
    if (this.#isClosed || this.#abortedFor || this.#drainTimer) return
    // Before the call has left there is nothing to read to the end.
    if (!this.#isSent || !this.#options.drains?.begin()) {
      this.#abort('client')
      return
    }
    this.#drainTimer = setTimeout(() => this.#abort('client'), DRAIN_TIMEOUT_MS)
    clearTimeout(this.#writeTimer)
    this.#controller?.resume()
  }

  #drain(chunk: Buffer): void {
    this.#drainedBytes += chunk.length
    const end = this.#watcher?.end
    if (end) this.#settle(end.ending === 'pending' ? 'pending' : 'client_closed', end.errorCode, end.usage)
    if (end || this.#drainedBytes > DRAIN_BYTES_MAX) this.#abort('client')
  }

  #abort(reason: 'client' | 'slow_client' | AppError): void {
    if (this.#isClosed || this.#abortedFor) return
    this.#abortedFor = reason
    // Without a controller the call still waits for a connection; it is aborted as soon as it gets one.
    this.#controller?.abort(new Error('aborted'))
  }

  #close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearTimeout(this.#totalTimer)
    clearTimeout(this.#writeTimer)
    if (this.#drainTimer) {
      clearTimeout(this.#drainTimer)
      this.#options.drains?.end()
    }
    this.#response.off('drain', this.#onDrain)
    this.#response.off('close', this.#onClientClose)
    this.#options.onClose(this.#isSent)
  }
}

const NOTHING: Buffer = Buffer.alloc(0)

/** A client that takes nothing for this long is taken for gone. */
const WRITE_IDLE_MS = 60_000

/** An answer with a persona in it is read, or not passed on. */
function unreadable(): AppError {
  return new AppError('upstream_unreachable', "OpenAI's answer is not in a form that can be read and passed on.")
}

function isEncoded(headers: IncomingHttpHeaders): boolean {
  return (headerText(headers['content-encoding']) ?? 'identity').toLowerCase() !== 'identity'
}

function isEventStream(contentType: string): boolean {
  return /^text\/event-stream\s*(;|$)/i.test(contentType)
}

function headerText(value: string | string[] | undefined): string | null {
  return (Array.isArray(value) ? value[0] : value) ?? null
}

/** OpenAI's own form of an error within a stream, so that its SDKs raise it. */
function errorEvent(meter: Meter, error: AppError, sequenceNumber: number): string {
  const body = toErrorBody(error)
  if (meter === 'chat' || meter === 'completions') return `data: ${JSON.stringify(body)}\n\n`
  const { code, message, param } = body.error
  return `event: error\ndata: ${JSON.stringify({ type: 'error', code, message, param, sequence_number: sequenceNumber })}\n\n`
}
