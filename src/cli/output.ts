/** The one place of the command line that prints: results on standard output, all else on standard error. */
import { stripVTControlCharacters } from 'node:util'
import { type CsvColumn, type CsvValue, toCsv } from '../csv.ts'
import { AppError } from '../errors.ts'

export interface OutputOptions {
  json?: boolean | undefined
  csv?: boolean | undefined
}

/** A command's result: the document for `--json`, else the lines. */
export function printResult({ json }: OutputOptions, document: unknown, lines: readonly string[]): void {
  write(process.stdout, json ? `${JSON.stringify(document, undefined, 2)}\n` : `${lines.join('\n')}\n`)
}

/** A result that is a table as well: the document for `--json`, its rows for `--csv`, else the lines. */
export function printTable<Row extends object>(
  options: OutputOptions,
  document: unknown,
  rows: readonly Row[],
  titles: readonly string[],
  lines: readonly string[],
): void {
  if (!options.csv) {
    printResult(options, document, lines)
    return
  }
  if (options.json) throw new AppError('invalid_request', 'A result is printed in one form: --json or --csv.')
  const columns: CsvColumn<Row>[] = titles.map((title) => [
    title,
    (row) => (row as Record<string, CsvValue>)[title] ?? null,
  ])
  printText(toCsv(columns, rows))
}

/** What belongs to no document, with a line end only if it has one. */
export function printProgress(text: string): void {
  write(process.stderr, text)
}

/** A piece of a result as it arrives. */
export function printText(text: string): void {
  write(process.stdout, text)
}

export function printNote(sentence: string): void {
  write(process.stderr, `${sentence}\n`)
}

/** What went right, but not as the operator may have meant it. */
export function printWarning(sentence: string): void {
  printNote(`Warning: ${plain(sentence)}`)
}

/** One line, whatever the sentence holds. */
export function printError(sentence: string): void {
  printNote(`Error: ${plain(sentence)}`)
}

/** Names are anybody's text: without what would move the cursor, colour the terminal, or pass for another line. */
export function plain(text: string): string {
  return stripVTControlCharacters(text.toWellFormed().replace(BREAKS, ' ')).replace(UNPRINTABLE, '')
}

/** `Label: value`, with `None` for what is not set. */
export function field(label: string, value: string | null): string {
  return `${label}: ${value === null ? 'None' : plain(value)}`
}

/** `YYYY-MM-DD HH:MM:SS.ffffff+00:00` */
export function formatTime(time: Date): string {
  return time.toISOString().replace('T', ' ').replace('Z', '000+00:00')
}

export interface Column<Row> {
  title: string
  align?: 'right'
  value(row: Row): string
}

/** Columns as wide as what is in them, two blanks apart. */
export function formatTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string[] {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => columns.map(({ value }) => plain(value(row))))]
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => line[index]?.length ?? 0)))
  return cells.map((line) =>
    line
      .map((cell, index) => {
        const width = widths[index] ?? 0
        return columns[index]?.align === 'right' ? cell.padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd(),
  )
}

/** Resolves when nobody reads standard output any more, as after `| head`. */
export const outputClosed: Promise<void> = new Promise((resolve) => {
  process.stdout.on('error', (error) => {
    resolve()
    if ('code' in error && error.code === 'EPIPE') return
    process.exitCode = 1
    printError('Standard output cannot be written to.')
  })
})
process.stderr.on('error', () => {})

const BREAKS = /[\t\n\r\u2028\u2029]+/g
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it removes
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

function write(stream: NodeJS.WriteStream, text: string): void {
  if (stream.writable) stream.write(text)
}
