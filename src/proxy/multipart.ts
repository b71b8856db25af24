import { isUtf8 } from 'node:buffer'
import { AppError } from '../errors.ts'

/** A text field of a form that somebody reads. */
export interface FormField {
  /** As it was sent, brackets included. */
  name: string
  value: string
}

/** Bytes to be passed on; those of a field only once it has been checked. */
export interface FormPiece {
  field: FormField | undefined
  bytes: Buffer
}

interface FormOptions {
  /** The fields that somebody reads. */
  reads(name: string): boolean
  /** What a field that is read becomes; undefined leaves it as it is. */
  edit(field: FormField): string | undefined
}

/**
 * Reads multipart/form-data (RFC 7578, RFC 2046) as it arrives. Files pass through; the fields that are read are told before their
 * bytes may go on.
 * Whatever two parsers could read differently is refused: bare line feeds, text before the first part, a boundary within content,
 * doubled or encoded headers, files under the name of a text field.
 */
export class FormReader {
  readonly #delimiter: Buffer
  readonly #options: FormOptions
  #rest: Buffer = Buffer.alloc(0)
  #state: 'start' | 'headers' | 'field' | 'passing' | 'end' = 'start'
  #head: Buffer = Buffer.alloc(0)
  #name = ''
  #partCount = 0

  constructor(boundary: string, options: FormOptions) {
    this.#delimiter = Buffer.from(`--${boundary}`)
    this.#options = options
  }

  /** @throws {AppError} `invalid_request` */
  push(chunk: Buffer): FormPiece[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const pieces: FormPiece[] = []
    while (this.#step(pieces)) {}
    return pieces
  }

  /**
   * The form is over.
   * @throws {AppError} `invalid_request` when it is not complete.
   */
  finish(): FormPiece {
    if (this.#state !== 'end' || (this.#rest.length > 0 && !this.#rest.equals(CRLF))) {
      throw invalidForm('It ends before its last boundary.')
    }
    return { field: undefined, bytes: this.#rest }
  }

  /** Reads on where it can. @returns false when more has to come first. */
  #step(pieces: FormPiece[]): boolean {
    switch (this.#state) {
      case 'start':
        return this.#readStart(pieces)
      case 'headers':
        return this.#readHeaders(pieces)
      case 'end':
        if (this.#rest.length > CRLF.length) throw invalidForm('Something stands behind its last boundary.')
        return false
      default:
        return this.#readContent(pieces)
    }
  }

  #readStart(pieces: FormPiece[]): boolean {
    const end = this.#delimiter.length
    if (this.#rest.length < end + 2) return false
    if (!this.#rest.subarray(0, end).equals(this.#delimiter)) throw invalidForm('It does not begin with its boundary.')
    return this.#endDelimiter(pieces, Buffer.alloc(0), end)
  }

  /** Behind a delimiter comes a line break and the next part, or two hyphens and nothing more. */
  #endDelimiter(pieces: FormPiece[], before: Buffer, end: number): boolean {
    const tail = this.#rest.subarray(end, end + 2)
    const isLast = tail.equals(HYPHENS)
    if (!isLast && !tail.equals(CRLF)) throw invalidForm('Its boundary stands within a part.')
    pieces.push({ field: undefined, bytes: Buffer.concat([before, this.#rest.subarray(before.length, end + 2)]) })
    this.#rest = this.#rest.subarray(end + 2)
    this.#state = isLast ? 'end' : 'headers'
    return true
  }

  #readHeaders(pieces: FormPiece[]): boolean {
    const end = this.#rest.indexOf(HEADERS_END)
    if (end === -1 && this.#rest.length <= HEADERS_MAX) return false
    if (end === -1 || end > HEADERS_MAX) throw invalidForm('A part has headers that are too long.')
    this.#partCount += 1
    if (this.#partCount > PARTS_MAX) throw invalidForm(`It has more than ${PARTS_MAX} parts.`)
    const { name, isFile } = readPartHeaders(this.#rest.toString('utf8', 0, end))
    const head = this.#rest.subarray(0, end + HEADERS_END.length)
    this.#rest = this.#rest.subarray(head.length)
    this.#name = name
    this.#state = !isFile && this.#options.reads(name) ? 'field' : 'passing'
    if (this.#state === 'field') this.#head = head
    else pieces.push({ field: undefined, bytes: head })
    return true
  }

  #readContent(pieces: FormPiece[]): boolean {
    const at = this.#rest.indexOf(this.#delimiter)
    if (at === -1) {
      if (this.#state === 'field') {
        if (this.#rest.length > FIELD_MAX) throw invalidForm(`"${this.#name}" is too long.`)
        return false
      }
      // What may be the beginning of the next boundary, line break included, is kept back.
      const safe = this.#rest.length - this.#delimiter.length - CRLF.length
      if (safe > 0) {
        pieces.push({ field: undefined, bytes: this.#rest.subarray(0, safe) })
        this.#rest = this.#rest.subarray(safe)
      }
      return false
    }
    const end = at + this.#delimiter.length
    if (this.#rest.length < end + 2) return false
    const contentEnd = at - CRLF.length
    if (contentEnd < 0 || !this.#rest.subarray(contentEnd, at).equals(CRLF)) {
      throw invalidForm('Its boundary stands within a part.')
    }
    const content = this.#rest.subarray(0, contentEnd)
    if (this.#state === 'passing') return this.#endDelimiter(pieces, content, end)
    this.#endField(pieces, content)
    this.#rest = this.#rest.subarray(contentEnd)
    return this.#endDelimiter(pieces, Buffer.alloc(0), end - contentEnd)
  }

  #endField(pieces: FormPiece[], content: Buffer): void {
    if (content.length > FIELD_MAX) throw invalidForm(`"${this.#name}" is too long.`)
    if (!isUtf8(content)) throw invalidForm(`"${this.#name}" is not text in UTF-8.`)
    const field = { name: this.#name, value: content.toString() }
    const edited = this.#options.edit(field)
    pieces.push({ field, bytes: Buffer.concat([this.#head, edited === undefined ? content : Buffer.from(edited)]) })
    this.#head = Buffer.alloc(0)
  }
}

/**
 * The boundary of a form.
 * @returns undefined when the content type is not that of a form, with one boundary and nothing else.
 */
export function boundaryOf(contentType: string | undefined): string | undefined {
  const found = /^multipart\/form-data\s*;\s*boundary=(?:"([^"\\]{1,70})"|([^\s";,]{1,70}))\s*$/i.exec(
    contentType ?? '',
  )
  const boundary = found?.[1] ?? found?.[2]
  return boundary !== undefined && /^[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]$/.test(boundary) ? boundary : undefined
}

/** Names of parts that are files; a file under any other name would be a text field that nobody has read. */
const FILE_NAMES = new Set(['file', 'image', 'mask', 'data', 'audio_sample'])

const HEADERS_MAX = 8 * 1024
const FIELD_MAX = 4096
const PARTS_MAX = 1000
const CRLF = Buffer.from('\r\n')
const HYPHENS = Buffer.from('--')
const HEADERS_END = Buffer.from('\r\n\r\n')

function readPartHeaders(text: string): { name: string; isFile: boolean } {
  let disposition: string | undefined
  let contentType: string | undefined
  for (const line of text.split('\r\n')) {
    const [, header = '', value = ''] = /^([\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
    const isKnown = header.toLowerCase()
    if (isKnown === 'content-disposition' && disposition === undefined) disposition = value
    else if (isKnown === 'content-type' && contentType === undefined) contentType = value
    else if (isKnown === 'content-length') continue
    else if (isKnown === 'content-transfer-encoding' && /^(?:binary|7bit|8bit)$/i.test(value)) continue
    else throw invalidForm('A part has headers that are not accepted: send its name and its type only.')
  }
  const { name, isFile } = readDisposition(disposition ?? '')
  if (isFile && !FILE_NAMES.has(name.replace(/\[\d*\]$/, ''))) throw invalidForm(`"${name}" must not be a file.`)
  if (!isFile && contentType !== undefined && !/^text\/plain(?:\s*;\s*charset="?utf-8"?)?$/i.test(contentType)) {
    throw invalidForm(`"${name}" must be plain text in UTF-8.`)
  }
  return { name, isFile }
}

function readDisposition(value: string): { name: string; isFile: boolean } {
  if (!DISPOSITION.test(value)) throw invalidForm('A part has a Content-Disposition that cannot be read.')
  const parameters = new Map<string, string>()
  for (const [, parameter = '', quoted, token] of value.matchAll(PARAMETER)) {
    const known = parameter.toLowerCase()
    if (parameters.has(known)) throw invalidForm('A part is named twice.')
    parameters.set(known, quoted ?? token ?? '')
  }
  const name = parameters.get('name')
  if (name === undefined || !/^[\w.[\]-]{1,128}$/.test(name) || name === '_charset_') {
    throw invalidForm('A part has no name, or one that is not accepted.')
  }
  return { name, isFile: parameters.has('filename') || parameters.has('filename*') }
}

/** Some clients escape quotes in file names, others write them as %22. */
const PARAMETER = /;[ \t]*(name|filename\*?)=(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))/gi
const DISPOSITION = /^form-data(?:;[ \t]*(?:name|filename\*?)=(?:"(?:[^"\\]|\\.)*"|[^\s";]+))+$/i

function invalidForm(why: string): AppError {
  return new AppError('invalid_request', `The multipart form cannot be accepted. ${why}`)
}
