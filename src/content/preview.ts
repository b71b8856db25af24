import type { Body } from './service.ts'

/** The first characters of what was asked, as a person would read it; undefined when the body does not say. */
export function previewInput(body: Body | undefined, characters: number): string | undefined {
  const parsed = parse(body?.text)
  return shorten(textOf(parsed?.input) ?? textOf(parsed?.messages), characters)
}

/** The first characters of the answer, whole or streamed. */
export function previewOutput(body: Body | undefined, characters: number): string | undefined {
  const parsed = parse(body?.text)
  const text = parsed ? (textOf(parsed.output) ?? textOf(parsed.choices)) : textOfStream(body?.text ?? '', characters)
  return shorten(text, characters)
}

/** The deltas of a stream, as many as are needed. */
function textOfStream(stream: string, characters: number): string | undefined {
  let text = ''
  for (const [, data] of stream.matchAll(/^data: ?(\{.*)$/gm)) {
    const event = parse(data)
    if (event?.type === 'response.output_text.delta' && typeof event.delta === 'string') text += event.delta
    else if (Array.isArray(event?.choices)) text += textOf(event.choices) ?? ''
    if (text.length >= characters * 2) break
  }
  return text === '' ? undefined : text
}

/** The text of an item, a message, a part, or a list of them: what is no text, such as reasoning or an image, is passed over. */
function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (Array.isArray(value)) {
    const texts = value.flatMap((item) => textOf(item) ?? [])
    return texts.length === 0 ? undefined : texts.join('\n')
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { text, content, message, delta, refusal } = value as Record<string, unknown>
  return textOf(text) ?? textOf(content) ?? textOf(message) ?? textOf(delta) ?? textOf(refusal)
}

function parse(text: string | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text ?? '')
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

/** By characters as people count them, and storable anywhere. */
function shorten(text: string | undefined, characters: number): string | undefined {
  if (text === undefined) return undefined
  return Array.from(text.slice(0, characters * 2).replaceAll('\0', ''))
    .slice(0, characters)
    .join('')
    .toWellFormed()
}
