/** One table as RFC 4180 has it, in UTF-8: a header and lines that end in CR LF. */
export function toCsv<Row>(columns: readonly CsvColumn<Row>[], rows: readonly Row[]): string {
  const lines = [
    columns.map(([title]) => title),
    ...rows.map((row) => columns.map(([, value]) => formatCell(value(row)))),
  ]
  return lines.map((cells) => `${cells.map(quote).join(',')}\r\n`).join('')
}

export type CsvColumn<Row> = readonly [title: string, value: (row: Row) => CsvValue]
export type CsvValue = string | number | bigint | boolean | null | readonly string[]

/**
 * Text is anybody's: what a spreadsheet would take for a formula begins with an apostrophe, which it takes for "this is text". Numbers
 * are ours and stay numbers.
 * @see https://owasp.org/www-community/attacks/CSV_Injection
 */
function formatCell(value: CsvValue): string {
  if (value === null) return ''
  if (typeof value === 'object') return formatCell(value.join(' '))
  if (typeof value !== 'string') return String(value)
  const text = value.replaceAll('\0', '').toWellFormed()
  return /^[=+\-@\t\r\n＝＋－＠]/.test(text) ? `'${text}` : text
}

function quote(cell: string): string {
  return /[",\r\n]/.test(cell) || /^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell
}
