import { hash } from 'node:crypto'
import { ApiError } from './api-error.ts'
import { type Call, sendJson } from './call.ts'
import { json, type Routes } from './handler.ts'
import { knownModel, resolveModel } from './models.ts'
import { charsIn, inputTokens } from './usage.ts'

/** `POST /v1/embeddings`: a unit vector made from the SHA-256 of each input, the same for the same text. */
export const embeddingRoutes: Routes = { 'POST /embeddings': json((_, call) => createEmbeddings(call)) }

function createEmbeddings(call: Call): Promise<void> | undefined {
  const { body, behaviour, entry } = call
  const model = knownModel(body)
  const { input } = body
  if (typeof input !== 'string' && !Array.isArray(input)) {
    throw new ApiError(400, "Missing required parameter: 'input'.", {
      param: 'input',
      code: 'missing_required_parameter',
    })
  }
  const inputs = typeof input === 'string' || typeof input[0] === 'number' ? [input] : input
  const dimensions = typeof body.dimensions === 'number' ? body.dimensions : model.includes('3-large') ? 3072 : 1536
  const usage = inputTokens(
    inputs.reduce((sum, each) => sum + charsOrTokens(each), 0),
    behaviour,
  )
  entry.usage = usage
  return sendJson(call, 200, {
    object: 'list',
    data: inputs.map((each, index) => ({
      object: 'embedding',
      index,
      embedding: encoded(vectorOf(JSON.stringify(each), dimensions), body.encoding_format === 'base64'),
    })),
    model: resolveModel(behaviour.model ?? model),
    usage: { prompt_tokens: usage.input_tokens, total_tokens: usage.input_tokens },
  })
}

/** Tokens sent as numbers count as the four characters they stand for. */
function charsOrTokens(input: unknown): number {
  return Array.isArray(input) ? input.length * 4 : charsIn(input)
}

function encoded(vector: Float32Array<ArrayBuffer>, inBase64: boolean): string | number[] {
  return inBase64 ? Buffer.from(vector.buffer).toString('base64') : Array.from(vector)
}

function vectorOf(text: string, dimensions: number): Float32Array<ArrayBuffer> {
  let state = hash('sha256', text, 'buffer').readUInt32LE()
  const vector = new Float32Array(dimensions)
  for (let index = 0; index < dimensions; index++) {
    // A linear congruential generator (Numerical Recipes) is random enough to tell texts apart.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    vector[index] = state / 2 ** 31 - 1
  }
  const length = Math.hypot(...vector)
  return vector.map((value) => value / length)
}
