/** Tokens of a text by its length, for calls that nobody reports the end of: four bytes to a token, English's usual rate. */
export function estimateTokens(bytes: number): number {
  return Math.ceil(bytes / BYTES_PER_TOKEN)
}

const BYTES_PER_TOKEN = 4
