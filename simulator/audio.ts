import { ApiError } from './api-error.ts'
import { type Call, sendBytes, sendJson, sendWhole } from './call.ts'
import { fileOf } from './form.ts'
import { json, type Routes } from './handler.ts'
import type { ProducedTokens } from './ledger.ts'
import { knownModel } from './models.ts'
import { type StreamEvent, streamEvents } from './stream.ts'
import { inputTokens, tokensOf } from './usage.ts'

const BYTES_PER_SECOND = 16

/** "Audio" is text with a tag before it: what is said can be read, and what is heard is what was uploaded. */
const TAG = 'ID3'

/** @see https://platform.openai.com/docs/api-reference/audio */
export const audioRoutes: Routes = {
  'POST /audio/speech': json((_, call) => {
    const { body, entry, behaviour } = call
    knownModel(body)
    if (typeof body.input !== 'string') {
      throw new ApiError(400, "Missing required parameter: 'input'.", {
        param: 'input',
        code: 'missing_required_parameter',
      })
    }
    const audio = Buffer.from(`${TAG}${body.input}`)
    const output = audio.length
    const tokens = { ...inputTokens(body.input.length, behaviour), characters: body.input.length }
    entry.usage = { ...tokens, output_tokens: output, output_audio_tokens: output }
    if (body.stream_format !== 'sse') return sendBytes(call, 'audio/mpeg', audio)
    entry.usage.output_tokens = 0
    return streamEvents(call, speechEvents(audio, { ...entry.usage, output_tokens: output }), entry.usage)
  }),

  'POST /audio/transcriptions': (_, call) => writtenDown(call, 'transcribe'),
  'POST /audio/translations': (_, call) => writtenDown(call, 'translate'),
}

function* speechEvents(audio: Buffer, tokens: ProducedTokens): Generator<StreamEvent> {
  const { input_tokens, output_tokens } = tokens
  const delta = { type: 'speech.audio.delta', audio: audio.toString('base64') }
  yield { type: delta.type, data: JSON.stringify(delta), tokens: output_tokens }
  const usage = { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens }
  const done = { type: 'speech.audio.done', usage }
  yield { type: done.type, data: JSON.stringify(done), tokens: 0, terminal: true }
}

function writtenDown(call: Call, task: 'transcribe' | 'translate'): Promise<void> | undefined {
  const { body, behaviour, entry } = call
  const { content } = fileOf(call, 'file')
  const model = knownModel(body)
  const text = content.toString('utf8').replace(TAG, '')
  const seconds = Math.max(1, Math.ceil(content.length / BYTES_PER_SECOND))
  const prompt = inputTokens(String(body.prompt ?? '').length, behaviour)
  const tokens: ProducedTokens = {
    ...prompt,
    input_tokens: prompt.input_tokens + seconds,
    input_audio_tokens: seconds,
    output_tokens: tokensOf(text.length),
    seconds,
  }
  entry.usage = tokens
  const usage = model.startsWith('whisper') ? { type: 'duration', seconds } : tokenUsage(tokens)
  if (body.stream === true && !model.startsWith('whisper')) {
    entry.usage = { ...tokens, output_tokens: 0 }
    return streamEvents(call, transcriptEvents(text, usage, tokens.output_tokens), entry.usage)
  }
  switch (body.response_format) {
    case 'text':
      return sendWhole(call, 200, 'text/plain; charset=utf-8', `${text}\n`)
    case 'srt':
      return sendWhole(call, 200, 'text/plain; charset=utf-8', `1\n00:00:00,000 --> 00:00:01,000\n${text}\n\n`)
    case 'vtt':
      return sendWhole(call, 200, 'text/plain; charset=utf-8', `WEBVTT\n\n00:00.000 --> 00:01.000\n${text}\n\n`)
    case 'verbose_json': {
      const segment = { id: 0, seek: 0, start: 0, end: seconds, text, tokens: [], temperature: 0, avg_logprob: -0.1 }
      const segments = [{ ...segment, compression_ratio: 1, no_speech_prob: 0 }]
      return sendJson(call, 200, { task, language: 'english', duration: seconds, text, segments, usage })
    }
    default:
      return sendJson(call, 200, { text, usage })
  }
}

function tokenUsage({ input_tokens, input_audio_tokens = 0, output_tokens }: ProducedTokens): Record<string, unknown> {
  return {
    type: 'tokens',
    input_tokens,
    input_token_details: { text_tokens: input_tokens - input_audio_tokens, audio_tokens: input_audio_tokens },
    output_tokens,
    total_tokens: input_tokens + output_tokens,
  }
}

function* transcriptEvents(text: string, usage: unknown, tokens: number): Generator<StreamEvent> {
  const delta = { type: 'transcript.text.delta', delta: text }
  yield { type: delta.type, data: JSON.stringify(delta), tokens }
  const done = { type: 'transcript.text.done', text, usage }
  yield { type: done.type, data: JSON.stringify(done), tokens: 0, terminal: true }
}
