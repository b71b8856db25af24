import type { Behaviour } from './behaviour.ts'
import type { ProducedTokens } from './ledger.ts'

/**
 * The counting rule. Input tokens: a quarter of the characters (UTF-16 units) of the instructions, of every text in the
 * input and, behind `previous_response_id`, of the inputs and answers before; rounded up. Output tokens: one per delta,
 * that is one per word of a text or per four characters of JSON, plus the reasoning tokens asked for.
 */
export function tokensOf(chars: number): number {
  return Math.ceil(chars / 4)
}

/** Characters of all text in an input, a list of messages or a piece of either. */
export function charsIn(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return 0
  let chars = 0
  if (Array.isArray(value)) {
    for (const part of value) chars += charsIn(part)
    return chars
  }
  const { text, content, output, arguments: args, input } = value as Record<string, unknown>
  return charsIn(text) + charsIn(content) + charsIn(output) + charsIn(args) + charsIn(input)
}

/** What goes in, before anything is produced. A cache can not hold more than the input, so the input grows with it. */
export function inputTokens(chars: number, { input, cached = 0, cache_write = 0 }: Behaviour): ProducedTokens {
  return {
    input_tokens: Math.max(input ?? tokensOf(chars), cached + cache_write),
    cached_tokens: cached,
    cache_write_tokens: cache_write,
    output_tokens: 0,
    reasoning_tokens: 0,
  }
}

/** The usage object of the Responses API, or what the behaviour makes of it; undefined when there is to be none. */
export function responsesUsage(tokens: ProducedTokens, behaviour: Behaviour): unknown {
  return spoiled(
    {
      input_tokens: tokens.input_tokens,
      input_tokens_details: { cached_tokens: tokens.cached_tokens, cache_write_tokens: tokens.cache_write_tokens },
      output_tokens: tokens.output_tokens,
      output_tokens_details: { reasoning_tokens: tokens.reasoning_tokens },
      total_tokens: tokens.input_tokens + tokens.output_tokens,
    },
    'input_tokens',
    behaviour,
  )
}

/** The usage object of chat completions, likewise. */
export function chatUsage(tokens: ProducedTokens, behaviour: Behaviour): unknown {
  return spoiled(
    {
      prompt_tokens: tokens.input_tokens,
      completion_tokens: tokens.output_tokens,
      total_tokens: tokens.input_tokens + tokens.output_tokens,
      prompt_tokens_details: { cached_tokens: tokens.cached_tokens, cache_write_tokens: tokens.cache_write_tokens },
      completion_tokens_details: { reasoning_tokens: tokens.reasoning_tokens },
    },
    'prompt_tokens',
    behaviour,
  )
}

function spoiled(usage: Record<string, unknown>, inputKey: string, { usage: variant }: Behaviour): unknown {
  if (variant === undefined) return usage
  if (variant === 'missing') return undefined
  if (variant === 'null') return null
  return { ...usage, [inputKey]: { negative: -5, fractional: 1.5, absurd: 1e300, text: 'many' }[variant] }
}
