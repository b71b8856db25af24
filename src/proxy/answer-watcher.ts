import type { Ending, SettledUsage } from '../ledger/ledger.ts'
import { watchAudio } from './watchers/audio.ts'
import { watchChat } from './watchers/chat.ts'
import { watchImages } from './watchers/images.ts'
import { watchBatch, watchCompaction, watchEmbeddings, watchFree, watchUnmetered } from './watchers/plain.ts'
import { watchResponses } from './watchers/responses.ts'

/** How an answer is metered: by what its endpoint answers with. */
export type Meter = keyof typeof WATCHERS

export type AnswerForm = 'stream' | 'json'

/** How an answer ended, read in passing. */
export interface AnswerEnd {
  /** `pending`: the work goes on in the background. */
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
  /** The id of what was made: a response, a chat completion, a batch. */
  readonly responseId: string | null
  /** Set as soon as the end of the answer has been seen, which can be before the end of its bytes. */
  readonly end: AnswerEnd | undefined
  /** The model and tier seen so far, for an answer that is cut. */
  readonly modelUsed: string | null
  readonly serviceTier: string | null
  /** Tokens that OpenAI has produced so far, as far as can be seen. */
  readonly outputTokensEstimate: number
  /** What is known of the usage should the answer be cut here. */
  readonly usageIfCut: SettledUsage
  /** Whether an event of our own can be put in here; its number would be `eventCount`. */
  readonly isBetweenEvents: boolean
  readonly eventCount: number
}

/** @param form whether the answer comes as server-sent events, or as one piece of whatever kind. */
export function watchAnswer(meter: Meter, form: AnswerForm): AnswerWatcher {
  return WATCHERS[meter](form)
}

const WATCHERS = {
  responses: watchResponses,
  /** One object with a usage. */
  compact: watchCompaction,
  chat: watchChat,
  /** The older completions, which stream in the same way. */
  completions: watchChat,
  embeddings: watchEmbeddings,
  images: watchImages,
  audio: watchAudio,
  batch: watchBatch,
  /** Recorded, and free of charge. */
  moderations: watchFree,
  input_tokens: watchFree,
  /** Costs nothing and is not recorded. */
  none: watchUnmetered,
}
