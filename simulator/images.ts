import { ApiError } from './api-error.ts'
import { type Call, sendJson } from './call.ts'
import { fileOf } from './form.ts'
import { json, type Routes, type Simulated } from './handler.ts'
import type { ProducedTokens } from './ledger.ts'
import { knownModel } from './models.ts'
import { now } from './objects.ts'
import { findReferences } from './references.ts'
import { type StreamEvent, streamEvents } from './stream.ts'
import { charsIn, inputTokens } from './usage.ts'

/** What a picture costs, given or made. */
const IMAGE_TOKENS = 100
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

/** Pictures that hold the prompt as plain bytes, so that a test can look for it. @see https://platform.openai.com/docs/api-reference/images */
export const imageRoutes: Routes = {
  'POST /images/generations': json((_, call) => answer(call, 'image_generation', prompt(call), 0)),

  'POST /images/edits': (simulated, call) => {
    const given = call.form ? filesGiven(call) : referred(simulated, call)
    return answer(call, 'image_edit', `${prompt(call)} ${given.text}`, given.count)
  },

  'POST /images/variations': (_, call) => {
    fileOf(call, 'image')
    return answer(call, 'image_edit', filesGiven(call).text, 1)
  },
}

function prompt({ body }: Call): string {
  if (typeof body.prompt === 'string') return body.prompt
  throw new ApiError(400, "Missing required parameter: 'prompt'.", {
    param: 'prompt',
    code: 'missing_required_parameter',
  })
}

function filesGiven(call: Call): { text: string; count: number } {
  fileOf(call, 'image')
  const files = Object.values(call.form?.files ?? {}).flat()
  return { text: files.map(({ content }) => content.toString('utf8').slice(0, 200)).join(' '), count: files.length }
}

function referred({ objects }: Simulated, call: Call): { text: string; count: number } {
  const found = findReferences(objects, call.project, [call.body.images, call.body.mask])
  return { text: found.join(' '), count: found.length }
}

function answer(call: Call, kind: string, about: string, imagesIn: number): Promise<void> | undefined {
  const { body, behaviour, entry } = call
  const model = knownModel({ model: 'dall-e-2', ...body })
  const count = Number(body.n ?? 1)
  const text = inputTokens(charsIn(body.prompt), behaviour)
  const tokens: ProducedTokens = {
    ...text,
    input_tokens: text.input_tokens + imagesIn * IMAGE_TOKENS,
    input_image_tokens: imagesIn * IMAGE_TOKENS,
    output_tokens: count * IMAGE_TOKENS,
    output_image_tokens: count * IMAGE_TOKENS,
    images: count,
  }
  const picture = Buffer.concat([PNG, Buffer.from(about)]).toString('base64')
  if (body.stream === true) {
    entry.usage = { ...tokens, output_tokens: 0 }
    return streamEvents(call, events(kind, picture, tokens), entry.usage)
  }
  entry.usage = tokens
  const old = model.startsWith('dall-e')
  const data =
    old && body.response_format !== 'b64_json' ? { url: `data:image/png;base64,${picture}` } : { b64_json: picture }
  return sendJson(call, 200, {
    created: now(),
    data: Array.from({ length: count }, () => data),
    ...(old ? undefined : { background: 'opaque', output_format: 'png', quality: 'low', size: '1024x1024' }),
    ...(old ? undefined : { usage: imageUsage(tokens) }),
  })
}

function imageUsage(tokens: ProducedTokens): Record<string, unknown> {
  const { input_tokens, input_image_tokens = 0, output_tokens } = tokens
  return {
    input_tokens,
    input_tokens_details: { text_tokens: input_tokens - input_image_tokens, image_tokens: input_image_tokens },
    output_tokens,
    output_tokens_details: { image_tokens: output_tokens, text_tokens: 0 },
    total_tokens: input_tokens + output_tokens,
  }
}

function* events(kind: string, b64_json: string, tokens: ProducedTokens): Generator<StreamEvent> {
  const about = { created_at: now(), size: '1024x1024', quality: 'low', background: 'opaque', output_format: 'png' }
  const partial = { type: `${kind}.partial_image`, b64_json, partial_image_index: 0, ...about }
  yield { type: partial.type, data: JSON.stringify(partial), tokens: 0 }
  const completed = { type: `${kind}.completed`, b64_json, ...about, usage: imageUsage(tokens) }
  yield { type: completed.type, data: JSON.stringify(completed), tokens: tokens.output_tokens, terminal: true }
}
