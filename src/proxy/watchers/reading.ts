import { type AnswerForm, type AnswerWatcher, type Meter, watchAnswer } from '../answer-watcher.ts'

/** For tests: what a watcher says of an answer that came in these pieces. */
export function read(meter: Meter, form: AnswerForm, chunks: readonly Buffer[]) {
  const watcher: AnswerWatcher = watchAnswer(meter, form)
  for (const chunk of chunks) watcher.push(chunk)
  watcher.finish()
  const { responseId, end, modelUsed, outputTokensEstimate, usageIfCut } = watcher
  return { responseId, end, modelUsed, outputTokensEstimate, usageIfCut }
}

/** For tests: the same bytes cut at each place, at each pair of places when they are few, and in small pieces. */
export function* cuts(bytes: Buffer): Generator<Buffer[]> {
  for (let one = 0; one <= bytes.length; one += 1) yield [bytes.subarray(0, one), bytes.subarray(one)]
  for (const size of [1, 2, 3, 7, 64, 1000]) yield slices(bytes, size)
  if (bytes.length > PAIRS_MAX) return
  for (let one = 0; one <= bytes.length; one += 1) {
    for (let two = one; two <= bytes.length; two += 1) {
      yield [bytes.subarray(0, one), bytes.subarray(one, two), bytes.subarray(two)]
    }
  }
}

export function slices(bytes: Buffer, size: number): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
  return chunks
}

const PAIRS_MAX = 250
