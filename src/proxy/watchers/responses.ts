import type { SettledUsage } from '../../ledger/ledger.ts'
import type { ToolCalls } from '../../ledger/pricing.ts'
import type { UsagePart } from '../../ledger/usage-parts.ts'
import type { AnswerEnd, AnswerForm, AnswerWatcher } from '../answer-watcher.ts'
import { Occurrences } from '../occurrences.ts'
import { type EventJson, type SseEvent, SseWatcher } from '../sse.ts'
import { errorCodeOf, isRecord, textOf } from './answer-fields.ts'
import { JsonWatcher } from './json-watcher.ts'

/** Answers of the Responses API. */
export function watchResponses(form: AnswerForm): AnswerWatcher {
  return form === 'stream' ? new ResponseStreamWatcher() : watchResponse()
}

const RESPONSE_FIELDS = [
  'id',
  'status',
  'model',
  'service_tier',
  'usage',
  'tool_usage',
  'tools',
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

/** The fields of an event that `ResponseEvents` reads. */
export const RESPONSE_EVENT_FIELDS: readonly string[] = [
  'type',
  'code',
  ...RESPONSE_FIELDS.map((field) => `response.${field}`),
]

/** What the events of one response tell, whatever they come over. */
export class ResponseEvents {
  responseId: string | null = null
  end: AnswerEnd | undefined
  modelUsed: string | null = null
  serviceTier: string | null = null
  readonly #toolCalls: ToolCalls = { webSearchCalls: 0, fileSearchCalls: 0 }

  /** @param deltaCount how many deltas came before. */
  onEvent({ type, json }: Pick<SseEvent, 'type' | 'json'>, deltaCount: number): void {
    if (this.end) return
    if (type === 'error') {
      this.end = {
        ending: 'failed',
        errorCode: textOf(json.value('code')) ?? 'stream_error',
        modelUsed: this.modelUsed,
        serviceTier: this.serviceTier,
        // It had begun to work; what it charges for that is nowhere said.
        usage: { source: 'estimated', outputTokens: deltaCount },
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

/** Whether an event carries the whole response, its id included. */
export function isLifecycle(type: string): boolean {
  return LIFECYCLE.has(type)
}

class ResponseStreamWatcher implements AnswerWatcher {
  readonly #events = new ResponseEvents()
  readonly #sse = new SseWatcher({ fields: RESPONSE_EVENT_FIELDS, descend: ['response'] }, (event) =>
    this.#events.onEvent(event, this.outputTokensEstimate),
  )

  get responseId(): string | null {
    return this.#events.responseId
  }

  get end(): AnswerEnd | undefined {
    return this.#events.end
  }

  get modelUsed(): string | null {
    return this.#events.modelUsed
  }

  get serviceTier(): string | null {
    return this.#events.serviceTier
  }

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

  get usageIfCut(): SettledUsage {
    return this.end?.usage ?? { source: 'estimated', outputTokens: this.outputTokensEstimate }
  }

  get isBetweenEvents(): boolean {
    return this.#sse.isBetweenEvents
  }

  get eventCount(): number {
    return this.#sse.eventCount
  }
}

function watchResponse(): AnswerWatcher {
  // An item's type stands in quotes; the same words within an answer's text have their quotes escaped.
  const webSearches = new Occurrences('"web_search_call"')
  const fileSearches = new Occurrences('"file_search_call"')
  return new JsonWatcher({
    fields: RESPONSE_FIELDS,
    listeners: [webSearches, fileSearches],
    readEnd: (json) => readEnd(json, '', { webSearchCalls: webSearches.count, fileSearchCalls: fileSearches.count }),
  })
}

function readEnd(json: EventJson, prefix: '' | 'response.', seen: ToolCalls): AnswerEnd {
  const error = json.value(`${prefix}error`)
  return {
    ending: endingOf(textOf(json.value(`${prefix}status`)), isRecord(error)),
    errorCode: errorCodeOf(error) ?? reasonOf(json.value(`${prefix}incomplete_details`)),
    modelUsed: textOf(json.value(`${prefix}model`)),
    serviceTier: textOf(json.value(`${prefix}service_tier`)),
    usage: usageOf(json, prefix, seen),
  }
}

function usageOf(json: EventJson, prefix: '' | 'response.', seen: ToolCalls): SettledUsage {
  const raw = json.value(`${prefix}usage`)
  if (!isRecord(raw)) return { source: 'unknown' }
  const toolUsage = json.value(`${prefix}tool_usage`)
  const images = imagesMade(toolUsage, json.value(`${prefix}tools`))
  return {
    source: 'reported',
    raw,
    toolCalls: billedCalls(toolUsage, seen),
    ...(images ? { parts: [{ usage: raw }, images] } : {}),
  }
}

function endingOf(status: string | null, hasError: boolean): AnswerEnd['ending'] {
  if (status === 'queued' || status === 'in_progress') return 'pending'
  if (status === 'incomplete' || status === 'failed' || status === 'cancelled') return status
  return hasError ? 'failed' : 'completed'
}

function reasonOf(incompleteDetails: unknown): string | null {
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

/** Images that the image tool made are billed beside the response, at the price of the tool's own model. */
function imagesMade(toolUsage: unknown, tools: unknown): UsagePart | undefined {
  const usage = isRecord(toolUsage) ? toolUsage.image_gen : undefined
  if (!isRecord(usage) || (usage.input_tokens === 0 && usage.output_tokens === 0)) return undefined
  const models = (Array.isArray(tools) ? tools : [])
    .filter((tool) => isRecord(tool) && tool.type === 'image_generation')
    .map((tool: Record<string, unknown>) => textOf(tool.model))
  // Without one model that all of it is from, nobody knows the price.
  return { model: new Set(models).size === 1 ? (models[0] ?? null) : null, serviceTier: null, usage }
}

/** More than any response makes: beyond it a count is a fault. */
const TOOL_CALLS_MAX = 10_000
