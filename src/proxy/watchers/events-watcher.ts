import type { SettledUsage } from '../../ledger/ledger.ts'
import type { AnswerEnd, AnswerWatcher } from '../answer-watcher.ts'
import { type EventJson, type SseEvent, SseWatcher } from '../sse.ts'
import { errorCodeOf, isRecord, textOf } from './answer-fields.ts'

/** Watches a stream whose last event carries the usage: images and sound. */
export class EventsWatcher implements AnswerWatcher {
  readonly responseId = null
  readonly serviceTier = null
  /** Pieces of images and of sound are no tokens. */
  readonly outputTokensEstimate = 0
  end: AnswerEnd | undefined
  readonly #terminal: ReadonlySet<string>
  readonly #readUsage: (json: EventJson) => SettledUsage
  readonly #sse: SseWatcher

  constructor(answer: {
    terminal: Iterable<string>
    fields: Iterable<string>
    readUsage(json: EventJson): SettledUsage
  }) {
    this.#terminal = new Set(answer.terminal)
    this.#readUsage = answer.readUsage
    const fields = ['type', 'model', 'code', 'error', ...answer.fields]
    this.#sse = new SseWatcher({ fields, descend: [] }, (event) => this.#onEvent(event))
  }

  push(chunk: Buffer): void {
    this.#sse.push(chunk)
  }

  finish(): void {
    this.#sse.finish()
  }

  get modelUsed(): string | null {
    return this.end?.modelUsed ?? null
  }

  get usageIfCut(): SettledUsage {
    return this.end?.usage ?? { source: 'unknown' }
  }

  get isBetweenEvents(): boolean {
    return this.#sse.isBetweenEvents
  }

  get eventCount(): number {
    return this.#sse.eventCount
  }

  #onEvent({ type, json }: SseEvent): void {
    if (this.end) return
    const error = json.value('error')
    if (type === 'error' || isRecord(error)) {
      const errorCode = errorCodeOf(error) ?? textOf(json.value('code')) ?? 'stream_error'
      this.end = { ending: 'failed', errorCode, modelUsed: null, serviceTier: null, usage: { source: 'unknown' } }
    } else if (this.#terminal.has(type)) {
      const modelUsed = textOf(json.value('model'))
      this.end = { ending: 'completed', errorCode: null, modelUsed, serviceTier: null, usage: this.#readUsage(json) }
    }
  }
}
