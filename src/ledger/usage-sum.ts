import type { Usage } from './usage.ts'

/** What several requests used together, and how large the largest of them was. */
export function sumUsages(first: Usage, second?: Usage): Usage {
  const { seconds, characters: _, largestInputTokens: __, ...counts } = first
  const sum: Usage = { ...counts, largestInputTokens: largestOf(first) }
  if (!second) return seconds === undefined ? sum : { ...sum, seconds }
  for (const name of Object.keys(counts) as (keyof typeof counts)[]) sum[name] += second[name]
  sum.largestInputTokens = Math.max(largestOf(first), largestOf(second))
  const bothSeconds = (seconds ?? 0) + (second.seconds ?? 0)
  return bothSeconds > 0 ? { ...sum, seconds: bothSeconds } : sum
}

function largestOf({ largestInputTokens, inputTokens }: Usage): number {
  return largestInputTokens ?? inputTokens
}

/** A usage in the form that OpenAI's Responses API gives it, so that it can be kept and read again. */
export function toRawUsage(usage: Usage): object {
  return {
    input_tokens: usage.inputTokens,
    input_tokens_details: {
      cached_tokens: usage.cachedTokens,
      cached_tokens_details: { audio_tokens: usage.cachedAudioTokens, image_tokens: usage.cachedImageTokens },
      cache_write_tokens: usage.cacheWrite30mTokens + usage.cacheWrite12hTokens,
      cache_write_tokens_details: {
        ttl_30m_tokens: usage.cacheWrite30mTokens,
        ttl_12h_tokens: usage.cacheWrite12hTokens,
      },
      audio_tokens: usage.inputAudioTokens,
      image_tokens: usage.inputImageTokens,
    },
    output_tokens: usage.outputTokens,
    output_tokens_details: {
      reasoning_tokens: usage.reasoningTokens,
      audio_tokens: usage.outputAudioTokens,
      image_tokens: usage.outputImageTokens,
    },
    total_tokens: usage.totalTokens,
    ...(usage.seconds === undefined ? {} : { seconds: usage.seconds }),
    ...(usage.largestInputTokens === undefined ? {} : { largest_input_tokens: usage.largestInputTokens }),
  }
}
