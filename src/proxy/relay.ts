import type { IncomingMessage, ServerResponse } from 'node:http'
import type { KeyRing } from '../api-keys/key-ring.ts'
import type { Vault } from '../api-keys/vault.ts'
import type { Authenticator, Credential } from '../auth/authenticate.ts'
import { requireScope } from '../auth/caller.ts'
import type { Config } from '../config.ts'
import { Capture, captureBody } from '../content/capture.ts'
import { AppError } from '../errors.ts'
import type { IdentityHeaders } from '../http/identity-headers.ts'
import { readBody } from '../http/read-body.ts'
import { newSessionId } from '../ids.ts'
import { measureInput } from '../ledger/estimate.ts'
import type { PriceTable } from '../ledger/pricing.ts'
import type { Policies, PolicyReader } from '../organizations/policies.ts'
import type { OwnedObject } from '../ownership/service.ts'
import { readBatchLines } from './batch-lines.ts'
import { editBody } from './body-edits.ts'
import { type AdmittedCall, type AskedCall, type CallsDeps, type MeteredCall, openCalls } from './calls.ts'
import { listModels } from './catalogue.ts'
import { BATCHED, type Endpoint, type PathId } from './endpoints.ts'
import { openForm } from './form.ts'
import { FormFields, isReadInForm } from './form-fields.ts'
import type { Outgoing } from './headers.ts'
import { askForUsage, hideUsage } from './hidden-usage.ts'
import { isIdentifier, openIdentifiers } from './identifiers.ts'
import { requireModels } from './models.ts'
import { boundaryOf } from './multipart.ts'
import { listOwn } from './own-list.ts'
import { bodyTooLarge, type Payload, readPayload } from './payload.ts'
import type { Reference } from './references.ts'
import { namedByTarget, readQuery } from './target.ts'

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
  /** The ids in the path. */
  ids: readonly PathId[]
  /** With its question mark, byte for byte; empty when there is none. */
  query: string
  /** Answers with an error of the proxy's own. */
  refuse(error: AppError): void
}

export interface RelayDeps extends CallsDeps {
  config: Pick<Config, 'requestBodyBytesMax' | 'uploadBytesMax' | 'concurrentRequestsMax' | 'openaiTotalTimeoutMs'>
  authenticator: Authenticator
  keyRing: KeyRing
  vault: Pick<Vault, 'deriveKey'>
  prices: PriceTable
  policies: PolicyReader
}

export function createRelay(deps: RelayDeps): Relay {
  const { config, authenticator, keyRing, ownership, upstream, prices, policies: readPolicies } = deps
  const calls = openCalls(deps)
  const identifiers = openIdentifiers(deps.vault.deriveKey('identifiers'))
  let admittedCount = 0

  /** One request, as a story: admit, identify, read, check all that it names, call. The exchange does the rest. */
  async function handle(request: IncomingMessage, response: ServerResponse, endpoint: Endpoint, call: RelayCall) {
    if (admittedCount >= config.concurrentRequestsMax) throw overloaded()
    admittedCount += 1
    response.once('close', () => {
      admittedCount -= 1
    })
    const { headers, ...target } = call
    const sessionId = headers.sessionId ?? newSessionId()
    response.setHeader('x-session-id', sessionId)
    const credential: Credential = await authenticator.authenticate(headers.authorization)
    requireScope(credential, 'inference')
    if (endpoint.isolation === 'here') {
      await readBody(request, config.requestBodyBytesMax)
      response.writeHead(204).end()
      return
    }
    const identity = await authenticator.identify(credential, headers.userId)
    const policies = await readPolicies(identity.organizationId)
    const { organizationId, userId } = identity
    const owner = { organizationId, userId, sharing: policies.shareObjects }
    const asked: AskedCall = { ...target, request, response, endpoint, sessionId, identity, owner, policies }

    if (endpoint.lists) return answer(response, await listOwn(deps, { ...endpoint.lists, ...ownList(asked) }))
    if (endpoint.isolation === 'catalogue') return relayCatalogue(asked)
    const named = namedByTarget(asked.ids, readQuery(asked.query))
    if (endpoint.body === 'none') {
      const admitted = await admit(asked, named)
      if (!response.destroyed) calls.makePlain(admitted)
      return
    }
    const boundary = boundaryOf(request.headers['content-type'])
    if (endpoint.body === 'form' || (endpoint.body === 'json or form' && boundary !== undefined)) {
      return relayForm(asked, named, boundary)
    }
    return relayJson(asked, named)
  }

  async function relayJson(asked: AskedCall, named: Reference[]): Promise<void> {
    const { request, response, endpoint, policies, identity } = asked
    refuseBodyByHeaders(request, config.requestBodyBytesMax)
    const payload = await readPayload(request, config.requestBodyBytesMax)
    if (endpoint.name === 'realtime.client_secrets') requireClientSecrets(policies)
    const fineTuned = requireUsable(endpoint, policies, payload)
    const edits = identifiers.edits(identity, policies, payload.identifiers, TAKES_SAFETY_IDENTIFIER.has(endpoint.name))
    const hidden = usageToHide(endpoint, payload)
    if (hidden !== undefined) edits.set('stream_options', hidden)
    const bytes = editBody(payload.bytes, payload.fields, edits)
    const body: Outgoing = { contentType: 'application/json', bytes: bytes.length, content: bytes }
    const admitted = { ...(await admit(asked, [...named, ...payload.references, ...fineTuned])), body }
    if (endpoint.name === 'batches.create') await checkBatch(admitted, payload)
    if (response.destroyed) return
    if (endpoint.meter === 'none') {
      calls.makePlain(admitted)
      return
    }
    const { model, isStream, isBackground, isStored } = payload
    calls.makeMetered({
      ...admitted,
      asks: { model, isStream, isBackground: isBackground && endpoint.meter === 'responses', isStored },
      input: measureInput(payload.bytes),
      captured: capturing(policies, payload.bytes),
      filter: hidden === undefined ? undefined : hideUsage,
      isRepeatable: true,
    })
  }

  /** Passed on as it arrives: what its beginning names is checked before the call, what comes later before it is passed on. */
  async function relayForm(asked: AskedCall, named: Reference[], boundary: string | undefined): Promise<void> {
    const { request, response, endpoint, policies, identity } = asked
    const isNamespaced = policies.identifiers !== 'as_sent'
    refuseFormByHeaders(request, boundary, config.uploadBytesMax)
    const form = await openForm(request, {
      boundary: boundary ?? '',
      bytesMax: config.uploadBytesMax,
      reads: isReadInForm,
      edit: ({ name, value }) =>
        isNamespaced && isIdentifier(name) ? identifiers.hash(identity, name, value) : undefined,
    })
    const fields = new FormFields()
    for (const field of form.fields) fields.add(field)
    // Most applications name the file first: then the model may still come.
    const isModelKnown = form.isWhole || fields.model !== null
    const fineTuned = isModelKnown ? requireUsable(endpoint, policies, fields) : []
    const admitted = await admit(asked, [...named, ...fields.references, ...fineTuned])
    const asks = { model: fields.model, isStream: fields.isStream, isBackground: false, isStored: false }
    const capture = policies.content === 'full' && endpoint.meter !== 'none' ? new Capture() : undefined
    const body = form.send({
      async onField(field) {
        if (isNamespaced && isIdentifier(field.name)) throw tooLate(field.name)
        const later = new FormFields()
        later.add(field)
        fields.add(field)
        asks.model = fields.model
        const more = later.model === null ? [] : requireUsable(endpoint, policies, later)
        await admitLater(admitted, [...later.references, ...more])
      },
      onEnd: () => requireUsable(endpoint, policies, fields),
      onBytes: (bytes) => capture?.push(bytes),
    })
    if (response.destroyed) return
    if (endpoint.meter === 'none') {
      calls.makePlain({ ...admitted, body })
      return
    }
    calls.makeMetered({
      ...admitted,
      body,
      asks,
      input: undefined,
      captured: () => capture?.take(),
      filter: undefined,
      isRepeatable: false,
    })
  }

  async function relayCatalogue(asked: AskedCall): Promise<void> {
    const { response, ids, policies, owner } = asked
    const id = ids[0]?.id
    const fineTuned = id === undefined ? [] : requireModels(policies, [id])
    const admitted = await admit(asked, fineTuned)
    if (id === undefined) answer(response, await listModels(deps, { key: admitted.key, owner, policies }))
    else if (!response.destroyed) calls.makePlain(admitted)
  }

  /** Everything a request names must be the caller's own, and made with one key: its project alone knows it. */
  async function admit(asked: AskedCall, named: readonly Reference[]): Promise<AdmittedCall> {
    const { identity, owner, ids } = asked
    const objects = await ownership.require(owner, named)
    const pinnedKeyId = onlyKeyOf(objects.filter((_, at) => named[at]?.isLookedUp))
    const key = await keyRing.choose(identity.organizationId, identity.userId, identity.apiKeyId, pinnedKeyId)
    // What comes out of an object is its maker's, whoever in the organization asked for it.
    const parent = ids.length > 0 ? objects[0] : undefined
    return { ...asked, key, makerId: parent ? parent.userId : identity.userId, body: undefined }
  }

  /** What a form names when its call is already under way. */
  async function admitLater({ owner, key }: AdmittedCall, named: readonly Reference[]): Promise<void> {
    const objects = await ownership.require(owner, named)
    const keyId = onlyKeyOf(objects.filter((_, at) => named[at]?.isLookedUp))
    if (keyId !== undefined && keyId !== key.apiKeyId) throw severalKeys()
  }

  /** Whether the models may be used, by the policies of the organization. @returns those that must be its own. */
  function requireUsable(endpoint: Endpoint, policies: Policies, { model, toolModels }: ModelsAsked): Reference[] {
    if (isPriced(endpoint) && policies.unpricedModels === 'refuse') refuseUnpriced(prices, model)
    return requireModels(policies, model === null && !endpoint.needsModel ? toolModels : [model, ...toolModels])
  }

  /**
   * Reads the whole input file of a batch that is about to be made: whatever way the file came to OpenAI, each of its lines must be a call
   * that could be made here on its own. Files never change once they are there.
   */
  async function checkBatch(call: AdmittedCall, payload: Payload): Promise<void> {
    const fileId = payload.inputFileId
    if (fileId === undefined)
      throw new AppError('invalid_request', '"input_file_id" is missing.', { param: 'input_file_id' })
    const { policies, key } = call
    const signal = AbortSignal.timeout(config.openaiTotalTimeoutMs)
    const { status, body } = await upstream.ask(key, `/files/${fileId}/content`, signal)
    if (status !== 200) {
      await body.dump()
      throw new AppError(
        'upstream_unreachable',
        `OpenAI answered ${status} when it was asked for the batch's input file.`,
      )
    }
    const isBatched = ({ name }: Endpoint) => BATCHED.has(name)
    for await (const line of readBatchLines(body, { isBatched, lineBytesMax: config.requestBodyBytesMax })) {
      try {
        await checkLine(line.endpoint, line.payload)
      } catch (error) {
        throw error instanceof AppError ? inLine(line.number, error) : error
      }
    }

    async function checkLine(endpoint: Endpoint, line: Payload): Promise<void> {
      const fineTuned = requireUsable(endpoint, policies, line)
      const [identifier] = policies.identifiers === 'as_sent' ? [] : line.identifiers.keys()
      if (identifier) {
        throw new AppError(
          'invalid_request',
          `"${identifier}" cannot be kept apart from other tenants' there: leave it out.`,
        )
      }
      await admitLater(call, [...line.references, ...fineTuned])
    }
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
      return calls.inFlightCount
    },
    cutAll: (error) => calls.cutAll(error),
  }
}

/** The models that a request asks for. */
interface ModelsAsked {
  model: string | null
  toolModels: readonly string[]
}

const TAKES_SAFETY_IDENTIFIER: ReadonlySet<string> = new Set(['responses.create', 'chat.completions.create'])

/** Whether its calls cost what their model costs. */
function isPriced({ meter }: Endpoint): boolean {
  return meter !== 'none' && meter !== 'batch' && meter !== 'moderations' && meter !== 'input_tokens'
}

/** The one key that made what is looked up; undefined when nothing is. */
function onlyKeyOf(objects: readonly OwnedObject[]): string | undefined {
  const keyIds = new Set(objects.map(({ apiKeyId }) => apiKeyId))
  if (keyIds.size > 1) throw severalKeys()
  return objects[0]?.apiKeyId
}

function severalKeys(): AppError {
  return new AppError(
    'conflict',
    'The objects this request refers to were made with different API keys, and the OpenAI project of one knows nothing of the others. ' +
      'Make them again with one key.',
  )
}

function answer(response: ServerResponse, json: Buffer): void {
  if (response.destroyed) return
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': json.length })
  response.end(json)
}

function ownList({ endpoint, owner, query }: AskedCall) {
  return { objectPath: `${endpoint.path}/`, owner, query: readQuery(query) }
}

/** What a chat stream is asked with so that it says what it used; undefined where the client asks for that itself. */
function usageToHide({ meter }: Endpoint, { isStream, fields }: Payload): string | undefined {
  if (!isStream || (meter !== 'chat' && meter !== 'completions')) return undefined
  return askForUsage(fields.get('stream_options')?.raw)
}

function capturing({ content }: Policies, bytes: Buffer): MeteredCall['captured'] {
  const captured = content === 'full' ? captureBody(bytes) : undefined
  return () => captured
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

/** A client secret lets an application talk to OpenAI without the proxy: nobody counts what it uses. */
function requireClientSecrets({ clientSecrets }: Policies): void {
  if (clientSecrets === 'allow') return
  throw new AppError(
    'forbidden',
    'Your organization does not allow client secrets: with one an application talks to OpenAI past this proxy, and unaccounted for.',
  )
}

function tooLate(field: string): AppError {
  return new AppError('invalid_request', `"${field}" must come before the files of the form.`, { param: field })
}

function inLine(number: number, { code, message }: AppError): AppError {
  return new AppError(code, `Line ${number} of the batch's input file cannot be sent. ${message}`, {
    param: 'input_file_id',
  })
}

function overloaded(): AppError {
  return new AppError('overloaded', 'The proxy has as many requests under way as it takes; try again shortly.', {
    retryAfterSeconds: 1,
  })
}

/** What the headers already say is refused before the body is read. */
function refuseBodyByHeaders(request: IncomingMessage, bytesMax: number): void {
  refuseCompressed(request)
  if (!/^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw new AppError('unsupported_media_type', 'The body must be JSON: send "Content-Type: application/json".', {
      param: 'content-type',
    })
  }
  if (Number(request.headers['content-length']) > bytesMax) throw bodyTooLarge(bytesMax)
}

function refuseFormByHeaders(request: IncomingMessage, boundary: string | undefined, bytesMax: number): void {
  refuseCompressed(request)
  if (boundary === undefined) {
    throw new AppError(
      'unsupported_media_type',
      'The body must be a form: send "Content-Type: multipart/form-data" with its boundary and nothing else.',
      { param: 'content-type' },
    )
  }
  if (Number(request.headers['content-length']) > bytesMax) throw bodyTooLarge(bytesMax)
}

function refuseCompressed({ headers }: IncomingMessage): void {
  const encoding = headers['content-encoding']
  if (encoding === undefined || encoding.toLowerCase() === 'identity') return
  throw new AppError('unsupported_media_type', 'Compressed request bodies are not accepted: send it as it is.', {
    param: 'content-encoding',
  })
}
