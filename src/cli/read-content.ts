import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { AppError } from '../errors.ts'

/**
 * The content of a persona from an argument or a file; `-` is standard input. The line break that editors put at the end of a file
 * is not part of it.
 * @returns undefined when neither is given.
 */
export async function readContent(from: { argument?: string | undefined; file?: string | undefined }) {
  if (from.argument !== undefined && from.file !== undefined) {
    throw new AppError('invalid_request', 'The content was given twice: as text and with --content-file.')
  }
  if (from.file === undefined) return from.argument
  const content = from.file === '-' ? await text(process.stdin) : await readContentFile(from.file)
  return content.replace(/\r?\n$/, '')
}

async function readContentFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    throw new AppError('invalid_request', `The file ${file} cannot be read: check the path and its permissions.`)
  }
}
