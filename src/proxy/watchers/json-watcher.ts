import { estimateTokens } from '../../ledger/estimate.ts'
import type { SettledUsage } from '../../ledger/ledger.ts'
import type { AnswerEnd, AnswerWatcher } from '../answer-watcher.ts'
import { JsonFields } from '../json-fields.ts'
import { textOf } from './answer-fields.ts'

export interface JsonAnswer {
  /** Fields of the answer that `readEnd` and the watcher itself read. */
  fields: Iterable<string>
  readEnd(json: JsonFields): AnswerEnd
  /** Whoever else reads the bytes. */
  listeners?: readonly { push(chunk: Buffer): void }[]
  /** Of an answer that is cut: by default what has come of it is text that was produced. */
  usageIfCut?: SettledUsage
  /** What an answer amounts to that is no JSON: by default it has no end. */
  endOfOtherForms?: AnswerEnd
}

/** Watches an answer that is one JSON object. */
export class JsonWatcher implements AnswerWatcher {
  readonly isBetweenEvents = false
  readonly eventCount = 0
  readonly #answer: JsonAnswer
  readonly #json: JsonFields
  #bytes = 0
  #end: AnswerEnd | undefined

  constructor(answer: JsonAnswer) {
    this.#answer = answer
    this.#json = new JsonFields({ wanted: answer.fields })
  }

  push(chunk: Buffer): void {
    this.#bytes += chunk.length
    this.#json.push(chunk)
    for (const listener of this.#answer.listeners ?? []) listener.push(chunk)
    if (this.#json.isComplete) this.#end ??= this.#answer.readEnd(this.#json)
  }

  finish(): void {
    this.#end ??= this.#answer.endOfOtherForms
  }

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
    return this.#answer.usageIfCut ? 0 : estimateTokens(this.#bytes)
  }

  get usageIfCut(): SettledUsage {
    return (
      this.#end?.usage ?? this.#answer.usageIfCut ?? { source: 'estimated', outputTokens: this.outputTokensEstimate }
    )
  }
}
