/** `docs/administration.md`, followed from top to bottom as an operator would. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { startSimulator } from '../simulator/server.ts'
import { AppError, type ErrorCode } from '../src/errors.ts'
import { generateSecrets } from '../src/instance-secrets.ts'
import { startServerProcess } from './faults/server-process.ts'
import { createDatabase, temporaryDirectory } from './harness.ts'

const ROOT = join(import.meta.dirname, '..')
const BINARY = join(ROOT, 'bin/openai-proxy.cjs')
const guide = readFileSync(join(ROOT, 'docs/administration.md'), 'utf8')
const blocks = readBlocks(guide)
const curl = findProgram('curl')

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

test('a command of the guide is either run by this test or marked with the reason why not', (t) => {
  const unmarked: string[] = []
  for (const block of blocks.filter(({ language }) => language === 'bash')) {
    const commands = commandsOf(block)
    if (block.notRun === undefined) unmarked.push(...commands.filter((command) => !isRun(command)))
    else for (const command of commands) t.diagnostic(`not run: ${command.split('\n')[0]} (${block.notRun})`)
  }

  assert.deepEqual(unmarked, [])
  const marked = blocks.filter(({ notRun }) => notRun !== undefined)
  assert.equal(marked.length, guide.match(/<!-- not run/g)?.length, 'a mark that is not right before a bash block')
  for (const { line, language, notRun } of marked) assert.ok(language === 'bash' && notRun, `line ${line}`)
})

const skip = curl === undefined && 'there is no curl on this machine'
test('the commands of the guide do what it says, in its order, and print what it shows', { skip }, async () => {
  const shell = await openShell()

  for (const [index, block] of blocks.entries()) {
    if (block.language !== 'bash' || block.notRun !== undefined) continue
    let output = ''
    for (const command of commandsOf(block).filter(isRun)) {
      const { stdout, stderr, code } = await shell.run(command)
      assert.equal(code, 0, `line ${block.line}: ${command}\n${stdout}${stderr}`)
      output = stdout
    }
    const next = blocks[index + 1]
    if (next?.language === 'text') assert.deepEqual(shapeOf(output), shapeOf(next.content), `line ${next.line}`)
  }
})

test('the guide has every command there is', async () => {
  const commands = await listCommands()

  const missing = commands.filter((command) => !guide.includes(`npx openai-proxy ${command}`))

  assert.ok(commands.length >= 20, `only ${commands}`)
  // The README is about the demo.
  assert.deepEqual(missing, ['demo'])
})

test('the guide explains every error code, under its status', () => {
  const source = readFileSync(join(ROOT, 'src/errors.ts'), 'utf8')
  const codes = [...source.matchAll(/^ {2}([a-z_]+): \d{3},$/gm)].map(([, code]) => code as ErrorCode)

  const explained = [...guide.matchAll(/^\| (\d{3}) +\| `([a-z_]+)` +\|/gm)].map(
    ([, status, code]) => `${status} ${code}`,
  )

  assert.ok(codes.length >= 20, `only ${codes}`)
  assert.deepEqual(explained.toSorted(), codes.map((code) => `${new AppError(code, '').status} ${code}`).toSorted())
})

test('the messages the guide quotes for a server that does not start are those of the source', () => {
  const sources = [
    'explain-failure',
    'config',
    'instance-secrets',
    'api-keys/master-keys',
    'db/migrate',
    'db/process-lock',
  ]
    .concat([
      'ledger/price-table',
      ...['account', 'binaries', 'cluster', 'error', 'server'].map((f) => `db/embedded/${f}`),
    ])
    .map((file) => readFileSync(join(ROOT, `src/${file}.ts`), 'utf8'))
    .join('\n')
  const section = guide.split('### The server does not start')[1]?.split('\n### ')[0] ?? ''

  const messages = [...section.matchAll(/^\| `([^`]+)`/gm)].map(([, message]) => message ?? '')
  const pieces = messages.flatMap((message) => message.split('...')).map((piece) => piece.trim())
  const unknown = pieces.filter((piece) => !sources.includes(piece.replace(/ has a problem:$/, ' has ')))

  assert.ok(messages.length >= 15, `only ${messages}`)
  assert.deepEqual(unknown, [])
})

interface Block {
  language: string
  content: string
  /** Of its fence, from 1. */
  line: number
  /** The reason, when the line above the fence gives one. */
  notRun: string | undefined
}

function readBlocks(markdown: string): Block[] {
  return [...markdown.matchAll(/(?:^<!-- not run: (.*) -->\n)?^```(\w+)\n([\s\S]*?)^```$/gm)].map(
    ([whole, notRun, language = '', content = ''], index, all) => {
      const at = all[index]?.index ?? 0
      const line = markdown.slice(0, at + whole.indexOf('```')).split('\n').length
      return { language, content, line, notRun }
    },
  )
}

/** A command goes on behind a backslash and within quotes. */
function commandsOf({ content }: Block): string[] {
  const commands = content.match(/(?:\\\n|'[^']*'|"[^"]*"|[^\n])+/g) ?? []
  return commands.map((command) => command.trim()).filter((command) => command !== '' && !command.startsWith('#'))
}

function isRun(command: string): boolean {
  return /^(?:echo "\$OPENAI_API_KEY" \| )?npx openai-proxy /.test(command) || /^curl /.test(command)
}

/** What an output shows once its values are taken away: JSON's keys, or each kind of line once. */
function shapeOf(output: string): string[] {
  const trimmed = output.trim()
  if (trimmed.startsWith('{')) return keysOf(JSON.parse(trimmed))
  let hasHeader = false
  const lines = trimmed.split('\n').map((line) => {
    const label = /^ *([A-Za-z][\w ().-]*:)( |$)/.exec(line)?.[1]
    if (label !== undefined) return label
    if (/^ *[-=]+$/.test(line)) return 'a rule'
    if (line.startsWith('- ')) return 'an item'
    if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(line)) return 'a token'
    if (!/\S {2,}\S/.test(line)) return line
    const shape = hasHeader ? 'a row' : line.replaceAll(/ {2,}/g, ' | ')
    hasHeader = true
    return shape
  })
  return [...new Set(lines)]
}

function keysOf(value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null) return [path]
  return Object.entries(value).flatMap(([key, inner]) => keysOf(inner, `${path}.${key}`))
}

interface Shell {
  run(command: string): Promise<{ stdout: string; stderr: string; code: number | null }>
}

/** A running server and, on the path of a shell, the two programs that the guide uses. */
async function openShell(): Promise<Shell> {
  const directory = await temporaryDirectory(stack)
  const simulator = stack.use(await startSimulator())
  const settings = {
    DATABASE_URL: (await createDatabase(stack)).databaseUrl,
    DATA_DIR: join(directory, 'data'),
    OPENAI_API_BASE_URL: simulator.url,
    ...generateSecrets(),
  }
  const server = await startServerProcess(settings)
  stack.defer(async () => {
    await server.kill('SIGTERM')
  })
  const script = (line: string) => `#!/bin/sh\n${line}\n`
  await writeFile(
    join(directory, 'npx'),
    script(`[ "$1" = openai-proxy ] && shift && exec '${process.execPath}' '${BINARY}' "$@"`),
    { mode: 0o755 },
  )
  // A refused request is a failed command.
  await writeFile(join(directory, 'curl'), script(`exec '${curl}' -sS --fail-with-body "$@"`), { mode: 0o755 })
  await writeFile(join(directory, 'openai-key.txt'), 'sk-upstream-0123456789abcdef\n')
  await writeFile(join(directory, 'persona.txt'), 'You are a personal assistant...\n')
  const env = {
    ...settings,
    PATH: `${directory}${delimiter}${process.env.PATH}`,
    NODE_COMPILE_CACHE: join(directory, 'compiled'),
    HOST: '127.0.0.1',
    PORT: new URL(server.url).port,
    OPENAI_API_KEY: 'sk-upstream-0123456789abcdef',
  }
  const known = new Map<string, string>()

  return {
    async run(command) {
      const filled = command
        .replaceAll('http://localhost:8000', server.url)
        .replaceAll(/<([a-z-]+)>/g, (_, name) => known.get(name) ?? assert.fail(`nothing has printed <${name}> yet`))
      const child = spawn('sh', ['-c', filled], { cwd: directory, env, stdio: ['ignore', 'pipe', 'pipe'] })
      const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
      const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited])
      for (const [name, by, pattern] of PRINTED) {
        const value = command.includes(by) ? pattern.exec(stdout)?.[1] : undefined
        if (value !== undefined) known.set(name, value)
      }
      return { stdout, stderr, code }
    },
  }
}

/** What stands for what, and which command prints it. */
const PRINTED: [placeholder: string, command: string, pattern: RegExp][] = [
  ['org-id', 'create-org', /^ID: (\S+)$/m],
  ['user-id', 'create-user', /^Internal ID: (\S+)$/m],
  ['leaving-id', 'leaving@example.com', /^Internal ID: (\S+)$/m],
  ['synthetic-key', 'create-key', /^Synthetic Key: (\S+)$/m],
  ['key-id', 'list-keys', /^ID: (\S+)$/m],
  ['persona-id', 'create-persona', /^ID: (\S+)$/m],
  ['token', 'create-jwt', /^Authorization: Bearer (\S+)$/m],
  ['token-id', 'create-jwt', /^Token ID: (\S+)$/m],
  ['request-id', 'curl -i', /^x-request-id: (\S+)\r$/im],
]

/** Every command, those of a group as `group command`. */
async function listCommands(group: string[] = []): Promise<string[]> {
  const child = spawn(process.execPath, [BINARY, ...group, '--help'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const help = await text(child.stdout)
  const names = [...help.slice(help.indexOf('\nOptions:')).matchAll(/^ {2}([a-z][a-z-]*)(?= |$)/gm)].flatMap(
    ([, name]) => (name === undefined || name === 'help' ? [] : [name]),
  )
  const listed = await Promise.all(
    names.map((name) => (GROUPS.includes(name) ? listCommands([name]) : [[...group, name].join(' ')])),
  )
  return listed.flat()
}

const GROUPS = ['ledger']

function findProgram(name: string): string | undefined {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}
