/** A line of two texts: in both, only in the former, or only in the latter. */
export interface DiffLine {
  kind: 'same' | 'removed' | 'added'
  text: string
}

/** What changed from one text to another, line by line, by the longest sequence of lines that both have. */
export function diffLines(from: string, to: string): DiffLine[] {
  const [a, b] = [from.split('\n'), to.split('\n')]
  let start = 0
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1
  let end = 0
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end += 1
  return [
    ...a.slice(0, start).map(same),
    ...diffMiddle(a.slice(start, a.length - end), b.slice(start, b.length - end)),
    ...a.slice(a.length - end).map(same),
  ]
}

/** Beyond it, which is a thousand changed lines on either side, all of them are told as replaced. */
const CELLS_MAX = 1_000_000

function diffMiddle(a: readonly string[], b: readonly string[]): DiffLine[] {
  const width = b.length + 1
  if ((a.length + 1) * width > CELLS_MAX) return [...a.map(removed), ...b.map(added)]
  /** How many lines the texts behind each pair of places have in common. */
  const common = new Uint32Array((a.length + 1) * width)
  const at = (x: number, y: number) => common[x * width + y] ?? 0
  for (let x = a.length - 1; x >= 0; x -= 1) {
    for (let y = b.length - 1; y >= 0; y -= 1) {
      common[x * width + y] = a[x] === b[y] ? at(x + 1, y + 1) + 1 : Math.max(at(x + 1, y), at(x, y + 1))
    }
  }
  const lines: DiffLine[] = []
  let [x, y] = [0, 0]
  while (x < a.length || y < b.length) {
    if (x < a.length && y < b.length && a[x] === b[y]) {
      lines.push(same(a[x] ?? ''))
      x += 1
      y += 1
    } else if (y === b.length || (x < a.length && at(x + 1, y) >= at(x, y + 1))) lines.push(removed(a[x++] ?? ''))
    else lines.push(added(b[y++] ?? ''))
  }
  return lines
}

const same = (text: string): DiffLine => ({ kind: 'same', text })
const removed = (text: string): DiffLine => ({ kind: 'removed', text })
const added = (text: string): DiffLine => ({ kind: 'added', text })
