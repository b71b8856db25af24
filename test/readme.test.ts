/** What the README and the documentation name is there. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { ENDPOINTS } from '../src/proxy/endpoints.ts'

const ROOT = join(import.meta.dirname, '..')
const BINARY = join(ROOT, 'bin/openai-proxy.cjs')
const DOCUMENTS = [
  ...['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'CONTRIBUTING.md'],
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => join('docs', file)),
]
// Each command's help is a process of its own: the second one need not compile what the first one did.
const compiled = mkdtempSync(join(tmpdir(), 'openai-proxy-'))
after(() => rmSync(compiled, { recursive: true, force: true }))
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')

test('every link leads to a file or a heading that exists', () => {
  const broken: string[] = []
  for (const document of DOCUMENTS) {
    for (const [, target = ''] of read(document).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [path = '', heading] = target.split('#')
      const file = path === '' ? document : join(dirname(document), path)
      const isThere =
        existsSync(join(ROOT, file)) && (heading === undefined || headingsOf(read(file)).includes(heading))
      if (!isThere) broken.push(`${document}: ${target}`)
    }
  }

  assert.deepEqual(broken, [])
})

test('every file and npm script that is named exists', () => {
  const { scripts } = JSON.parse(read('package.json'))
  const missing: string[] = []
  for (const document of DOCUMENTS) {
    const content = read(document)
    for (const [, path = ''] of content.matchAll(/[`(]((?:src|test|docs|simulator|bin|scripts)\/[\w./-]+\w)[`)]/g)) {
      const isThere = existsSync(join(ROOT, path)) || existsSync(join(ROOT, dirname(document), path))
      if (!isThere) missing.push(`${document}: ${path}`)
    }
    for (const [, script = ''] of content.matchAll(/\bnpm (?:run |(?=test\b|start\b))([a-z]+)/g)) {
      if (!(script in scripts)) missing.push(`${document}: npm run ${script}`)
    }
  }

  assert.deepEqual(missing, [])
})

test('every openai-proxy command that is shown exists, with the options that it is shown with', async () => {
  const shown = DOCUMENTS.flatMap((document) => commandsIn(read(document)))
  const names = [...new Set(shown.map(({ name }) => name))]
  await readOptions('')
  const known = new Map(await Promise.all(names.map(async (name) => [name, await readOptions(name)] as const)))

  const unknown = shown.flatMap(({ name, options }) => {
    const possible = known.get(name)
    return possible ? options.filter((option) => !possible.has(option)).map((option) => `${name} ${option}`) : [name]
  })

  assert.ok(shown.length >= 40, `only ${shown.length}`)
  assert.deepEqual(unknown, [])
})

test('the page of endpoints names exactly those that are relayed', () => {
  const page = read('docs/endpoints.md')
  const named = [...page.matchAll(/`((?:GET|POST|DELETE|PUT|PATCH) \/v1\/[^`]+)`/g)].map(([, endpoint]) => endpoint)

  const requests = ENDPOINTS.filter(({ body }) => body !== 'websocket')
  const relayed = requests.map(({ method, path }) => `${method} /v1${path}`)

  assert.deepEqual(new Set(named), new Set(relayed))
})

test('the table of settings has every variable that is read, and no other', () => {
  const variables = [...read('src/config.ts').matchAll(/\bread\.\w+\(\s*'([A-Z_]+)'/g)].map(([, name]) => name)
  const [, fileVariables = ''] = /FILE_VARIABLES = \[([\s\S]*?)\]/.exec(read('src/load-environment.ts')) ?? []
  const configuration = read('docs/configuration.md')

  const documented = [...configuration.matchAll(/^\| `([A-Z_]+)` +\|/gm)].map(([, name]) => name)

  assert.ok(variables.length >= 25, `only ${variables}`)
  assert.deepEqual(documented.toSorted(), variables.toSorted())
  for (const [, name] of fileVariables.matchAll(/'([A-Z_]+)'/g)) assert.ok(configuration.includes(`\`${name}_FILE\``))
})

test('the defaults and bounds in the table of settings are those of the source', () => {
  const source = read('src/config.ts')
  const rows = read('docs/configuration.md').matchAll(/^\| `([A-Z_]+)` +\| `?([^|`]*)`?[^|]* \|(.*)$/gm)
  const wrong: string[] = []
  for (const [, name = '', byDefault = '', rest = ''] of rows) {
    const [, kind, list = ''] = new RegExp(`read\\.(integer|seconds)\\('${name}', ([^)]*)\\)`).exec(source) ?? []
    const [value, min, max] = list.split(',').map(calculate)
    if (kind === undefined) continue
    const isRight = String(value) === byDefault && (kind === 'seconds' || rest.includes(`${min} to ${max}`))
    if (!isRight) wrong.push(`${name}: ${list}`)
  }

  assert.deepEqual(wrong, [])
})

/** As GitHub makes them. */
function headingsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}

interface ShownCommand {
  /** With the name of its group. */
  name: string
  options: string[]
}

/** Options behind a pipe or a redirection are somebody else's. */
function commandsIn(markdown: string): ShownCommand[] {
  return [...markdown.matchAll(/\bnpx openai-proxy ((?:<[a-z-]+>|[^`\n|<>;])*)/g)].map(([, line = '']) => {
    const words = line
      .replaceAll(/"[^"]*"/g, '""')
      .split(' ')
      .filter(Boolean)
    const name = words.slice(0, words[0] === 'ledger' ? 2 : 1).join(' ')
    return { name: name.startsWith('-') ? '' : name, options: words.filter((word) => word.startsWith('--')) }
  })
}

/** Undefined when there is no such command. */
async function readOptions(command: string): Promise<Set<string> | undefined> {
  const words = command.split(' ').filter(Boolean)
  const child = spawn(process.execPath, [BINARY, ...words, '--help'], {
    env: { ...process.env, NODE_COMPILE_CACHE: compiled },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const help = await text(child.stdout)
  // An unknown command gets the help of what is above it.
  if (!help.startsWith(`Usage: ${['openai-proxy', ...words].join(' ')} `)) return undefined
  return new Set(help.match(/--[a-z][a-z-]*/g))
}

/** `64 * 1024` and `1024 ** 3`, as the source writes numbers. */
function calculate(expression: string): number {
  return expression
    .split(' * ')
    .map((factor) => {
      const [base = 0, exponent = 1] = factor.trim().replaceAll('_', '').split(' ** ').map(Number)
      return base ** exponent
    })
    .reduce((product, factor) => product * factor, 1)
}
