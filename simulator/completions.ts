import { type Call, newId, pause, sendJson } from './call.ts'
import { json, type Routes } from './handler.ts'
import type { ProducedTokens } from './ledger.ts'
import { knownModel, resolveModel } from './models.ts'
import { now } from './objects.ts'
import { type Said, whatToSay } from './said.ts'
import { type StreamEvent, streamEvents } from './stream.ts'
import { charsIn, chatUsage, inputTokens } from './usage.ts'

type Frame = { id: string; object: string; created: number; model: string }

/** `POST /v1/completions`: the old text completions, one choice. */
export const completionRoutes: Routes = {
  'POST /completions': json(async (_, call) => {
    const { body, behaviour, entry } = call
    const model = knownModel(body)
    const prompt = Array.isArray(body.prompt) ? body.prompt.join(' ') : String(body.prompt ?? '')
    const said = whatToSay({ ...body, tools: undefined }, prompt, undefined, behaviour)
    const before = inputTokens(charsIn(prompt), behaviour)
    const after = { ...before, output_tokens: said.deltas.length }
    const frame = {
      id: newId('cmpl'),
      object: 'text_completion',
      created: now(),
      model: resolveModel(behaviour.model ?? model),
    }
    entry.responseId = frame.id
    entry.usage = before
    if (body.stream === true) return streamEvents(call, events(call, frame, said, after), before)

    if (behaviour.tps) await pause(call, (said.deltas.length * 1000) / behaviour.tps)
    if (call.closed) return
    entry.usage = after
    await sendJson(call, 200, {
      ...frame,
      choices: [{ index: 0, text: said.deltas.join(''), logprobs: null, finish_reason: reason(said) }],
      usage: chatUsage(after, behaviour),
    })
  }),
}

function* events(call: Call, frame: Frame, said: Said, tokens: ProducedTokens): Generator<StreamEvent> {
  const usageWanted = (call.body.stream_options as { include_usage?: unknown } | undefined)?.include_usage === true
  const chunk = (text: string, finish_reason: string | null) =>
    JSON.stringify({
      ...frame,
      choices: [{ index: 0, text, logprobs: null, finish_reason }],
      ...(usageWanted ? { usage: null } : undefined),
    })
  for (const delta of said.deltas) yield { type: undefined, data: chunk(delta, null), tokens: 1 }
  yield { type: undefined, data: chunk('', reason(said)), tokens: 0 }
  if (usageWanted) {
    const data = JSON.stringify({ ...frame, choices: [], usage: chatUsage(tokens, call.behaviour) })
    yield { type: undefined, data, tokens: 0 }
  }
  yield { type: undefined, data: '[DONE]', tokens: 0, terminal: true }
}

function reason({ cutShort }: Said): string {
  return cutShort ? 'length' : 'stop'
}
