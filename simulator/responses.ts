import type { Behaviour } from './behaviour.ts'
import { newId } from './call.ts'
import type { HostedCalls } from './hosted-tools.ts'
import type { ProducedTokens } from './ledger.ts'
import { resolveModel } from './models.ts'
import { now } from './objects.ts'
import { type Said, whatToSay } from './said.ts'
import { charsIn, inputTokens, responsesUsage } from './usage.ts'

type Status = 'queued' | 'in_progress' | 'completed' | 'incomplete' | 'failed' | 'cancelled'

/** @see https://platform.openai.com/docs/api-reference/responses/object */
export type ResponseObject = Record<string, unknown> & {
  id: string
  status: Status
  output: unknown[]
  usage?: unknown
}

/** A response that is decided, but not yet told. */
export type Answer = {
  /** As it is before the end: no output, no usage. */
  response: ResponseObject
  itemId: string
  callId: string
  said: Said
  hosted: HostedCalls
  behaviour: Behaviour
  obfuscated: boolean
  input: ProducedTokens
  /** Characters that a follow-up takes as input: everything so far and this answer. */
  contextChars: number
  question: string | undefined
}

/** What a follow-up needs to know of the response before it. */
export type Context = { contextChars: number; question: string | undefined }

/** What an answer draws on besides its own input. */
export type Sources = { previous: Context | undefined; found: readonly string[]; hosted: HostedCalls }

export function decideAnswer(
  body: Record<string, unknown>,
  model: string,
  question: string,
  behaviour: Behaviour,
  { previous, found, hosted }: Sources,
): Answer {
  const said = whatToSay(body, body.input, previous?.question, behaviour, found)
  const chars = charsIn(body.input) + (previous?.contextChars ?? 0)
  const background = body.background === true
  return {
    response: responseObject(body, behaviour.model ?? model, background),
    itemId: newId(said.tool === undefined ? 'msg' : 'fc'),
    callId: said.tool === undefined ? '' : newId('call'),
    said,
    hosted,
    behaviour,
    obfuscated: (body.stream_options as { include_obfuscation?: unknown } | undefined)?.include_obfuscation !== false,
    input: {
      ...inputTokens(chars + charsIn(body.instructions), behaviour),
      ...(hosted.images === 0 ? undefined : { images: hosted.images }),
    },
    contextChars: chars + said.deltas.reduce((sum, delta) => sum + delta.length, 0),
    question,
  }
}

function responseObject(body: Record<string, unknown>, model: string, background: boolean): ResponseObject {
  const { conversation } = body
  return {
    id: newId('resp'),
    object: 'response',
    created_at: now(),
    status: background ? 'queued' : 'in_progress',
    background,
    completed_at: null,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    model: resolveModel(model),
    output: [],
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: body.previous_response_id ?? null,
    ...(conversation
      ? { conversation: typeof conversation === 'string' ? { id: conversation } : conversation }
      : undefined),
    ...(body.prompt ? { prompt: body.prompt } : undefined),
    prompt_cache_key: body.prompt_cache_key ?? null,
    reasoning: { effort: null, summary: null, ...(body.reasoning as object | undefined) },
    safety_identifier: body.safety_identifier ?? null,
    service_tier: body.service_tier ?? 'auto',
    store: body.store ?? true,
    temperature: body.temperature ?? 1,
    text: { format: { type: 'text' }, verbosity: 'medium', ...(body.text as object | undefined) },
    tool_choice: body.tool_choice ?? 'auto',
    tools: body.tools ?? [],
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? 1,
    truncation: body.truncation ?? 'disabled',
    usage: null,
    user: body.user ?? null,
    metadata: body.metadata ?? {},
  }
}

/** Ends an answer at what was said so far, because there is something new to think about. */
export function steerAway(answer: Answer, deltasSaid: number): void {
  answer.said = { ...answer.said, deltas: answer.said.deltas.slice(0, deltasSaid), cutShort: true }
  answer.behaviour = { ...answer.behaviour, ending: 'incomplete', reason: 'steered' }
}

/** How the answer ends: what was asked for, or `incomplete` when there was no room for all of it. */
export function endingOf({ said, behaviour }: Answer): 'completed' | 'incomplete' | 'failed' | 'error' {
  return behaviour.ending ?? (said.cutShort ? 'incomplete' : 'completed')
}

/** The tokens of the whole answer. */
export function tokensOfAnswer({ input, said, behaviour: { reasoning = 0 } }: Answer): ProducedTokens {
  return { ...input, output_tokens: said.deltas.length + reasoning, reasoning_tokens: reasoning }
}

/** The response at its end. An `error` ending leaves no response but a failed one. */
export function finishedResponse(answer: Answer): ResponseObject {
  const { behaviour } = answer
  const ending = endingOf(answer)
  const status = ending === 'error' ? 'failed' : ending
  const response: ResponseObject = {
    ...answer.response,
    status,
    completed_at: status === 'completed' ? now() : null,
    output: status === 'failed' ? [] : outputOf(answer, status),
    service_tier: behaviour.tier ?? tierUsed(answer.response.service_tier),
    usage: responsesUsage(tokensOfAnswer(answer), behaviour),
  }
  if (response.usage === undefined) delete response.usage
  if (status === 'incomplete') response.incomplete_details = { reason: behaviour.reason ?? 'max_output_tokens' }
  if (status === 'failed') {
    response.error = { code: behaviour.code ?? 'server_error', message: FAILURE_MESSAGE }
  }
  const toolUsage = {
    ...(behaviour.web_search === undefined ? undefined : { web_search: { num_requests: behaviour.web_search } }),
    ...(answer.hosted.images === 0 ? undefined : { image_gen: imageUsage(answer.hosted.images) }),
  }
  if (Object.keys(toolUsage).length > 0) response.tool_usage = toolUsage
  return response
}

export const FAILURE_MESSAGE = 'An error occurred while processing your request. You can retry your request.'

/** The tier that served, which is what is billed: `fast` is another name of `priority`, and `auto` is the project's. */
export function tierUsed(requested: unknown): unknown {
  if (requested === undefined || requested === null || requested === 'auto') return 'default'
  return requested === 'fast' ? 'priority' : requested
}

function outputOf(answer: Answer, status: string): unknown[] {
  const { hosted, said } = answer
  return hosted.silent ? hosted.items : [...hosted.items, outputItem(answer, status, said.deltas.join(''))]
}

/** Each picture of the image generation tool: 10 tokens in, 100 out. */
function imageUsage(images: number): Record<string, unknown> {
  return {
    input_tokens: 10 * images,
    input_tokens_details: { text_tokens: 10 * images, image_tokens: 0 },
    output_tokens: 100 * images,
    output_tokens_details: { text_tokens: 0, image_tokens: 100 * images },
    total_tokens: 110 * images,
  }
}

export function outputItem(
  { itemId, callId, said, hosted }: Answer,
  status: string,
  text: string,
): Record<string, unknown> {
  return said.tool === undefined
    ? {
        id: itemId,
        type: 'message',
        status,
        role: 'assistant',
        content: status === 'in_progress' ? [] : [textPart(text, hosted.annotations)],
      }
    : { id: itemId, type: 'function_call', status, arguments: text, call_id: callId, name: said.tool }
}

export function textPart(text: string, annotations: readonly unknown[] = []): Record<string, unknown> {
  return { type: 'output_text', annotations, logprobs: [], text }
}
