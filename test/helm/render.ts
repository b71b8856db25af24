import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse, parseAllDocuments, stringify } from 'yaml'

export const CHART = join(import.meta.dirname, '../../deploy/helm')

export type Values = { [name: string]: unknown }

// biome-ignore lint/suspicious/noExplicitAny: as deep as Kubernetes makes them
export type Document = any

/**
 * The chart's documents, by the small part of Helm's template language that its templates keep to: fields, variables of `range`, pipes,
 * `if`, `with`, `range`, `define`, and the functions below. Anything else is an error, so that no template outgrows its test.
 */
export function renderChart(values: Values = {}): Document[] {
  const chart = parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8'))
  const defaults = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8'))
  const root = {
    Values: merge(defaults, values),
    Release: { Name: 'openai-proxy' },
    Chart: { AppVersion: chart.appVersion },
  }
  const definitions = new Map<string, Node[]>()
  const files = readdirSync(join(CHART, 'templates')).map((file) => {
    const nodes = parseTemplate(readFileSync(join(CHART, 'templates', file), 'utf8'))
    for (const node of nodes) if (node.kind === 'define') definitions.set(node.argument, node.body)
    return { file, nodes }
  })
  return files
    .filter(({ file }) => file.endsWith('.yaml'))
    .flatMap(({ file, nodes }) => {
      const text = renderNodes(nodes, { root, dot: root, variables: {}, definitions })
      return parseAllDocuments(text).map((document) => {
        if (document.errors.length > 0) throw new Error(`${file}: ${document.errors[0]?.message}\n${text}`)
        return document.toJS()
      })
    })
    .filter((document) => document !== null)
}

interface Block {
  kind: 'if' | 'with' | 'range' | 'define'
  argument: string
  body: Node[]
}

type Node = Block | { kind: 'text' | 'output'; argument: string }

interface Scope {
  root: Values
  dot: unknown
  variables: Values
  definitions: Map<string, Node[]>
}

function parseTemplate(source: string): Node[] {
  const outermost: Node[] = []
  const open: Node[][] = [outermost]
  // A dash at either side takes the blanks on that side away.
  const trimmed = source.replaceAll(/\s*\{\{-/g, '{{').replaceAll(/-\}\}\s*/g, '}}')
  for (const piece of trimmed.split(/(\{\{[^}]*\}\})/)) {
    const here = open.at(-1) as Node[]
    const [, action] = /^\{\{\s*(.*?)\s*\}\}$/.exec(piece) ?? []
    if (action === undefined) {
      here.push({ kind: 'text', argument: piece })
      continue
    }
    const [, word = '', argument = ''] = /^(\w*)\s*(.*)$/.exec(action) ?? []
    if (word === 'end') open.pop()
    else if (word === 'if' || word === 'with' || word === 'range' || word === 'define') {
      const node: Block = { kind: word, argument: argument.replaceAll('"', word === 'define' ? '' : '"'), body: [] }
      here.push(node)
      open.push(node.body)
    } else here.push({ kind: 'output', argument: action })
  }
  if (open.length !== 1) throw new Error('A block of the template has no end, or an end no block.')
  return outermost
}

function renderNodes(nodes: Node[], scope: Scope): string {
  return nodes.map((node) => renderNode(node, scope)).join('')
}

function renderNode(node: Node, scope: Scope): string {
  if (!('body' in node)) return node.kind === 'text' ? node.argument : String(evaluate(node.argument, scope) ?? '')
  if (node.kind === 'define') return ''
  if (node.kind === 'range') {
    const [, key = '', value = '', over = ''] = /^(\$\w+), (\$\w+) := (.*)$/.exec(node.argument) ?? []
    const entries = Object.entries(evaluate(over, scope) as Values).toSorted(([a], [b]) => (a < b ? -1 : 1))
    return entries
      .map(([name, each]) => renderNodes(node.body, { ...scope, dot: each, variables: { [key]: name, [value]: each } }))
      .join('')
  }
  const value = evaluate(node.argument, scope)
  if (!isTrue(value)) return ''
  return renderNodes(node.body, node.kind === 'with' ? { ...scope, dot: value } : scope)
}

/** `a | b c`: the value of what is before a pipe is the last argument of what is behind it. */
function evaluate(expression: string, scope: Scope): unknown {
  let piped: unknown[] = []
  for (const stage of expression.split(' | ')) {
    const words = stage.match(/"[^"]*"|\S+/g) ?? []
    const [first = '', ...rest] = words
    const args = [...rest.map((word) => operand(word, scope)), ...piped]
    piped = [/^[.$"\d]/.test(first) ? operand(first, scope) : call(first, args, scope)]
  }
  return piped[0]
}

function operand(word: string, { root, dot, variables }: Scope): unknown {
  if (word.startsWith('"')) return word.slice(1, -1)
  if (/^\d+$/.test(word)) return Number(word)
  if (word === '.') return dot
  if (word.startsWith('$')) return variables[word]
  // Whatever a block has made of the dot, these names are the root's here.
  const names = word.split('.').slice(1)
  return names.reduce<unknown>((value, name) => (value as Values)[name], dot === root ? root : unusable(word))
}

function unusable(word: string): never {
  throw new Error(`${word} stands where the dot is something else.`)
}

function call(name: string, args: unknown[], scope: Scope): unknown {
  const [first, second] = args
  if (name === 'include') return renderNodes(scope.definitions.get(String(first)) ?? [], { ...scope, dot: second })
  if (name === 'nindent') return `\n${String(second).replaceAll(/^/gm, ' '.repeat(Number(first)))}`
  if (name === 'toYaml') return stringify(first).trimEnd()
  if (name === 'quote') return JSON.stringify(String(first))
  if (name === 'default') return isTrue(second) ? second : first
  if (name === 'not') return !isTrue(first)
  if (name === 'add') return Number(first) + Number(second)
  if (name === 'required') {
    if (second === undefined || second === '') throw new Error(String(first))
    return second
  }
  throw new Error(`The templates of this chart do not use ${name}: add it to their test.`)
}

/** As in Go: empty is false. */
function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0
  return Boolean(value)
}

function merge(into: Values, from: Values): Values {
  const merged = { ...into }
  for (const [name, value] of Object.entries(from)) {
    const known = merged[name]
    const isMap = (each: unknown): each is Values => typeof each === 'object' && each !== null && !Array.isArray(each)
    merged[name] = isMap(known) && isMap(value) ? merge(known, value) : value
  }
  return merged
}
