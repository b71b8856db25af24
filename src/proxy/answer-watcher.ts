import { estimateTokens } from '../ledger/estimate.ts'
import type { Ending, SettledUsage } from '../ledger/ledger.ts'
import type { ToolCalls } from '../ledger/pricing.ts'
import { JsonFields } from './json-fields.ts'
import { Occurrences } from './occurrences.ts'
import { type SseEvent, SseWatcher } from './sse.ts'

/** How an answer of the Responses API ended, read in passing. */
export interface AnswerEnd {
  /** `pending`: the answer goes on in the background. */
  ending: Ending | 'pending'
  errorCode: string | null
  modelUsed: string | null
  serviceTier: string | null
  usage: SettledUsage
}

/** Reads what accounting needs out of an answer's bytes as they go by. */
export interface AnswerWatcher {
  push(chunk: Buffer): void
  /** The answer's bytes are over. */
  finish(): void
  readonly responseId: string | null
  /** Set as soon as the end of the answer has been seen, which can be before the end of its bytes. */
  readonly end: AnswerEnd | undefined
  /** The model and tier seen so far, for an answer that is cut. */
  readonly modelUsed: string | null
  readonly serviceTier: string | null
  /** Tokens that OpenAI has produced so far, as far as can be seen. */
  readonly outputTokensEstimate: number
  /** Whether an event of our own can be put in here; its number would be `eventCount`. */
  readonly isBetweenEvents: boolean
  readonly eventCount: number
}

/** How an answer is metered: by what its endpoint answers with. */
export type Meter =
  | 'responses'
  | 'compact'
  | 'input_tokens'
  | 'chat'
  | 'completions'
  | 'embeddings'
  | 'moderations'
  | 'images'
  | 'audio'
  | 'batch'
  | 'none'

export type AnswerForm = 'stream' | 'json'

export function watchAnswer(_meter: Meter, form: AnswerForm): AnswerWatcher {
  return form === 'stream' ? new StreamWatcher() : new JsonWatcher()
}

const RESPONSE_FIELDS = [
  'id',
  'status',
  'model',
  'service_tier',
  'usage',
  'tool_usage',
  'error',
  'incomplete_details',
] as const

const LIFECYCLE = new Set([
  'response.created',
  'response.queued',
  'response.in_progress',
  'response.completed',
  'response.incomplete',
  'response.failed',
])
const TERMINAL = new Set(['response.completed', 'response.incomplete', 'response.failed'])

class StreamWatcher implements AnswerWatcher {
  responseId: string | null = null
  end: AnswerEnd | undefined
  modelUsed: string | null = null
  serviceTier: string | null = null
  readonly #toolCalls: ToolCalls = { webSearchCalls: 0, fileSearchCalls: 0 }
  readonly #sse = new SseWatcher(
    { fields: ['type', 'code', ...RESPONSE_FIELDS.map((field) => `response.${field}`)], descend: ['response'] },
    (event) => this.#onEvent(event),
  )

  push(chunk: Buffer): void {
    this.#sse.push(chunk)
  }

  finish(): void {
    this.#sse.finish()
  }

  /** OpenAI sends a delta for each token, or for a few. */
  get outputTokensEstimate(): number {
    return this.#sse.deltaCount
  }

  get isBetweenEvents(): boolean {
    return this.#sse.isBetweenEvents
  }

  get eventCount(): number {
    return this.#sse.eventCount
  }

  #onEvent({ type, json }: SseEvent): void {
    if (this.end) return
    if (type === 'error') {
      this.end = {
        ending: 'failed',
        errorCode: textOf(json.value('code')) ?? 'stream_error',
        modelUsed: this.modelUsed,
        serviceTier: this.serviceTier,
        // It had begun to work; what it charges for that is nowhere said.
        usage: { source: 'estimated', outputTokens: this.outputTokensEstimate },
      }
      return
    }
    if (type === 'response.web_search_call.completed') this.#toolCalls.webSearchCalls += 1
    if (type === 'response.file_search_call.completed') this.#toolCalls.fileSearchCalls += 1
    if (!LIFECYCLE.has(type)) return
    this.responseId ??= textOf(json.value('response.id'))
    this.modelUsed = textOf(json.value('response.model')) ?? this.modelUsed
    this.serviceTier = textOf(json.value('response.service_tier')) ?? this.serviceTier
    if (TERMINAL.has(type)) this.end = readEnd(json, 'response.', this.#toolCalls)
  }
}

class JsonWatcher implements AnswerWatcher {
  readonly isBetweenEvents = false
  readonly eventCount = 0
  readonly #json = new JsonFields({ wanted: RESPONSE_FIELDS })
  // An item's type stands in quotes; the same words within an answer's text have their quotes escaped.
  readonly #webSearches = new Occurrences('"web_search_call"')
  readonly #fileSearches = new Occurrences('"file_search_call"')
  #bytes = 0
  #end: AnswerEnd | undefined

  push(chunk: Buffer): void {
    this.#bytes += chunk.length
    this.#json.push(chunk)
    this.#webSearches.push(chunk)
    this.#fileSearches.push(chunk)
    if (!this.#json.isComplete) return
    const toolCalls = { webSearchCalls: this.#webSearches.count, fileSearchCalls: this.#fileSearches.count }
    this.#end ??= readEnd(this.#json, '', toolCalls)
  }

  finish(): void {}

  get end(): AnswerEnd | undefined {
    return this.#end
  }

  get responseId(): string | null {
    return textOf(this.#json.value('id'))
  }

  get modelUsed(): string | null {
    return textOf(this.#json.value('model'))
  }

  get serviceTier(): string | null {
    return textOf(this.#json.value('service_tier'))
  }

  get outputTokensEstimate(): number {
    return estimateTokens(this.#bytes)
  }
}

function readEnd(json: JsonFields, prefix: '' | 'response.', seen: ToolCalls): AnswerEnd {
  const error = json.value(`${prefix}error`)
  const usage = json.value(`${prefix}usage`)
  return {
    ending: endingOf(textOf(json.value(`${prefix}status`)), isRecord(error)),
    errorCode: errorCodeOf(error, json.value(`${prefix}incomplete_details`)),
    modelUsed: textOf(json.value(`${prefix}model`)),
    serviceTier: textOf(json.value(`${prefix}service_tier`)),
    usage: isRecord(usage)
      ? { source: 'reported', raw: usage, toolCalls: billedCalls(json.value(`${prefix}tool_usage`), seen) }
      : { source: 'unknown' },
  }
}

function endingOf(status: string | null, hasError: boolean): Ending | 'pending' {
  if (status === 'queued' || status === 'in_progress') return 'pending'
  if (status === 'incomplete' || status === 'failed' || status === 'cancelled') return status
  return hasError ? 'failed' : 'completed'
}

function errorCodeOf(error: unknown, incompleteDetails: unknown): string | null {
  if (isRecord(error)) return textOf(error.code) ?? textOf(error.type) ?? 'failed'
  return isRecord(incompleteDetails) ? textOf(incompleteDetails.reason) : null
}

/** `tool_usage.web_search.num_requests` are the searches that are billed; without it, and for file searches, the calls seen. */
function billedCalls(toolUsage: unknown, seen: ToolCalls): ToolCalls {
  const webSearch = isRecord(toolUsage) ? toolUsage.web_search : undefined
  const calls = isRecord(webSearch) ? webSearch.num_requests : undefined
  const isCount = Number.isSafeInteger(calls) && (calls as number) >= 0 && (calls as number) <= TOOL_CALLS_MAX
  return {
    webSearchCalls: isCount ? (calls as number) : Math.min(seen.webSearchCalls, TOOL_CALLS_MAX),
    fileSearchCalls: Math.min(seen.fileSearchCalls, TOOL_CALLS_MAX),
  }
}

/** More than any response makes: beyond it a count is a fault. */
const TOOL_CALLS_MAX = 10_000

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
