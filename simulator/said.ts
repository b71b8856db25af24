import type { Behaviour } from './behaviour.ts'
import { sampleFromSchema } from './sample-from-schema.ts'

/** What is going to be said, cut into deltas of one token each, and whether all of it may be said. */
export type Said = { deltas: readonly string[]; tool: string | undefined; cutShort: boolean }

/**
 * The answer to a question: always the same for the same request. It repeats some of the question, so that a test can
 * plant a word and look for it where it must not appear.
 */
export function whatToSay(
  body: Record<string, unknown>,
  input: unknown,
  previousQuestion: string | undefined,
  behaviour: Behaviour,
  found: readonly string[] = [],
): Said {
  if (asksToCompact(input)) return { deltas: Array(COMPACTION_TOKENS).fill(''), tool: undefined, cutShort: false }
  const tool = toolToCall(body, input, behaviour)
  const schema = schemaWanted(body)
  let deltas: readonly string[]
  if (tool) deltas = fours(JSON.stringify(sampleFromSchema(tool.parameters ?? {}) ?? {}))
  else if (schema) deltas = fours(JSON.stringify(sampleFromSchema(schema)))
  else deltas = words(answerTo(questionIn(input), previousQuestion, found))
  if (behaviour.tokens !== undefined) deltas = repeated(deltas, behaviour.tokens)
  if (behaviour.huge !== undefined) deltas = ['x'.repeat(behaviour.huge), ...deltas.slice(1)]

  const limit = body.max_output_tokens ?? body.max_completion_tokens ?? body.max_tokens
  const room = typeof limit === 'number' ? Math.max(0, limit - (behaviour.reasoning ?? 0)) : Number.POSITIVE_INFINITY
  return deltas.length > room
    ? { deltas: deltas.slice(0, room), tool: tool?.name, cutShort: true }
    : { deltas, tool: tool?.name, cutShort: false }
}

const COMPACTION_TOKENS = 10

/** An item at the end of the input asks for one that stands for everything before it, instead of an answer. */
export function asksToCompact(input: unknown): boolean {
  return Array.isArray(input) && input.at(-1)?.type === 'compaction_trigger'
}

/** The text of the last thing that was said to the model. */
export function questionIn(input: unknown): string {
  if (typeof input === 'string') return input
  return Array.isArray(input) ? textOf(input.at(-1)) : ''
}

function answerTo(question: string, previousQuestion: string | undefined, found: readonly string[]): string {
  if (/capital of france/i.test(question)) return 'The capital of France is Paris.'
  if (question === '' && found.length === 0) return 'I heard nothing.'
  const before = previousQuestion ? ` Before that you said: ${previousQuestion.slice(0, 200)}` : ''
  const seen = found.length > 0 ? ` I found: ${found.join(' ').slice(0, 4000)}` : ''
  return `You said: ${question.slice(0, 400)}${before}${seen}`
}

function textOf(part: unknown): string {
  if (typeof part === 'string') return part
  if (Array.isArray(part)) return part.map(textOf).join('')
  if (typeof part !== 'object' || part === null) return ''
  const { text, content, output } = part as Record<string, unknown>
  return textOf(text ?? content ?? output)
}

type FunctionTool = { name: string; parameters?: unknown }

/** A function tool is called when the request says it must be, and on the behaviour `tool` until its output has come. */
function toolToCall(body: Record<string, unknown>, input: unknown, behaviour: Behaviour): FunctionTool | undefined {
  if (!Array.isArray(body.tools)) return undefined
  const functions: FunctionTool[] = body.tools.filter(
    (tool) => tool?.type === 'function' && typeof tool.name === 'string',
  )
  const choice = body.tool_choice as { name?: unknown } | string | undefined
  if (choice === 'none') return undefined
  if (typeof choice === 'object' && choice !== null) return functions.find((tool) => tool.name === choice.name)
  const answered =
    Array.isArray(input) && input.some((item) => item?.type === 'function_call_output' || item?.role === 'tool')
  return choice === 'required' || (behaviour.tool && !answered) ? functions[0] : undefined
}

function schemaWanted(body: Record<string, unknown>): unknown {
  const format = (body.text as { format?: { type?: unknown; schema?: unknown } } | undefined)?.format
  if (format?.type === 'json_schema') return format.schema
  return format?.type === 'json_object' ? { type: 'object', properties: { answer: { type: 'string' } } } : undefined
}

/** Words with the blanks before them; joined they are the text again. */
function words(text: string): string[] {
  return text.match(/\s*\S+|\s+$/g) ?? []
}

function fours(text: string): string[] {
  return text.match(/[\s\S]{1,4}/g) ?? []
}

function repeated(deltas: readonly string[], count: number): string[] {
  const spaced = deltas.map((delta) => (/^\s/.test(delta) ? delta : ` ${delta}`))
  return Array.from({ length: count }, (_, index) => {
    const list = index < deltas.length ? deltas : spaced
    return list[index % deltas.length] ?? ' word'
  })
}
