import { Capture, type Captured } from '../content/capture.ts'
import type { ContentWriter } from '../content/writer.ts'
import type { AppError } from '../errors.ts'
import { estimateInputTokens, type InputMeasure } from '../ledger/estimate.ts'
import type { Attempt, Ending, Ledger, SettledUsage, Settlement } from '../ledger/ledger.ts'
import type { Ownership } from '../ownership/service.ts'
import { type AnswerIds, watchIds } from './answer-ids.ts'
import type { CallWatch } from './call-watch.ts'
import type { AdmittedCall } from './calls.ts'
import { errorFrame, type ServerFrame } from './frames.ts'
import { HiddenText } from './hidden-text.ts'
import { openRedactor } from './redact.ts'
import { errorCodeOf } from './watchers/answer-fields.ts'
import { ResponseEvents } from './watchers/responses.ts'

/** A response that a client asked for over a WebSocket. */
export type SocketCall = Pick<
  AdmittedCall,
  'requestId' | 'sessionId' | 'endpoint' | 'identity' | 'policies' | 'key' | 'persona'
> & {
  streamId: string | undefined
  model: string | null
  previousResponseId: string | undefined
  input: InputMeasure
  captured: Captured | undefined
  watch: CallWatch
}

interface Deps {
  ledger: Ledger
  ownership: Ownership
  contents: ContentWriter
}

/** A response under way on a WebSocket: recorded from before its frame leaves until its end is known, and settled once. */
export class SocketResponse {
  readonly call: SocketCall
  /** Its frame has been handed to OpenAI's socket. */
  isSent = false
  readonly askedAt = performance.now()
  /** When OpenAI was last heard of it. */
  lastMovedAt = performance.now()
  /** Its client has gone: what it used counts, and nobody sees how it ends. */
  isAbandoned = false
  readonly #attempt: Attempt
  readonly #events = new ResponseEvents()
  readonly #ids: AnswerIds | undefined
  readonly #hidden: HiddenText | undefined
  readonly #content: Capture | undefined
  readonly #contents: ContentWriter
  readonly #upstreamRequestId: () => string | null
  readonly #onOver: () => void
  #firstByteMs: number | null = null
  #deltaCount = 0
  #isOver = false
  /** OpenAI told of an error that may be this response's; should it go on, it was not. */
  #suspicion: { timer: NodeJS.Timeout; errorCode: string } | undefined

  /**
   * @param onOver called once, when it is settled.
   * @throws {AppError} when it could not be recorded.
   */
  constructor(deps: Deps, call: SocketCall, upstreamRequestId: () => string | null, onOver: () => void) {
    const { identity, endpoint, key, persona, policies } = call
    this.call = call
    this.#contents = deps.contents
    this.#upstreamRequestId = upstreamRequestId
    this.#onOver = onOver
    this.#hidden = persona && new HiddenText(persona.hidden)
    this.#content = policies.content === 'full' ? new Capture() : undefined
    const maker = { organizationId: identity.organizationId, userId: identity.userId, apiKeyId: key.apiKeyId }
    const made = persona && { persona: { id: persona.id, version: persona.version } }
    this.#ids =
      endpoint.handsOut &&
      watchIds(endpoint.handsOut, 'events', (kind, objectId) =>
        deps.ownership.record({ ...maker, objectId, kind, ...(kind === 'item' ? undefined : made) }),
      )
    this.#attempt = deps.ledger.open(
      {
        requestId: call.requestId,
        attemptNumber: 1,
        ...maker,
        sessionId: call.sessionId,
        endpoint: endpoint.name,
        modelRequested: call.model,
        isStream: true,
        inputTokensEstimate: estimateInputTokens(call.input),
        isBackground: false,
        personaId: persona?.id,
        personaVersion: persona?.version,
      },
      call.input,
      () => ({
        outputTokens: this.#deltaCount,
        modelUsed: this.#events.modelUsed,
        serviceTier: this.#events.serviceTier,
        responseId: this.#events.responseId,
      }),
    )
  }

  get id(): string | null {
    return this.#events.responseId
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** Its client changed its course: another response follows by itself. */
  get wasSteered(): boolean {
    return this.#events.end?.errorCode === 'steered'
  }

  /** An event of this response, before it reaches the client. */
  onEvent(frame: ServerFrame, bytes: Buffer): void {
    this.lastMovedAt = performance.now()
    this.#firstByteMs ??= Math.round(this.lastMovedAt - this.askedAt)
    this.call.watch.piece()
    this.#trust()
    if (frame.isDelta) {
      this.#deltaCount += 1
      return
    }
    this.#ids?.push(bytes)
    this.#events.onEvent(frame, this.#deltaCount)
    const { end } = this.#events
    if (!end) return
    const ending = end.ending === 'pending' ? 'completed' : end.ending
    this.#settle(this.isAbandoned ? 'client_closed' : ending, end.errorCode, end.usage, 200)
  }

  /** OpenAI refused it before it began. */
  refuse(status: number | null, error: object): void {
    const ending = status !== null && status >= 500 ? 'upstream_error' : 'failed'
    this.#settle(ending, errorCodeOf(error), { source: 'none' }, status)
  }

  /** OpenAI told of an error while it was under way, without saying whose it is. */
  suspect(error: object): void {
    const errorCode = errorCodeOf(error) ?? 'failed'
    this.#trust()
    this.#suspicion = { timer: setTimeout(() => this.end('failed', errorCode), SUSPICION_MS), errorCode }
  }

  /** It goes no further. @returns what its client is to be told, if it has not been told already. */
  cut(error: AppError): string | undefined {
    const known = this.#suspicion?.errorCode
    this.end(known === undefined ? 'upstream_error' : 'failed', known ?? error.code)
    return known === undefined ? errorFrame(error, this.call.streamId) : undefined
  }

  /** @param hasBegun whether OpenAI may have worked for it. */
  end(ending: Ending, errorCode: string | null, hasBegun = true): void {
    const usage: SettledUsage =
      this.isSent && hasBegun ? { source: 'estimated', outputTokens: this.#deltaCount } : { source: 'none' }
    this.#settle(ending, errorCode, usage, this.#events.responseId === null ? null : 200)
  }

  /** What the client may see of an event. */
  hide(frame: ServerFrame, bytes: Buffer): Buffer {
    return this.#hidden && !frame.isDelta ? openRedactor('json', this.#hidden).push(bytes) : bytes
  }

  /** What its client sees is kept, as a stream of events over HTTP would be. */
  keep(shown: Buffer): void {
    for (const piece of [DATA, shown, END_OF_EVENT]) this.#content?.push(piece)
  }

  #trust(): void {
    clearTimeout(this.#suspicion?.timer)
    this.#suspicion = undefined
  }

  #settle(ending: Ending, errorCode: string | null, usage: SettledUsage, httpStatus: number | null): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#trust()
    const settlement: Settlement = {
      ending,
      errorCode,
      usage,
      httpStatus,
      responseId: this.#events.responseId,
      upstreamRequestId: this.#upstreamRequestId(),
      modelUsed: this.#events.modelUsed ?? this.call.model,
      serviceTier: this.#events.serviceTier,
      firstByteMs: this.#firstByteMs,
    }
    this.#attempt.settle(settlement)
    this.call.watch.settled(settlement)
    // The event that ends it is still on its way to the client.
    queueMicrotask(() => this.#keepContent())
    this.#onOver()
  }

  #keepContent(): void {
    const { identity, policies, captured } = this.call
    if (!this.#content || !this.isSent) return
    this.#contents.keep({
      organizationId: identity.organizationId,
      attemptId: this.#attempt.id,
      days: policies.contentDays,
      request: captured,
      response: this.#content.take(),
    })
  }
}

/** Longer than OpenAI keeps silent within an answer that goes on. */
const SUSPICION_MS = 60_000
const DATA = Buffer.from('data: ')
const END_OF_EVENT = Buffer.from('\n\n')
