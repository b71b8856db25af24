import type { IncomingMessage, ServerResponse } from 'node:http'
import type { UpstreamKey } from '../api-keys/key-ring.ts'
import type { Identity } from '../auth/authenticate.ts'
import type { Config } from '../config.ts'
import { Capture, type Captured } from '../content/capture.ts'
import type { ContentWriter } from '../content/writer.ts'
import { AppError } from '../errors.ts'
import type { RequestRecord } from '../http/request-record.ts'
import { estimateInputTokens, type InputMeasure, NO_INPUT } from '../ledger/estimate.ts'
import type { Attempt, Ledger, Opening, SettledUsage } from '../ledger/ledger.ts'
import type { Policies } from '../organizations/policies.ts'
import type { ObjectKind } from '../ownership/kinds.ts'
import type { OwnedObject, Owner, Ownership } from '../ownership/service.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { parseTraceParent } from '../telemetry/trace-context.ts'
import type { RequestTrace } from '../telemetry/tracer.ts'
import type { ByteFilter } from './byte-filter.ts'
import { CallWatch } from './call-watch.ts'
import type { Place } from './capacity.ts'
import { Drains } from './drains.ts'
import { type Endpoint, type PathId, upstreamPath } from './endpoints.ts'
import { Exchange } from './exchange.ts'
import { type Outgoing, upstreamHeaders } from './headers.ts'
import { HiddenText } from './hidden-text.ts'
import type { Identifiers } from './identifiers.ts'
import type { UsedPersona } from './personas.ts'
import { type Upstream, upstreamFault } from './upstream.ts'

/** A request for an endpoint, by a known caller. */
export interface AskedCall {
  request: IncomingMessage
  response: ServerResponse
  endpoint: Endpoint
  requestId: string
  sessionId: string
  /** The ids in its path, and its query with the question mark, byte for byte. */
  ids: readonly PathId[]
  query: string
  identity: Identity
  owner: Owner
  policies: Policies
  /** The value of `X-Persona-ID`. */
  personaHeader: string | undefined
  /** Answers with an error of the proxy's own. */
  refuse(error: AppError): void
  /** What it takes of the proxy's capacity. */
  place: Place
  record: RequestRecord
  trace: RequestTrace | undefined
}

/** A call that may be made. */
export interface AdmittedCall extends AskedCall {
  key: UpstreamKey
  /** The object that its path is about, if it is about one. */
  subject: OwnedObject | undefined
  /** The response that it goes on from. */
  previous: OwnedObject | undefined
  persona: UsedPersona | undefined
  body: Outgoing | undefined
}

/** A call that is recorded. */
export interface MeteredCall extends AdmittedCall {
  body: Outgoing
  asks: {
    /** Changed while the call is under way where a form names its model behind its files. */
    model: string | null
    isStream: boolean
    isBackground: boolean
    /** Whether OpenAI keeps a chat completion. */
    isStored: boolean
  }
  /** Undefined where its tokens cannot be told from its bytes. */
  input: InputMeasure | undefined
  /** What it uses, where the request alone tells that and the answer does not. */
  usageByRequest: SettledUsage | undefined
  captured(): Captured | undefined
  /** Given when the client is not to see a stream quite as it comes. */
  filter: (() => ByteFilter) | undefined
  /** A body that has been passed on as it arrived cannot be sent again. */
  isRepeatable: boolean
}

/** Calls to OpenAI that are under way. */
export interface Calls {
  /** A call that costs nothing. */
  makePlain(call: AdmittedCall): void
  /** A call that is recorded, from before it leaves until its end is known. */
  makeMetered(call: MeteredCall): void
  readonly inFlightCount: number
  /** Ends what is still under way, visibly. */
  cutAll(error: AppError): void
}

export interface CallsDeps {
  config: Pick<Config, 'openaiTotalTimeoutMs' | 'openaiBaseUrl'>
  metrics: Metrics
  ownership: Ownership
  ledger: Ledger
  contents: ContentWriter
  upstream: Upstream
}

export function openCalls(deps: CallsDeps, identifiers: Identifiers): Calls {
  const { config, metrics, ownership, ledger, contents, upstream } = deps
  const exchanges = new Set<Exchange>()
  const drains = new Drains()

  function makeMetered(call: MeteredCall, attemptNumber: number): void {
    const { response, endpoint, identity, policies, place, key, persona, asks, input, captured } = call
    const { organizationId } = identity
    const opening: Opening = {
      requestId: call.requestId,
      attemptNumber,
      organizationId,
      userId: identity.userId,
      apiKeyId: key.apiKeyId,
      sessionId: call.sessionId,
      endpoint: endpoint.name,
      modelRequested: asks.model,
      isStream: asks.isStream,
      inputTokensEstimate: input ? estimateInputTokens(input) : null,
      isBackground: asks.isBackground,
      personaId: persona?.id,
      personaVersion: persona?.version,
    }
    // What went between caller and proxy: the persona's text is in its version, and stays there.
    const content = policies.content === 'full' ? new Capture() : undefined
    const watch = watchCall(call, asks.model)
    const attempt = ledger.open(opening, input ?? NO_INPUT, () => exchange.progress())
    const exchange: Exchange = new Exchange({
      response,
      attempt,
      watch,
      meter: endpoint.meter,
      modelRequested: () => {
        opening.modelRequested = asks.model
        return asks.model
      },
      handsOut: endpoint.handsOut,
      wantsStream: asks.isStream,
      totalTimeoutMs: config.openaiTotalTimeoutMs,
      isBackground: asks.isBackground,
      // A batch that was made goes on whether or not its client is still there: its id must not be lost.
      drains: policies.clientGone === 'drain' || endpoint.meter === 'batch' ? drains : undefined,
      usageByRequest: call.usageByRequest,
      filter: call.filter?.(),
      hidden: persona && new HiddenText(persona.hidden),
      capture: content,
      onId: recorder(call, asks.isStored),
      onSuccess: () => {},
      onAnswer: () => place.releaseBody(),
      refuse: call.refuse,
      tryAgain: call.isRepeatable && attemptNumber < ATTEMPTS_MAX ? again(call, attemptNumber + 1) : undefined,
      onClose: (wasSent) => {
        exchanges.delete(exchange)
        if (!content || !wasSent) return
        const days = policies.contentDays
        contents.keep({ organizationId, attemptId: attempt.id, days, request: captured(), response: content.take() })
      },
    })
    dispatch(exchange, call, watch)
  }

  /** Apart from the closures above, so that they do not keep the body alive for as long as its answer takes. */
  function again(call: MeteredCall, attemptNumber: number): () => void {
    return () => makeMetered(call, attemptNumber)
  }

  function makePlain(call: AdmittedCall): void {
    const { response, endpoint, ids, identity, place } = call
    const { organizationId } = identity
    const id = ids.at(-1)?.id ?? ''
    const watch = watchCall(call, null)
    const exchange: Exchange = new Exchange({
      response,
      watch,
      // Should this answer be the first to tell the end of what goes on in the background, that is asked for at once.
      attempt: endpoint.tellsEndOf ? { ...NO_ATTEMPT, settle: () => ledger.expectEnd(organizationId, id) } : NO_ATTEMPT,
      meter: endpoint.tellsEndOf ?? 'none',
      modelRequested: () => null,
      handsOut: endpoint.handsOut,
      wantsStream: false,
      totalTimeoutMs: config.openaiTotalTimeoutMs,
      isBackground: false,
      drains: undefined,
      usageByRequest: undefined,
      filter: undefined,
      hidden: call.persona && new HiddenText(call.persona.hidden),
      capture: undefined,
      onId: recorder(call, true),
      onSuccess: () => {
        if (!endpoint.isDeletion) return
        // Should this fail, its next listing finds it gone.
        ownership.forget(organizationId, [id]).catch(() => {})
      },
      refuse: call.refuse,
      onAnswer: () => place.releaseBody(),
      tryAgain: undefined,
      onClose: () => exchanges.delete(exchange),
    })
    dispatch(exchange, call, watch)
  }

  function recorder({ identity, subject, persona, key }: AdmittedCall, isStored: boolean) {
    // What comes out of an object is its maker's, whoever in the organization asked for it.
    const userId = subject ? subject.userId : identity.userId
    const maker = { organizationId: identity.organizationId, userId, apiKeyId: key.apiKeyId }
    const made = persona && { persona: { id: persona.id, version: persona.version } }
    return (kind: ObjectKind, objectId: string) => {
      if (kind === 'chat_completion' && !isStored) return
      ownership.record({ ...maker, objectId, kind, ...(kind === 'item' ? undefined : made) })
    }
  }

  function watchCall({ response, endpoint, record, trace, key }: AdmittedCall, model: string | null): CallWatch {
    const baseUrl = key.baseUrl ?? config.openaiBaseUrl.href
    return new CallWatch({ record, response, metrics, span: trace?.begin({ endpoint: endpoint.name, model, baseUrl }) })
  }

  function dispatch(exchange: Exchange, call: AdmittedCall, watch: CallWatch): void {
    const { request, endpoint, requestId, identity, policies, ids, query, key, body } = call
    const headers = upstreamHeaders(request.rawHeaders, {
      upstreamKey: key.secret.reveal(),
      body,
      requestId,
      traceparent: watch.traceparent ?? validTraceParent(request.headers.traceparent),
      namespace: (value) =>
        policies.identifiers === 'as_sent' ? value : identifiers.hash(identity, 'idempotency_key', value),
    })
    const path = `${upstreamPath(endpoint, ids)}${query}`
    exchanges.add(exchange)
    try {
      upstream.dispatch({ method: endpoint.method, path, headers, body: body?.content }, key.baseUrl, exchange)
    } catch (error) {
      exchange.failToStart(error instanceof AppError ? error : upstreamFault(error as Error))
    }
  }

  return {
    makePlain,
    makeMetered: (call) => makeMetered(call, 1),
    get inFlightCount() {
      return exchanges.size
    },
    cutAll(error) {
      for (const exchange of exchanges) exchange.cut(error)
    },
  }
}

/** Of the caller, for OpenAI: as it came, or not at all. */
export function validTraceParent(text: string | string[] | undefined): string | undefined {
  return typeof text === 'string' && parseTraceParent(text) ? text : undefined
}

const ATTEMPTS_MAX = 2
const NO_ATTEMPT: Attempt = { id: '', settle() {}, defer() {}, recordProgress() {} }
