/**
 * What one answer used, by how it is billed. Counts are non-negative safe integers, and every part fits its whole:
 * cached and written tokens are inside `inputTokens`, audio and image tokens inside `inputTokens` or `outputTokens`,
 * cached audio inside cached, reasoning inside `outputTokens`.
 */
export interface Usage {
  inputTokens: number
  cachedTokens: number
  cacheWrite30mTokens: number
  cacheWrite12hTokens: number
  outputTokens: number
  reasoningTokens: number
  totalTokens: number
  inputAudioTokens: number
  cachedAudioTokens: number
  inputImageTokens: number
  cachedImageTokens: number
  outputAudioTokens: number
  outputImageTokens: number
  /** Length of the audio, for what is billed by time; whole seconds, rounded up. */
  seconds?: number
  /** Length of the text, for speech that is billed by it. */
  characters?: number
  /** Where these are several requests: the input of the largest, which says whether they were of long context. */
  largestInputTokens?: number
}

/** Nothing used: the start of an estimate. */
export const NO_USAGE: Readonly<Usage> = Object.freeze({
  inputTokens: 0,
  cachedTokens: 0,
  cacheWrite30mTokens: 0,
  cacheWrite12hTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
  totalTokens: 0,
  inputAudioTokens: 0,
  cachedAudioTokens: 0,
  inputImageTokens: 0,
  cachedImageTokens: 0,
  outputAudioTokens: 0,
  outputImageTokens: 0,
})

/** More than any request can use by a factor of a million: beyond it a count is a fault, not a bill. */
const COUNT_MAX = 1e12

/**
 * Any usage object of OpenAI (Responses, chat, embeddings, images, transcription, realtime, batch) as one `Usage`.
 * Undefined means that the usage is unknown; it never throws. The raw object is stored beside it, so that refusing loses nothing
 * and a wrong sum never looks like a right one:
 *
 * - A count that is absent or null is 0. A count that is anything else than a whole number from 0 to 1e12 (negative, fractional,
 *   NaN, text, huge) makes the object unusable; so do details that are not an object.
 * - Input tokens must be there. Output tokens may be absent only if `total_tokens` says that there were none (embeddings).
 * - A part larger than its whole (cached + written > input, audio > input, cached audio > audio ...) makes it unusable: which of
 *   the two is wrong cannot be told. Reasoning is the exception: it costs nothing of its own, and is cut to the output.
 * - `total_tokens` is not believed; the total is input + output.
 * - Cache writes without a time to live are 30-minute writes, the default of the API.
 * - Cached tokens without a breakdown are taken to be text first, then audio, then image.
 * - `{type: 'duration', seconds}` has seconds and no tokens; fractions of a second are rounded up.
 * - `{type: 'characters', characters}` is the proxy's own, for speech, whose answer is nothing but sound.
 *
 * @see https://platform.openai.com/docs/api-reference/responses/object#responses/object-usage
 */
export function readUsage(raw: unknown): Usage | undefined {
  if (!isRecord(raw)) return undefined
  const inputDetails = recordOf(raw.input_tokens_details ?? raw.input_token_details ?? raw.prompt_tokens_details)
  const outputDetails = recordOf(raw.output_tokens_details ?? raw.output_token_details ?? raw.completion_tokens_details)
  const cachedDetails = recordOf(inputDetails?.cached_tokens_details ?? raw.cached_tokens_details)
  const writeDetails = recordOf(inputDetails?.cache_write_tokens_details)
  if (!inputDetails || !outputDetails || !cachedDetails || !writeDetails) return undefined

  const seconds = readSeconds(raw.seconds)
  const largest = raw.largest_input_tokens
  const { characters } = raw
  const hasOtherMeasure = seconds !== undefined || characters !== undefined
  const inputTokens = raw.input_tokens ?? raw.prompt_tokens ?? (hasOtherMeasure ? 0 : undefined)
  const outputTokens =
    raw.output_tokens ?? raw.completion_tokens ?? noOutput(inputTokens, raw.total_tokens, hasOtherMeasure)
  if (inputTokens === undefined || outputTokens === undefined) return undefined

  const input = countOf(inputTokens)
  const output = countOf(outputTokens)
  const cached = countOf(inputDetails.cached_tokens ?? raw.cached_tokens)
  const inputAudio = countOf(inputDetails.audio_tokens)
  const inputImage = countOf(inputDetails.image_tokens)
  const cachedBeyondText = Math.max(0, cached - (input - inputAudio - inputImage))
  const cachedAudio = countOf(cachedDetails.audio_tokens ?? Math.min(cachedBeyondText, inputAudio))
  const cachedImage = countOf(cachedDetails.image_tokens ?? Math.max(0, cachedBeyondText - cachedAudio))
  const write12h = countOf(writeDetails.ttl_12h_tokens)
  const written = countOf(inputDetails.cache_write_tokens ?? write12h + countOf(writeDetails.ttl_30m_tokens))
  const usage: Usage = {
    inputTokens: input,
    cachedTokens: cached,
    cacheWrite30mTokens: Math.max(written - write12h, countOf(writeDetails.ttl_30m_tokens)),
    cacheWrite12hTokens: write12h,
    outputTokens: output,
    reasoningTokens: Math.min(countOf(outputDetails.reasoning_tokens), output),
    totalTokens: input + output,
    inputAudioTokens: inputAudio,
    cachedAudioTokens: cachedAudio,
    inputImageTokens: inputImage,
    cachedImageTokens: cachedImage,
    outputAudioTokens: countOf(outputDetails.audio_tokens),
    outputImageTokens: countOf(outputDetails.image_tokens),
    ...(seconds === undefined ? {} : { seconds }),
    ...(characters === undefined ? {} : { characters: countOf(characters) }),
    ...(largest === undefined ? {} : { largestInputTokens: countOf(largest) }),
  }
  if (usage.cacheWrite30mTokens + write12h !== written) return undefined
  return isCoherent(usage) ? usage : undefined
}

/** Every count is one, and every part fits its whole. */
export function isCoherent(usage: Usage): boolean {
  const textTokens = usage.inputTokens - usage.inputAudioTokens - usage.inputImageTokens
  const cachedTextTokens = usage.cachedTokens - usage.cachedAudioTokens - usage.cachedImageTokens
  return (
    isCount(usage.inputTokens) &&
    isCount(usage.cachedTokens) &&
    isCount(usage.cacheWrite30mTokens) &&
    isCount(usage.cacheWrite12hTokens) &&
    isCount(usage.outputTokens) &&
    isCount(usage.reasoningTokens) &&
    isCount(usage.inputAudioTokens) &&
    isCount(usage.cachedAudioTokens) &&
    isCount(usage.inputImageTokens) &&
    isCount(usage.cachedImageTokens) &&
    isCount(usage.outputAudioTokens) &&
    isCount(usage.outputImageTokens) &&
    isCount(usage.seconds ?? 0) &&
    isCount(usage.characters ?? 0) &&
    isCount(usage.largestInputTokens ?? 0) &&
    (usage.largestInputTokens ?? 0) <= usage.inputTokens &&
    cachedTextTokens >= 0 &&
    cachedTextTokens <= textTokens &&
    usage.cachedAudioTokens <= usage.inputAudioTokens &&
    usage.cachedImageTokens <= usage.inputImageTokens &&
    usage.cachedTokens + usage.cacheWrite30mTokens + usage.cacheWrite12hTokens <= usage.inputTokens &&
    usage.reasoningTokens <= usage.outputTokens &&
    usage.outputAudioTokens + usage.outputImageTokens <= usage.outputTokens
  )
}

/** 0 where the object itself says that nothing came out, undefined where that is not known. */
function noOutput(inputTokens: unknown, totalTokens: unknown, hasOtherMeasure: boolean): 0 | undefined {
  return hasOtherMeasure || (isCount(totalTokens) && totalTokens === inputTokens) ? 0 : undefined
}

/** NaN, which no sum survives, for what is not a count; `isCoherent` refuses it. */
function countOf(value: unknown): number {
  if (value === undefined || value === null) return 0
  // Adding 0 turns the -0 that JSON can carry into 0.
  return isCount(value) ? value + 0 : Number.NaN
}

/** Undefined where there are none, NaN where they are not a length. */
function readSeconds(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined
  return typeof value === 'number' && value >= 0 ? countOf(Math.ceil(value)) : Number.NaN
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= COUNT_MAX
}

/** An empty record for what is absent, undefined for what is there and is none. */
function recordOf(value: unknown): Record<string, unknown> | undefined {
  if (value === undefined || value === null) return {}
  return isRecord(value) ? value : undefined
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
