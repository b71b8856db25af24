/** Tokens of a text by its length, for calls that nobody reports the end of: four bytes to a token, English's usual rate. */
export function estimateTokens(bytes: number): number {
  return Math.ceil(bytes / BYTES_PER_TOKEN)
}

/** What is known of an input for an estimate: how much of it is text, a piece of that text, and how many files are in it. */
export interface InputMeasure {
  textBytes: number
  sample: string
  embeddedFiles: number
}

export const NO_INPUT: Readonly<InputMeasure> = Object.freeze({ textBytes: 0, sample: '', embeddedFiles: 0 })

/** Measures a request's body. Files embedded as base64 are counted by the piece: their length says nothing about their tokens. */
export function measureInput(body: Buffer): InputMeasure {
  const pieces: Buffer[] = []
  let textBytes = 0
  let embeddedFiles = 0
  let at = 0
  for (;;) {
    const mark = body.indexOf(BASE64_MARK, at)
    const end = mark === -1 ? body.length : mark
    textBytes += end - at
    pieces.push(body.subarray(at, Math.min(end, at + SAMPLE_BYTES)))
    if (mark === -1) break
    embeddedFiles += 1
    const quote = body.indexOf('"', mark)
    if (quote === -1) break
    at = quote
  }
  return { textBytes, embeddedFiles, sample: Buffer.concat(pieces).toString('utf8', 0, SAMPLE_BYTES) }
}

/** @param sampleTokens of the sample, as a tokenizer counts them; without it the rate of English is taken. */
export function estimateInputTokens({ textBytes, sample, embeddedFiles }: InputMeasure, sampleTokens?: number): number {
  const sampleBytes = Buffer.byteLength(sample)
  const textTokens =
    sampleTokens === undefined || sampleBytes === 0
      ? estimateTokens(textBytes)
      : Math.ceil((sampleTokens * textBytes) / sampleBytes)
  return textTokens + embeddedFiles * TOKENS_PER_FILE
}

const BYTES_PER_TOKEN = 4
const BASE64_MARK = ';base64,'
const SAMPLE_BYTES = 8 * 1024
/** About what OpenAI counts for an image of medium size. */
const TOKENS_PER_FILE = 1000
