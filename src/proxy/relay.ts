import type { IncomingMessage, ServerResponse } from 'node:http'
import type { KeyRing, UpstreamKey } from '../api-keys/key-ring.ts'
import type { Authenticator, Credential, Identity } from '../auth/authenticate.ts'
import { requireScope } from '../auth/caller.ts'
import type { Config } from '../config.ts'
import { Capture, captureBody } from '../content/capture.ts'
import type { ContentWriter } from '../content/writer.ts'
import { AppError } from '../errors.ts'
import type { IdentityHeaders } from '../http/identity-headers.ts'
import { newSessionId } from '../ids.ts'
import { estimateInputTokens, measureInput } from '../ledger/estimate.ts'
import type { Attempt, Ledger } from '../ledger/ledger.ts'
import type { PriceTable } from '../ledger/pricing.ts'
import type { Policies, PolicyReader } from '../organizations/policies.ts'
import type { OwnedObject, Ownership } from '../ownership/service.ts'
import type { PersonaDirectory } from '../personas/directory.ts'
import { Drains } from './drains.ts'
import { type Endpoint, upstreamPath } from './endpoints.ts'
import { Exchange } from './exchange.ts'
import { upstreamHeaders } from './headers.ts'
import { HiddenText } from './hidden-text.ts'
import { bodyTooLarge, type Payload, readPayload } from './payload.ts'
import { applyPersona, type UsedPersona } from './personas.ts'
import { type Upstream, upstreamFault } from './upstream.ts'

/** The data plane: requests to OpenAI's endpoints, on their way there and back. */
export interface Relay {
  handle(request: IncomingMessage, response: ServerResponse, endpoint: Endpoint, call: RelayCall): Promise<void>
  readonly inFlightCount: number
  /** Ends what is still under way, visibly. */
  cutAll(error: AppError): void
}

export interface RelayCall {
  requestId: string
  headers: IdentityHeaders
  /** The id in the path, where the endpoint has one. */
  responseId: string | undefined
  /** With its question mark, byte for byte; empty when there is none. */
  query: string
  /** Answers with an error of the proxy's own. */
  refuse(error: AppError): void
}

/** A request for an endpoint, by a known caller. */
interface AskedCall {
  request: IncomingMessage
  response: ServerResponse
  endpoint: Endpoint
  call: RelayCall
  identity: Identity
}

interface MeteredCall extends AskedCall {
  sessionId: string
  /** As the caller sent it. */
  payload: Payload
  /** As OpenAI gets it. */
  body: Buffer
  persona: UsedPersona | undefined
  policies: Policies
  key: UpstreamKey
}

const ATTEMPTS_MAX = 2
const NO_ATTEMPT: Attempt = { id: '', settle() {}, defer() {}, recordProgress() {} }

export interface RelayDeps {
  config: Pick<Config, 'requestBodyBytesMax' | 'concurrentRequestsMax' | 'openaiTotalTimeoutMs'>
  authenticator: Authenticator
  keyRing: KeyRing
  ownership: Ownership
  ledger: Ledger
  contents: ContentWriter
  upstream: Upstream
  prices: PriceTable
  policies: PolicyReader
  personas: PersonaDirectory
}

export function createRelay(deps: RelayDeps): Relay {
  const { config, authenticator, keyRing, ownership, ledger, contents, upstream, prices, personas } = deps
  const { policies: readPolicies } = deps
  const exchanges = new Set<Exchange>()
  const drains = new Drains()
  let admittedCount = 0

  /** One request, as a story: admit, identify, read, resolve, call. The exchange does the rest. */
  async function handle(request: IncomingMessage, response: ServerResponse, endpoint: Endpoint, call: RelayCall) {
    if (admittedCount >= config.concurrentRequestsMax) throw overloaded()
    admittedCount += 1
    response.once('close', () => {
      admittedCount -= 1
    })
    const sessionId = call.headers.sessionId ?? newSessionId()
    response.setHeader('x-session-id', sessionId)
    const credential: Credential = await authenticator.authenticate(call.headers.authorization)
    requireScope(credential, 'inference')
    const identity = await authenticator.identify(credential, call.headers.userId)

    if (endpoint.body === 'none') {
      await relayById({ request, response, endpoint, call, identity })
      return
    }
    refuseBodyByHeaders(request, config.requestBodyBytesMax)
    const payload = await readPayload(request, config.requestBodyBytesMax)
    const origin = await resolveReferences(identity, payload)
    const policies = await readPolicies(identity.organizationId)
    if (policies.unpricedModels === 'refuse') refuseUnpriced(prices, payload.model)
    const key = await keyRing.choose(identity.organizationId, identity.userId, identity.apiKeyId, origin?.apiKeyId)
    const { body, persona } = endpoint.instructions
      ? await applyPersona(personas, {
          form: endpoint.instructions,
          body: payload,
          personaHeader: call.headers.personaId,
          identity,
          apiKeyId: key.apiKeyId,
          sessionId,
          continues: origin?.persona,
          policies,
        })
      : { body: payload.bytes, persona: undefined }
    if (response.destroyed) return
    relayMetered({ request, response, endpoint, call, identity, sessionId, payload, body, persona, policies, key }, 1)
  }

  /** A call that is recorded. One that could not leave is tried once more, as an attempt of its own. */
  function relayMetered(metered: MeteredCall, attemptNumber: number): void {
    const { response, endpoint, call, identity, sessionId, payload, body, persona, policies, key } = metered
    const { organizationId, userId } = identity
    const owner = { organizationId, userId, apiKeyId: key.apiKeyId }
    const days = policies.contentDays
    const input = measureInput(body)
    const opening = {
      requestId: call.requestId,
      attemptNumber,
      organizationId,
      userId,
      apiKeyId: key.apiKeyId,
      sessionId,
      endpoint: endpoint.name,
      modelRequested: payload.model,
      isStream: payload.isStream,
      inputTokensEstimate: estimateInputTokens(input),
      isBackground: payload.isBackground,
      personaId: persona?.id,
      personaVersion: persona?.version,
    }
    // What went between caller and proxy: the persona's text is in its version, and stays there.
    const content =
      policies.content === 'full' ? { request: captureBody(payload.bytes), response: new Capture() } : undefined
    const attempt = ledger.open(opening, input, () => exchange.progress())
    const exchange: Exchange = new Exchange({
      response,
      attempt,
      modelRequested: payload.model,
      wantsStream: payload.isStream,
      totalTimeoutMs: config.openaiTotalTimeoutMs,
      isBackground: payload.isBackground,
      drains: policies.clientGone === 'drain' ? drains : undefined,
      capture: content?.response,
      hidden: persona && new HiddenText(persona.hidden),
      onResponseId: (objectId) =>
        ownership.record({
          ...owner,
          objectId,
          kind: 'response',
          ...(persona && { persona: { id: persona.id, version: persona.version } }),
        }),
      refuse: call.refuse,
      tryAgain: attemptNumber < ATTEMPTS_MAX ? again(metered, attemptNumber + 1) : undefined,
      onClose: (wasSent) => {
        exchanges.delete(exchange)
        if (!content || !wasSent) return
        const { request, response } = content
        contents.keep({ organizationId, attemptId: attempt.id, days, request, response: response.take() })
      },
    })
    dispatch(exchange, metered, key, body)
  }

  /** Apart from the closures above, so that they do not keep the body alive for as long as its answer takes. */
  function again(metered: MeteredCall, attemptNumber: number): () => void {
    return () => relayMetered(metered, attemptNumber)
  }

  /** A call about an object of the caller's, which costs nothing: with the key that made it, and no other. */
  async function relayById(asked: AskedCall): Promise<void> {
    const { response, call, identity } = asked
    const { organizationId, userId } = identity
    const responseId = call.responseId ?? ''
    const object = await ownership.require(identity, 'response', responseId, 'response_id')
    const key = await keyRing.choose(organizationId, userId, identity.apiKeyId, object.apiKeyId)
    const { persona } = object
    const hidden = persona && new HiddenText([await personas.content(organizationId, persona.id, persona.version)])
    if (response.destroyed) return
    const exchange: Exchange = new Exchange({
      response,
      // Should this answer be the first to tell the end of a background response, it is asked for at once.
      attempt: { ...NO_ATTEMPT, settle: () => ledger.expectEnd(organizationId, responseId) },
      modelRequested: null,
      wantsStream: false,
      totalTimeoutMs: config.openaiTotalTimeoutMs,
      isBackground: false,
      drains: undefined,
      capture: undefined,
      hidden,
      onResponseId: () => {},
      refuse: call.refuse,
      tryAgain: undefined,
      onClose: () => exchanges.delete(exchange),
    })
    dispatch(exchange, asked, key, undefined)
  }

  function dispatch(exchange: Exchange, asked: AskedCall, key: UpstreamKey, body: Buffer | undefined): void {
    const { request, endpoint, call } = asked
    const headers = upstreamHeaders(request.rawHeaders, {
      upstreamKey: key.secret.reveal(),
      bodyBytes: body?.length,
      requestId: call.requestId,
    })
    const path = `${upstreamPath(endpoint, call.responseId)}${call.query}`
    exchanges.add(exchange)
    try {
      upstream.dispatch({ method: endpoint.method, path, headers, body }, key.baseUrl, exchange)
    } catch (error) {
      exchange.failToStart(error instanceof AppError ? error : upstreamFault(error as Error))
    }
  }

  /** Every id the body refers to must be the caller's own; the first tells which key its project belongs to. */
  async function resolveReferences(identity: Identity, payload: Payload): Promise<OwnedObject | undefined> {
    const found: OwnedObject[] = []
    if (payload.previousResponseId !== undefined) {
      found.push(await ownership.require(identity, 'response', payload.previousResponseId, 'previous_response_id'))
    }
    if (payload.conversationId !== undefined) {
      found.push(await ownership.require(identity, 'conversation', payload.conversationId, 'conversation'))
    }
    return found[0]
  }

  return {
    async handle(request, response, endpoint, call) {
      try {
        await handle(request, response, endpoint, call)
      } catch (error) {
        if (!(error instanceof AppError)) throw error
        call.refuse(error)
      }
    },
    get inFlightCount() {
      return exchanges.size
    },
    cutAll(error) {
      for (const exchange of exchanges) exchange.cut(error)
    },
  }
}

/** An organization that refuses what has no price does so before anything is spent. */
function refuseUnpriced(prices: PriceTable, model: string | null): void {
  if (model !== null && prices.ratesFor(model, new Date()) !== undefined) return
  throw new AppError(
    'model_unpriced',
    'Your organization only allows models that have a price here, and this one has none.',
    {
      param: 'model',
    },
  )
}

function overloaded(): AppError {
  return new AppError('overloaded', 'The proxy has as many requests under way as it takes; try again shortly.', {
    retryAfterSeconds: 1,
  })
}

/** What the headers already say is refused before the body is read. */
function refuseBodyByHeaders(request: IncomingMessage, bytesMax: number): void {
  const { 'content-type': contentType, 'content-encoding': encoding, 'content-length': length } = request.headers
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new AppError('unsupported_media_type', 'Compressed request bodies are not accepted: send it as it is.', {
      param: 'content-encoding',
    })
  }
  if (!/^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(contentType ?? '')) {
    throw new AppError('unsupported_media_type', 'The body must be JSON: send "Content-Type: application/json".', {
      param: 'content-type',
    })
  }
  if (Number(length) > bytesMax) throw bodyTooLarge(bytesMax)
}
