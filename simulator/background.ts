import { type Answer, finishedResponse, type ResponseObject, tokensOfAnswer } from './responses.ts'

/** A background response on its way: what it will be, when it has ended, and how to stop it. */
export type BackgroundJob = { answer: Answer; done: Promise<void>; cancel(): void }

const DEFAULT_MS = 40

/**
 * Takes `stored.response` from `queued` over `in_progress` to its end, watched or not. `count` hears once how many output
 * tokens were produced: all, or for a cancelled response those of the time it had.
 */
export function runInBackground(
  stored: { response: ResponseObject },
  answer: Answer,
  count: (outputTokens: number) => void,
): BackgroundJob {
  const { behaviour, said } = answer
  const generationMs = behaviour.tps ? (said.deltas.length * 1000) / behaviour.tps : 0
  const totalMs = (behaviour.background_ms ?? DEFAULT_MS) + generationMs
  const began = performance.now()
  const { promise: done, resolve } = Promise.withResolvers<void>()
  const outputTokens = tokensOfAnswer(answer).output_tokens

  const starting = setTimeout(() => {
    stored.response = { ...stored.response, status: 'in_progress' }
  }, totalMs / 4)
  const ending = setTimeout(() => end(finishedResponse(answer), outputTokens), totalMs)

  function end(response: ResponseObject, produced: number): void {
    clearTimeout(starting)
    clearTimeout(ending)
    stored.response = response
    count(produced)
    resolve()
  }

  return {
    answer,
    done,
    cancel() {
      if (stored.response.status !== 'queued' && stored.response.status !== 'in_progress') return
      const share = Math.min(1, (performance.now() - began) / totalMs)
      end({ ...stored.response, status: 'cancelled' }, Math.floor(outputTokens * share))
    },
  }
}
