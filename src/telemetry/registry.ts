/**
 * Metrics in the text format of Prometheus. To count is to add to a number in memory; all text is made when somebody asks for it.
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/
 */
export class Registry {
  readonly #families: Family[] = []

  /** Counts by label values that come from closed lists; should they not, what is beyond the bound is counted as `other`. */
  counter(name: string, help: string, ...labelNames: string[]): Counter {
    const counter = new Counter(labelNames)
    this.#families.push({ name, help, type: 'counter', samples: () => counter.samples() })
    return counter
  }

  /** @param bounds upper bounds of the buckets, in seconds and rising. */
  histogram(name: string, help: string, bounds: readonly number[]): Histogram {
    const histogram = new Histogram(bounds)
    this.#families.push({ name, help, type: 'histogram', samples: () => histogram.samples() })
    return histogram
  }

  /** A value that somebody else keeps, asked for when it is wanted. */
  observe(type: 'gauge' | 'counter', name: string, help: string, read: () => number | Sample[]): void {
    const samples = () => {
      const found = read()
      return typeof found === 'number' ? [{ labels: {}, value: found }] : found
    }
    this.#families.push({ name, help, type, samples })
  }

  /** Everything, as the body of an answer. */
  render(): string {
    return this.#families.map(renderFamily).join('')
  }
}

export interface Sample {
  /** Appended to the family's name, as `_bucket` is. */
  suffix?: string
  labels: Record<string, string>
  /** Text where a number would not be exact. */
  value: number | string
}

interface Family {
  name: string
  help: string
  type: 'counter' | 'gauge' | 'histogram'
  samples(): Sample[]
}

export class Counter {
  readonly #labelNames: readonly string[]
  readonly #children = new Map<string, { labels: Record<string, string>; value: number }>()

  constructor(labelNames: readonly string[]) {
    this.#labelNames = labelNames
    // A counter that nothing has happened to is 0, not absent.
    if (labelNames.length === 0) this.add(0)
  }

  add(amount: number, ...labelValues: string[]): void {
    const key = labelValues.join('\n')
    const child = this.#children.get(key)
    if (child) {
      child.value += amount
      return
    }
    if (this.#children.size >= SERIES_MAX && labelValues.some((value) => value !== OTHER)) {
      this.add(amount, ...labelValues.map(() => OTHER))
      return
    }
    const labels = Object.fromEntries(this.#labelNames.map((name, at) => [name, labelValues[at] ?? '']))
    this.#children.set(key, { labels, value: amount })
  }

  samples(): Sample[] {
    return [...this.#children.values()]
  }
}

export class Histogram {
  readonly #bounds: readonly number[]
  readonly #counts: number[]
  #count = 0
  #sum = 0

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds
    this.#counts = bounds.map(() => 0)
  }

  observe(seconds: number): void {
    this.#count += 1
    this.#sum += seconds
    const at = this.#bounds.findIndex((bound) => seconds <= bound)
    if (at !== -1) this.#counts[at] = (this.#counts[at] ?? 0) + 1
  }

  samples(): Sample[] {
    let below = 0
    const buckets = this.#bounds.map((bound, at) => {
      below += this.#counts[at] ?? 0
      return { suffix: '_bucket', labels: { le: String(bound) }, value: below }
    })
    return [
      ...buckets,
      { suffix: '_bucket', labels: { le: '+Inf' }, value: this.#count },
      { suffix: '_sum', labels: {}, value: this.#sum },
      { suffix: '_count', labels: {}, value: this.#count },
    ]
  }
}

/** Of one metric. */
const SERIES_MAX = 100
export const OTHER = 'other'

function renderFamily({ name, help, type, samples }: Family): string {
  const lines = samples().map(({ suffix = '', labels, value }) => `${name}${suffix}${renderLabels(labels)} ${value}\n`)
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}

function renderLabels(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, escapeCharacter)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escapeCharacter(character: string): string {
  return character === '\n' ? '\\n' : `\\${character}`
}
