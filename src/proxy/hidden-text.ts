/** Texts that may not be quoted to a caller. */
export class HiddenText {
  readonly #texts: readonly string[]
  #blocks: ReadonlySet<string> | undefined

  constructor(texts: readonly string[]) {
    this.#texts = [...new Set(texts.map((text) => text.trim()))].filter((text) => text !== '')
  }

  /** Says whether a text shares a run of 23 characters with a hidden one, or holds all of a shorter one. */
  isQuotedIn(text: string): boolean {
    if (this.#texts.some((hidden) => hidden.length < BLOCK + STEP && text.includes(hidden))) return true
    this.#blocks ??= new Set(this.#texts.flatMap(blocksOf))
    for (let at = 0; at + BLOCK <= text.length; at += 1) {
      if (this.#blocks.has(text.slice(at, at + BLOCK))) return true
    }
    return false
  }

  /** A JSON value with every text that quotes replaced; the very same value when none does. */
  hideIn(value: unknown): unknown {
    if (typeof value === 'string') return this.isQuotedIn(value) ? HIDDEN_MESSAGE : value
    if (typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) {
      const items = value.map((item) => this.hideIn(item))
      return items.some((item, index) => item !== value[index]) ? items : value
    }
    const entries = Object.entries(value).map(([name, inner]) => [name, inner, this.hideIn(inner)] as const)
    return entries.some(([, before, after]) => before !== after)
      ? Object.fromEntries(entries.map(([name, , after]) => [name, after]))
      : value
  }
}

export const HIDDEN_MESSAGE = 'What OpenAI says here quotes the persona, and is not shown.'

const BLOCK = 16
const STEP = 8

/** Pieces of a text, at every eighth place: one of them is in each run of 23 characters. */
function blocksOf(text: string): string[] {
  const blocks: string[] = []
  for (let at = 0; at + BLOCK <= text.length && text.length >= BLOCK + STEP; at += STEP) {
    blocks.push(text.slice(at, at + BLOCK))
  }
  return blocks
}
