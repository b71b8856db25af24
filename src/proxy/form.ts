import type { IncomingMessage } from 'node:http'
import { AppError } from '../errors.ts'
import type { Outgoing } from './headers.ts'
import { type FormField, type FormPiece, FormReader } from './multipart.ts'
import { bodyTooLarge } from './payload.ts'

/** A form on its way: its beginning has been read, the rest passes at the pace of whoever takes it. */
export interface Form {
  /** Fields that were read in its beginning. */
  fields: readonly FormField[]
  /** Whether there is nothing behind its beginning. */
  isWhole: boolean
  send(passing: Passing): Outgoing
  /** Nothing more is read: the request is free for whoever answers it. */
  close(): Promise<void>
}

/** What happens on the way. Throwing breaks the form off, so that OpenAI never has the whole of it. */
interface Passing {
  /** A later field, before its bytes are passed on. */
  onField(field: FormField): Promise<void>
  /** Every field has come; the last bytes are still here. */
  onEnd(): void
  /** Each piece that is passed on. */
  onBytes(bytes: Buffer): void
}

interface FormRules {
  boundary: string
  bytesMax: number
  reads(name: string): boolean
  edit(field: FormField): string | undefined
}

/**
 * Reads the beginning of a form, where most have all their fields; files are passed on as they arrive, and never held.
 * @throws {AppError} `body_too_large`, or `invalid_request` for a form that is broken or ambiguous.
 */
export async function openForm(request: IncomingMessage, rules: FormRules): Promise<Form> {
  let addedBytes = 0
  const reader = new FormReader(rules.boundary, {
    reads: rules.reads,
    edit(field) {
      const edited = rules.edit(field)
      if (edited !== undefined) addedBytes += Buffer.byteLength(edited) - Buffer.byteLength(field.value)
      return edited
    },
  })
  const pieces = readPieces(request, reader, rules.bytesMax)
  const beginning: FormPiece[] = []
  let bytes = 0
  let isWhole = false
  while (bytes < BEGINNING_BYTES) {
    const next = await pieces.next()
    isWhole = next.done === true
    if (next.done) break
    beginning.push(...next.value)
    for (const piece of next.value) bytes += piece.bytes.length
  }
  const announced = request.headers['content-length']
  return {
    async close() {
      await pieces.return(undefined)
    },
    fields: beginning.flatMap(({ field }) => field ?? []),
    isWhole,
    send: (passing) => ({
      contentType: `multipart/form-data; boundary="${rules.boundary}"`,
      bytes: isWhole ? bytes : announced === undefined ? undefined : Number(announced) + addedBytes,
      content: passOn(beginning, isWhole ? undefined : pieces, passing),
    }),
  }
}

const BEGINNING_BYTES = 256 * 1024

async function* passOn(
  beginning: FormPiece[],
  rest: AsyncGenerator<FormPiece[]> | undefined,
  { onField, onEnd, onBytes }: Passing,
): AsyncGenerator<Buffer> {
  let held: Buffer | undefined
  async function* pass(pieces: FormPiece[], isChecked: boolean): AsyncGenerator<Buffer> {
    for (const { field, bytes } of pieces) {
      if (field && !isChecked) await onField(field)
      if (bytes.length === 0) continue
      if (held) yield held
      held = bytes
      onBytes(bytes)
    }
  }
  // Taken out as they go, so that nothing is held for as long as the rest takes.
  yield* pass(beginning.splice(0), true)
  if (rest) for await (const pieces of rest) yield* pass(pieces, false)
  onEnd()
  if (held) yield held
}

async function* readPieces(
  request: IncomingMessage,
  reader: FormReader,
  bytesMax: number,
): AsyncGenerator<FormPiece[]> {
  let length = 0
  try {
    // Leaving the loop early must not destroy the socket that the refusal goes out on.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > bytesMax) throw bodyTooLarge(bytesMax)
      yield reader.push(chunk)
    }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('invalid_request', 'The request ended before its body did.')
  }
  yield [reader.finish()]
}
