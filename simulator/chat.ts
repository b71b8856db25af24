import { ApiError } from './api-error.ts'
import { type Call, newId, pause, sendJson } from './call.ts'
import type { ProducedTokens } from './ledger.ts'
import { knownModel, resolveModel } from './models.ts'
import { now, type Objects } from './objects.ts'
import type { Item } from './page.ts'
import { findReferences } from './references.ts'
import { tierUsed } from './responses.ts'
import { type Said, whatToSay } from './said.ts'
import { type StreamEvent, streamEvents } from './stream.ts'
import { charsIn, chatUsage, inputTokens } from './usage.ts'

type Frame = { id: string; created: number; model: string; service_tier: unknown; system_fingerprint: string }

/** `POST /v1/chat/completions`: text and function calls, one choice. */
export async function createChatCompletion(objects: Objects, call: Call): Promise<void> {
  const { body, behaviour, entry } = call
  const model = knownModel(body)
  if (!Array.isArray(body.messages)) {
    throw new ApiError(400, "Missing required parameter: 'messages'.", {
      param: 'messages',
      code: 'missing_required_parameter',
    })
  }
  const found = [...findReferences(objects, call.project, body.messages), ...heardBefore(objects, call)]
  const said = whatToSay(inWordsOfResponses(body), body.messages, undefined, behaviour, found)
  const frame: Frame = {
    id: newId('chatcmpl'),
    created: now(),
    model: resolveModel(behaviour.model ?? model),
    service_tier: behaviour.tier ?? tierUsed(body.service_tier),
    system_fingerprint: 'fp_simulated',
  }
  const before = inputTokens(charsIn(body.messages), behaviour)
  const { reasoning = 0 } = behaviour
  const after = { ...before, output_tokens: said.deltas.length + reasoning, reasoning_tokens: reasoning }
  entry.responseId = frame.id
  entry.usage = before
  const text = said.deltas.join('')
  const tool_calls = [{ id: newId('call'), type: 'function', function: { name: said.tool, arguments: text } }]
  const message = {
    role: 'assistant',
    ...(said.tool === undefined ? { content: text } : { content: null, tool_calls }),
    refusal: null,
    annotations: [],
    ...(wantsAudio(body) ? { content: null, audio: say(objects, call, text) } : undefined),
  }
  const completion = {
    ...frame,
    object: 'chat.completion',
    choices: [{ index: 0, message, logprobs: null, finish_reason: finishReason(said) }],
    usage: chatUsage(after, behaviour),
  }
  if (body.store === true) store(objects, call, completion)
  if (body.stream === true) return streamEvents(call, chatEvents(call, frame, said, after), before)

  if (behaviour.tps) await pause(call, (said.deltas.length * 1000) / behaviour.tps)
  if (call.closed) return
  entry.usage = after
  await sendJson(call, 200, completion)
}

function store(objects: Objects, { body, project }: Call, completion: Item): void {
  const messages = (body.messages as object[]).map((message, index) => ({
    id: `${completion.id}-${index}`,
    ...message,
  }))
  const settings = { metadata: body.metadata ?? {}, tools: body.tools ?? null, temperature: body.temperature ?? 1 }
  objects.completions.save(project, completion.id, { completion: { ...completion, ...settings }, messages })
}

/** Usage only when asked for: then as a last chunk without choices, and as null in those before. */
function* chatEvents(call: Call, frame: Frame, said: Said, tokens: ProducedTokens): Generator<StreamEvent> {
  const { behaviour, body } = call
  const usageWanted = (body.stream_options as { include_usage?: unknown } | undefined)?.include_usage === true
  const chunk = (fields: Record<string, unknown>) =>
    JSON.stringify({
      ...frame,
      object: 'chat.completion.chunk',
      ...(usageWanted ? { usage: null } : undefined),
      ...fields,
    })
  const choice = (delta: Record<string, unknown>, finish_reason: string | null = null) =>
    chunk({ choices: [{ index: 0, delta, logprobs: null, finish_reason }] })

  const reasoningTokens = behaviour.reasoning ?? 0
  const called = { index: 0, id: newId('call'), type: 'function', function: { name: said.tool, arguments: '' } }
  const opening = choice(
    said.tool === undefined
      ? { role: 'assistant', content: '', refusal: null }
      : { role: 'assistant', content: null, tool_calls: [called] },
  )
  const part = (delta: string) =>
    said.tool === undefined ? { content: delta } : { tool_calls: [{ index: 0, function: { arguments: delta } }] }
  yield { type: undefined, data: opening, tokens: 0, reasoningTokens }
  for (const delta of said.deltas) yield { type: undefined, data: choice(part(delta)), tokens: 1 }
  if (behaviour.ending === 'failed' || behaviour.ending === 'error') {
    const error = {
      message: 'The server had an error while processing your request.',
      type: 'server_error',
      code: null,
    }
    yield { type: undefined, data: JSON.stringify({ error }), tokens: 0, terminal: true }
    return
  }
  yield { type: undefined, data: choice({}, finishReason(said)), tokens: 0 }
  if (usageWanted) {
    yield { type: undefined, data: chunk({ choices: [], usage: chatUsage(tokens, behaviour) }), tokens: 0 }
  }
  yield { type: undefined, data: '[DONE]', tokens: 0, terminal: true }
}

function finishReason({ cutShort, tool }: Said): string {
  if (cutShort) return 'length'
  return tool === undefined ? 'stop' : 'tool_calls'
}

function wantsAudio({ modalities }: Record<string, unknown>): boolean {
  return Array.isArray(modalities) && modalities.includes('audio')
}

/** Kept, because the conversation goes on with its id alone. Not in streams. */
function say(objects: Objects, { project }: Call, transcript: string): Record<string, unknown> {
  const id = newId('audio')
  objects.audios.save(project, id, transcript)
  return { id, data: Buffer.from(transcript).toString('base64'), transcript, expires_at: now() + 3600 }
}

/** What the messages name of it. @throws ApiError 404. */
function heardBefore(objects: Objects, { body, project }: Call): string[] {
  const messages = body.messages as ({ audio?: { id?: unknown } } | null)[]
  return messages.flatMap((message) =>
    message?.audio?.id === undefined ? [] : [objects.audios.get(project, String(message.audio.id))],
  )
}

type Format = { type?: unknown; json_schema?: { schema?: unknown } }

/** Tools and formats have one more level here. */
function inWordsOfResponses(body: Record<string, unknown>): Record<string, unknown> {
  const flat = (tool: { function?: object } | null) => ({ ...tool, ...tool?.function })
  const { tools, tool_choice, response_format } = body
  const format = response_format as Format | undefined
  return {
    ...body,
    tools: Array.isArray(tools) ? tools.map(flat) : undefined,
    tool_choice: typeof tool_choice === 'object' ? flat(tool_choice) : tool_choice,
    text: format && { format: { type: format.type, schema: format.json_schema?.schema } },
  }
}
