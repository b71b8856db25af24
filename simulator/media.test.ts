import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import OpenAI, { toFile } from 'openai'
import type { ProducedTokens } from './ledger.ts'
import { startSimulator } from './server.ts'

const simulator = await startSimulator()
const client = new OpenAI({ baseURL: simulator.url, apiKey: 'sk-test', maxRetries: 0 })
after(() => simulator[Symbol.asyncDispose]())

async function lastUsage(): Promise<ProducedTokens | null | undefined> {
  await simulator.ledger.idle()
  return simulator.ledger.entries().at(-1)?.usage
}

function decoded(base64: string | undefined): string {
  return Buffer.from(base64 ?? '', 'base64').toString('latin1')
}

test('an image is made from a prompt, changed, and varied', async () => {
  const made = await client.images.generate({ model: 'gpt-image-2', prompt: 'a red fox', n: 2 })
  assert.match(decoded(made.data?.[1]?.b64_json), /^.PNG.*a red fox$/s)
  assert.partialDeepStrictEqual(made.usage, { output_tokens: 200, total_tokens: 203 })
  assert.partialDeepStrictEqual(await lastUsage(), { input_tokens: 3, output_image_tokens: 200, images: 2 })

  const image = await toFile(Buffer.from('PIXELS'), 'fox.png')
  const edited = await client.images.edit({ model: 'gpt-image-2', image: [image], mask: image, prompt: 'blue' })
  assert.match(decoded(edited.data?.[0]?.b64_json), /blue PIXELS PIXELS$/)
  assert.partialDeepStrictEqual(edited.usage, { input_tokens_details: { text_tokens: 1, image_tokens: 200 } })
  assert.partialDeepStrictEqual(await lastUsage(), { input_tokens: 201, input_image_tokens: 200 })
  assert.match((await client.images.createVariation({ image })).data?.[0]?.url ?? '', /^data:image\/png/)
})

test('a streamed image tells its usage at the end', async () => {
  const events = await Array.fromAsync(
    await client.images.generate({ model: 'gpt-image-2', prompt: 'a fox', stream: true, partial_images: 1 }),
  )

  assert.deepEqual(
    events.map(({ type }) => type),
    ['image_generation.partial_image', 'image_generation.completed'],
  )
  assert.partialDeepStrictEqual(events.at(-1), { usage: { output_tokens: 100 } })
  assert.equal((await lastUsage())?.output_tokens, 100)
})

test('speech says what it was given, and is counted though it tells no usage', async () => {
  const speech = await client.audio.speech.create({ model: 'gpt-4o-mini-tts', voice: 'alloy', input: 'Good morning' })

  assert.equal(speech.headers.get('content-type'), 'audio/mpeg')
  assert.equal(await speech.text(), 'ID3Good morning')
  assert.partialDeepStrictEqual(await lastUsage(), { input_tokens: 3, output_audio_tokens: 15, characters: 12 })
})

test('what is heard is written down, in every format, with the usage of the model', async () => {
  const file = () => toFile(Buffer.from('ID3Good morning'), 'speech.mp3')
  const listen = async (model: string, response_format: 'json' | 'text' | 'verbose_json' | 'srt' | 'vtt') =>
    client.audio.transcriptions.create({ model, file: await file(), response_format })
  const json = await listen('gpt-4o-transcribe', 'json')
  const verbose = await listen('whisper-1', 'verbose_json')

  assert.partialDeepStrictEqual(json, { text: 'Good morning', usage: { type: 'tokens', output_tokens: 3 } })
  assert.partialDeepStrictEqual(verbose, { text: 'Good morning', usage: { type: 'duration', seconds: 1 } })
  assert.equal(await listen('whisper-1', 'text'), 'Good morning\n')
  assert.match(String(await listen('whisper-1', 'srt')), /-->/)
  assert.match(String(await listen('whisper-1', 'vtt')), /^WEBVTT/)
  assert.equal(
    (await client.audio.translations.create({ model: 'whisper-1', file: await file() })).text,
    'Good morning',
  )
  assert.partialDeepStrictEqual(await lastUsage(), { input_audio_tokens: 1, seconds: 1 })
  const stream = await client.audio.transcriptions.create({
    model: 'gpt-4o-transcribe',
    file: await file(),
    stream: true,
  })
  assert.equal((await Array.fromAsync(stream)).at(-1)?.type, 'transcript.text.done')
  await assert.rejects(client.post('/audio/transcriptions', { body: { model: 'whisper-1' } }), { status: 400 })
})

test('moderations flag violence and cost nothing', async () => {
  const { results } = await client.moderations.create({ input: ['kittens', 'violence'] })

  assert.deepEqual(
    results.map(({ flagged }) => flagged),
    [false, true],
  )
  assert.equal(await lastUsage(), null)
})

test('old completions answer, whole and streamed', async () => {
  const ask = { model: 'gpt-3.5-turbo-instruct', prompt: 'ping' }
  const whole = await client.completions.create(ask)
  const chunks = await Array.fromAsync(
    await client.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } }),
  )

  assert.equal(whole.choices[0]?.text, 'You said: ping')
  assert.equal(whole.usage?.completion_tokens, 3)
  assert.equal(chunks.map(({ choices }) => choices[0]?.text ?? '').join(''), 'You said: ping')
  assert.deepEqual(chunks.at(-1)?.usage, whole.usage)
  assert.equal((await lastUsage())?.output_tokens, 3)
})

test('models are listed and found', async () => {
  const ids = (await Array.fromAsync(client.models.list())).map(({ id }) => id)

  assert.ok(ids.includes('gpt-6.1-sol'))
  assert.equal((await client.models.retrieve('gpt-6.1-sol')).id, 'gpt-6.1-sol')
  await assert.rejects(client.models.retrieve('no-such'), { status: 404 })
})
