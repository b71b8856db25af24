import type { SettledUsage } from '../../ledger/ledger.ts'
import type { AnswerEnd, AnswerForm, AnswerWatcher } from '../answer-watcher.ts'
import { type EventJson, type SseEvent, SseWatcher } from '../sse.ts'
import { endingByError, errorCodeOf, isRecord, textOf } from './answer-fields.ts'
import { FinishReasons } from './finish-reasons.ts'
import { JsonWatcher } from './json-watcher.ts'

/** Chat completions, and the older completions. */
export function watchChat(form: AnswerForm): AnswerWatcher {
  return form === 'stream' ? new ChatStreamWatcher() : watchChatCompletion()
}

const FIELDS = ['id', 'model', 'service_tier', 'usage', 'error']

function watchChatCompletion(): AnswerWatcher {
  const reasons = new FinishReasons()
  return new JsonWatcher({
    fields: FIELDS,
    listeners: [reasons],
    readEnd: (json) => {
      const error = json.value('error')
      return {
        ...(isRecord(error) ? endingByError(error) : endingByReasons(reasons.found)),
        modelUsed: textOf(json.value('model')),
        serviceTier: textOf(json.value('service_tier')),
        usage: reportedUsage(json) ?? { source: 'unknown' },
      }
    },
  })
}

/** A stream of chunks that all look the same from outside: each is read. It ends with `[DONE]`, and with nothing else. */
class ChatStreamWatcher implements AnswerWatcher {
  responseId: string | null = null
  end: AnswerEnd | undefined
  modelUsed: string | null = null
  serviceTier: string | null = null
  outputTokensEstimate = 0
  #usage: SettledUsage | undefined
  readonly #reasons = new Set<string>()
  readonly #sse = new SseWatcher({ fields: [], descend: [], wholeBytesMax: CHUNK_BYTES_MAX }, (event) =>
    this.#onEvent(event),
  )

  push(chunk: Buffer): void {
    this.#sse.push(chunk)
  }

  finish(): void {
    this.#sse.finish()
  }

  get usageIfCut(): SettledUsage {
    return this.#usage ?? { source: 'estimated', outputTokens: this.outputTokensEstimate }
  }

  get isBetweenEvents(): boolean {
    return this.#sse.isBetweenEvents
  }

  get eventCount(): number {
    return this.#sse.eventCount
  }

  #onEvent({ json, isDone }: SseEvent): void {
    if (this.end) return
    if (isDone) {
      this.#end(endingByReasons(this.#reasons), this.#usage ?? { source: 'unknown' })
      return
    }
    const error = json.value('error')
    if (isRecord(error)) {
      this.#end({ ending: 'failed', errorCode: errorCodeOf(error) }, this.usageIfCut)
      return
    }
    this.responseId ??= textOf(json.value('id'))
    this.modelUsed = textOf(json.value('model')) ?? this.modelUsed
    this.serviceTier = textOf(json.value('service_tier')) ?? this.serviceTier
    this.#usage = reportedUsage(json) ?? this.#usage
    this.#readChoices(json)
  }

  /** OpenAI sends a chunk for each token of a choice, or for a few. */
  #readChoices(json: EventJson): void {
    // A large chunk is a piece of sound.
    if (json.isTooLarge) this.outputTokensEstimate += 1
    const choices = json.value('choices')
    if (!Array.isArray(choices)) return
    for (const choice of choices) {
      if (!isRecord(choice)) continue
      if (textOf(choice.text) !== null || saysSomething(choice.delta)) this.outputTokensEstimate += 1
      const reason = textOf(choice.finish_reason)
      if (reason !== null) this.#reasons.add(reason)
    }
  }

  #end(how: Pick<AnswerEnd, 'ending' | 'errorCode'>, usage: SettledUsage): void {
    this.end = { ...how, modelUsed: this.modelUsed, serviceTier: this.serviceTier, usage }
  }
}

const CHUNK_BYTES_MAX = 64 * 1024

/** The first chunk names the role, and has nothing to say yet. */
function saysSomething(delta: unknown): boolean {
  return (
    isRecord(delta) && Object.entries(delta).some(([name, value]) => name !== 'role' && value !== null && value !== '')
  )
}

function reportedUsage(json: EventJson): SettledUsage | undefined {
  const raw = json.value('usage')
  return isRecord(raw) ? { source: 'reported', raw } : undefined
}

/** Cut short by a limit or a filter is `incomplete`; of several choices the first such reason that is found counts. */
function endingByReasons(reasons: ReadonlySet<string>): Pick<AnswerEnd, 'ending' | 'errorCode'> {
  const cutShort = ['length', 'content_filter'].find((reason) => reasons.has(reason))
  return { ending: cutShort ? 'incomplete' : 'completed', errorCode: cutShort ?? null }
}
