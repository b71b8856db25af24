/** What became of the rows of one table, in words that an operator can act on. */
export interface TableReport {
  found: number
  imported: number
  /** Imported before, or made here under the same id. */
  present: number
  /** Imported, but not quite as they were; and left out. By reason. */
  changed: Reason[]
  skipped: Reason[]
}

export interface Reason {
  why: string
  count: number
  /** The first few ids. */
  examples: string[]
}

export class Tally implements TableReport {
  found = 0
  imported = 0
  present = 0
  readonly changed: Reason[] = []
  readonly skipped: Reason[] = []

  change(id: string, why: string): void {
    note(this.changed, id, why)
  }

  skip(id: string, why: string): void {
    note(this.skipped, id, why)
  }
}

const EXAMPLES_MAX = 5

function note(reasons: Reason[], id: string, why: string): void {
  let reason = reasons.find((one) => one.why === why)
  if (!reason) {
    reason = { why, count: 0, examples: [] }
    reasons.push(reason)
  }
  reason.count += 1
  if (reason.examples.length < EXAMPLES_MAX) reason.examples.push(id)
}
