import { AppError } from '../errors.ts'
import { type Endpoint, findEndpoints } from './endpoints.ts'
import { JsonFields } from './json-fields.ts'
import { type Payload, PayloadReader } from './payload.ts'

/** One call of a batch. */
export interface BatchLine {
  number: number
  endpoint: Endpoint
  payload: Payload
}

/**
 * Reads the lines of a batch's input file, one at a time. Each must be a call that could be made here on its own: what it names, and the
 * model it asks for, is for the caller of this to check.
 * @throws {AppError} `invalid_request` naming the line at fault.
 */
export async function* readBatchLines(
  file: AsyncIterable<Buffer>,
  options: { isBatched: (endpoint: Endpoint) => boolean; lineBytesMax: number },
): AsyncGenerator<BatchLine> {
  let number = 0
  for await (const line of splitLines(file, options.lineBytesMax)) {
    number += 1
    if (line.length < BLANK_MAX && isBlank(line)) continue
    if (number > LINES_MAX) throw invalidLine(number, `A batch has at most ${LINES_MAX} lines.`)
    yield readLine(line, number, options.isBatched)
  }
}

/** OpenAI's own limit. */
const LINES_MAX = 50_000

function readLine(line: Buffer, number: number, isBatched: (endpoint: Endpoint) => boolean): BatchLine {
  if (LINE_ENDS.some((end) => line.includes(end))) {
    throw invalidLine(
      number,
      'It has a character in it that some readers take for the end of a line: write it as an escape.',
    )
  }
  const json = new JsonFields({ wanted: ['method', 'url', 'body'], captureMax: line.length })
  json.push(line)
  if (!json.isComplete) throw invalidLine(number, 'It is not a JSON object.')
  if (json.duplicates.length > 0) throw invalidLine(number, 'It has the same field more than once.')
  if (json.value('method') !== 'POST') throw invalidLine(number, '"method" must be "POST".')
  const url = json.value('url')
  const endpoint = typeof url === 'string' ? findEndpoints(url)?.endpoints.find(isBatched) : undefined
  if (!endpoint) throw invalidLine(number, '"url" names no endpoint that can be called in a batch here.')
  const body = json.fields.get('body')?.raw
  if (!body) throw invalidLine(number, '"body" is missing.')
  const reader = new PayloadReader()
  try {
    reader.push(body)
    const payload = reader.finish()
    if (payload.isStream) throw new AppError('invalid_request', '"stream" is not possible in a batch.')
    return { number, endpoint, payload }
  } catch (error) {
    if (error instanceof AppError) throw invalidLine(number, error.message)
    throw error
  }
}

/** Lines without their ends; only line feeds end one, as JSON may hold every other character. */
async function* splitLines(file: AsyncIterable<Buffer>, lineBytesMax: number): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = []
  let bytes = 0
  let number = 1
  for await (const chunk of file) {
    let at = 0
    for (;;) {
      const end = chunk.indexOf(LF, at)
      const piece = chunk.subarray(at, end === -1 ? chunk.length : end)
      bytes += piece.length
      if (bytes > lineBytesMax) throw invalidLine(number, `It is longer than the ${lineBytesMax} bytes accepted.`)
      pieces.push(piece)
      if (end === -1) break
      yield withoutCr(Buffer.concat(pieces))
      number += 1
      pieces = []
      bytes = 0
      at = end + 1
    }
  }
  if (bytes > 0) yield withoutCr(Buffer.concat(pieces))
}

const LF = 0x0a
/** What else ends a line for readers of text: VT, FF, the separators of ASCII, NEL, and those of Unicode; and CR but at the very end. */
const LINE_ENDS = ['\v', '\f', '\x1c', '\x1d', '\x1e', '\x85', '\u2028', '\u2029', '\r'].map((end) => Buffer.from(end))

const CR = 0x0d

function withoutCr(line: Buffer): Buffer {
  return line.at(-1) === CR ? line.subarray(0, -1) : line
}

const BLANK_MAX = 256

function isBlank(line: Buffer): boolean {
  return /^\s*$/.test(line.toString('latin1'))
}

function invalidLine(number: number, why: string): AppError {
  return new AppError('invalid_request', `Line ${number} of the batch's input file cannot be sent. ${why}`, {
    param: 'input_file_id',
  })
}
