import type { IncomingMessage, ServerResponse } from 'node:http'
import type { KeyRing } from '../api-keys/key-ring.ts'
import type { Vault } from '../api-keys/vault.ts'
import type { Authenticator, Credential } from '../auth/authenticate.ts'
import { requireScope } from '../auth/caller.ts'
import type { Config } from '../config.ts'
import { Capture, captureBody } from '../content/capture.ts'
import { AppError } from '../errors.ts'
import type { IdentityHeaders } from '../http/identity-headers.ts'
import type { Logger } from '../http/log.ts'
import { readBody } from '../http/read-body.ts'
import { linger } from '../http/refuse.ts'
import type { RequestRecord } from '../http/request-record.ts'
import { newSessionId } from '../ids.ts'
import type { PriceTable } from '../ledger/pricing.ts'
import type { Policies, PolicyReader } from '../organizations/policies.ts'
import type { PersonaDirectory } from '../personas/directory.ts'
import type { RequestTrace } from '../telemetry/tracer.ts'
import { openAdmission } from './admission.ts'
import { checkBatchInput } from './batch-input.ts'
import { editBody } from './body-edits.ts'
import { refuseBodyByHeaders, refuseFormByHeaders } from './body-headers.ts'
import { openCallEdits } from './call-edits.ts'
import { type AdmittedCall, type AskedCall, type CallsDeps, type MeteredCall, openCalls } from './calls.ts'
import type { Capacity } from './capacity.ts'
import { listModels } from './catalogue.ts'
import type { Endpoint, PathId } from './endpoints.ts'
import { type Form, openForm } from './form.ts'
import { FormFields, isReadInForm } from './form-fields.ts'
import type { Outgoing } from './headers.ts'
import { askForUsage, hideUsage } from './hidden-usage.ts'
import { isIdentifier, openIdentifiers } from './identifiers.ts'
import { withoutStrangeLabels } from './item-labels.ts'
import { measured } from './measured.ts'
import { requireModels } from './models.ts'
import { boundaryOf } from './multipart.ts'
import { listOwn } from './own-list.ts'
import { type Payload, readPayload } from './payload.ts'
import type { UsedPersona } from './personas.ts'
import type { Reference } from './references.ts'
import { openSockets, type Upgrade } from './sockets.ts'
import { namedByTarget, readQuery } from './target.ts'

/** The data plane: requests to OpenAI's endpoints, on their way there and back. */
export interface Relay {
  handle(request: IncomingMessage, response: ServerResponse, endpoint: Endpoint, call: RelayCall): Promise<void>
  /** A request for a WebSocket. */
  upgrade(upgrade: Upgrade, endpoint: Endpoint, call: RelayCall): Promise<void>
  /** No more WebSockets; those that are open close when what is under way on them is over. */
  stopAccepting(): void
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
  record: RequestRecord
  /** When traces are made. */
  trace: RequestTrace | undefined
}

export interface RelayDeps extends CallsDeps {
  config: Config
  log: Logger
  capacity: Capacity
  authenticator: Authenticator
  keyRing: KeyRing
  vault: Pick<Vault, 'deriveKey'>
  prices: PriceTable
  policies: PolicyReader
  personas: PersonaDirectory
}

export function createRelay(deps: RelayDeps): Relay {
  const { config, capacity, authenticator, upstream, prices, personas, policies: readPolicies } = deps
  const identifiers = openIdentifiers(deps.vault.deriveKey('identifiers'))
  const calls = openCalls(deps, identifiers)
  const admission = openAdmission(deps)
  const batchLimits = { lineBytesMax: config.requestBodyBytesMax, timeoutMs: config.openaiTotalTimeoutMs }
  const editCall = openCallEdits({ personas, identifiers })
  const sockets = openSockets({ ...deps, admission, editCall })

  /** One request, as a story: admit, identify, read, check all that it names, call. The exchange does the rest. */
  async function handle(request: IncomingMessage, response: ServerResponse, endpoint: Endpoint, call: RelayCall) {
    const place = capacity.enter()
    response.once('close', () => place.leave())
    const { headers, ...target } = call
    const sessionId = headers.sessionId ?? newSessionId()
    response.setHeader('x-session-id', sessionId)
    const credential: Credential = await authenticator.authenticate(headers.authorization)
    call.record.organizationId = credential.organizationId
    requireScope(credential, 'inference')
    const policies = await readPolicies(credential.organizationId)
    place.joinOrganization(credential.organizationId, policies.maxConcurrentRequests ?? undefined)
    if (endpoint.isolation === 'here') {
      await readBody(request, config.requestBodyBytesMax)
      response.writeHead(204).end()
      return
    }
    const identity = await authenticator.identify(credential, headers.userId)
    const { organizationId, userId } = identity
    const owner = { organizationId, userId, sharing: policies.shareObjects }
    const asked: AskedCall = {
      ...target,
      personaHeader: headers.personaId,
      request,
      response,
      endpoint,
      sessionId,
      identity,
      owner,
      policies,
      place,
    }

    if (endpoint.lists) return answer(response, await listOwn(deps, { ...endpoint.lists, ...ownList(asked) }))
    if (endpoint.isolation === 'catalogue') return relayCatalogue(asked)
    const named = namedByTarget(asked.ids, readQuery(asked.query))
    if (endpoint.body === 'none') {
      const admitted = await admission.admit(asked, named)
      const persona = await personaOf(admitted)
      if (!response.destroyed) calls.makePlain({ ...admitted, persona })
      return
    }
    const boundary = boundaryOf(request.headers['content-type'])
    if (endpoint.body === 'form' || (endpoint.body === 'json or form' && boundary !== undefined)) {
      return relayForm(asked, named, boundary)
    }
    return relayJson(asked, named)
  }

  async function relayJson(asked: AskedCall, named: Reference[]): Promise<void> {
    const { request, response, endpoint, policies, place, record } = asked
    refuseBodyByHeaders(request, config.requestBodyBytesMax)
    const receivingAt = performance.now()
    const received = await readPayload(request, config.requestBodyBytesMax, (bytes) => place.holdBody(bytes))
    record.receiveMs = performance.now() - receivingAt
    const payload = await withoutStrangeLabels(deps.ownership, asked.owner, received)
    if (endpoint.name === 'realtime.client_secrets') requireClientSecrets(policies)
    const fineTuned = admission.requireUsable(endpoint, policies, payload)
    const admitted = await admission.admit(asked, [...named, ...payload.references, ...fineTuned])
    const { edits, persona } = await editCall(admitted, payload)
    const hidden = usageToHide(endpoint, payload)
    if (hidden !== undefined) edits.set('stream_options', hidden)
    const bytes = editBody(payload.bytes, payload.fields, edits)
    const body: Outgoing = { contentType: 'application/json', bytes: bytes.length, content: bytes }
    if (endpoint.name === 'batches.create') {
      await checkBatchInput({ upstream, admission }, admitted, payload.inputFileId, batchLimits)
    }
    if (endpoint.meter === 'none') {
      const madeWith = await personaOf(admitted)
      if (!response.destroyed) calls.makePlain({ ...admitted, body, persona: madeWith })
      return
    }
    if (response.destroyed) return
    const { model, isStream, isBackground, isStored } = payload
    calls.makeMetered({
      ...admitted,
      body,
      persona,
      asks: { model, isStream, isBackground: isBackground && endpoint.meter === 'responses', isStored },
      ...measured(endpoint, payload, bytes, prices),
      captured: capturing(policies, payload.bytes),
      filter: hidden === undefined ? undefined : hideUsage,
      isRepeatable: true,
    })
  }

  /** The persona that an object was made with: its text is not for whoever reads the object. */
  async function personaOf({ endpoint, identity, subject }: AdmittedCall): Promise<UsedPersona | undefined> {
    const persona = subject?.persona
    if (!persona) return undefined
    if (endpoint.name === 'chat.completions.messages') throw heldByPersona()
    const content = await personas.content(identity.organizationId, persona.id, persona.version)
    return { ...persona, hidden: [content] }
  }

  /** Passed on as it arrives: what its beginning names is checked before the call, what comes later before it is passed on. */
  async function relayForm(asked: AskedCall, named: Reference[], boundary: string | undefined): Promise<void> {
    const { request, response, policies, identity } = asked
    const isNamespaced = policies.identifiers !== 'as_sent'
    refuseFormByHeaders(request, boundary, config.uploadBytesMax)
    const form = await openForm(request, {
      boundary: boundary ?? '',
      bytesMax: config.uploadBytesMax,
      reads: isReadInForm,
      edit: ({ name, value }) =>
        isNamespaced && isIdentifier(name) ? identifiers.hash(identity, name, value) : undefined,
    })
    // OpenAI may answer before it has the whole of it.
    response.once('finish', () => {
      if (!request.complete) form.close().then(() => linger(request))
    })
    try {
      await relayOpenForm(asked, named, form)
    } catch (error) {
      await form.close()
      throw error
    }
  }

  async function relayOpenForm(asked: AskedCall, named: Reference[], form: Form): Promise<void> {
    const { response, endpoint, policies } = asked
    const isNamespaced = policies.identifiers !== 'as_sent'
    const fields = new FormFields()
    for (const field of form.fields) fields.add(field)
    // Most applications name the file first: then the model may still come.
    const isModelKnown = form.isWhole || fields.model !== null
    const fineTuned = isModelKnown ? admission.requireUsable(endpoint, policies, fields) : []
    const admitted = await admission.admit(asked, [...named, ...fields.references, ...fineTuned])
    const asks = { model: fields.model, isStream: fields.isStream, isBackground: false, isStored: false }
    const capture = policies.content === 'full' && endpoint.meter !== 'none' ? new Capture() : undefined
    const body = form.send({
      async onField(field) {
        if (isNamespaced && isIdentifier(field.name)) throw tooLate(field.name)
        const later = new FormFields()
        later.add(field)
        fields.add(field)
        asks.model = fields.model
        const more = later.model === null ? [] : admission.requireUsable(endpoint, policies, later)
        await admission.admitLater(admitted, [...later.references, ...more])
      },
      onEnd: () => admission.requireUsable(endpoint, policies, fields),
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
      usageByRequest: undefined,
      captured: () => capture?.take(),
      filter: undefined,
      isRepeatable: false,
    })
  }

  async function relayCatalogue(asked: AskedCall): Promise<void> {
    const { response, ids, query, policies, owner } = asked
    const id = ids[0]?.id
    const fineTuned = id === undefined ? [] : requireModels(policies, [id])
    const admitted = await admission.admit(asked, [...namedByTarget(ids, readQuery(query)), ...fineTuned])
    if (id === undefined) answer(response, await listModels(deps, { key: admitted.key, owner, policies }))
    else if (!response.destroyed) calls.makePlain(admitted)
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
    async upgrade(upgrade, endpoint, call) {
      try {
        await sockets.upgrade(upgrade, endpoint, call)
      } catch (error) {
        if (!(error instanceof AppError)) throw error
        call.refuse(error)
      }
    },
    stopAccepting: () => sockets.stopAccepting(),
    get inFlightCount() {
      return calls.inFlightCount + sockets.inFlightCount
    },
    cutAll(error) {
      calls.cutAll(error)
      sockets.cutAll(error)
    },
  }
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

/** A client secret lets an application talk to OpenAI without the proxy: nobody counts what it uses. */
function requireClientSecrets({ clientSecrets }: Policies): void {
  if (clientSecrets === 'allow') return
  throw new AppError(
    'forbidden',
    'Your organization does not allow client secrets: with one an application talks to OpenAI past this proxy, and unaccounted for.',
  )
}

/** The first message of a chat completion that was made with a persona is the persona's text. */
function heldByPersona(): AppError {
  return new AppError(
    'forbidden',
    "The messages of this chat completion begin with a persona's text, which is not shown: keep your own messages yourself.",
  )
}

function tooLate(field: string): AppError {
  return new AppError('invalid_request', `"${field}" must come before the files of the form.`, { param: field })
}
