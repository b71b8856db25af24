import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { AppError } from '../errors.ts'
import { Secret } from '../secret.ts'
import { printNote, printWarning } from './output.ts'

/**
 * The OpenAI key from the first of: the argument, the file, standard input when something is piped in, a hidden prompt.
 * Only the argument can be seen by others, hence the warning.
 */
export async function readUpstreamKey(from: { argument?: string | undefined; file?: string | undefined }) {
  if (from.argument !== undefined) {
    printWarning(
      'The OpenAI key was given as an argument: other users of this machine can see it while the command runs, and it remains in the shell history; --key-file or standard input avoid both.',
    )
    return new Secret(from.argument)
  }
  const text = from.file !== undefined ? await readKeyFile(from.file) : await readStandardInput()
  if (text.trim() === '') {
    throw new AppError('invalid_request', 'No OpenAI key was given: pipe it in, or name a file with --key-file.')
  }
  return new Secret(text.trim())
}

async function readKeyFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    throw new AppError('invalid_request', `The key file ${file} cannot be read: check the path and its permissions.`)
  }
}

async function readStandardInput(): Promise<string> {
  if (process.stdin.isTTY) return promptHidden('OpenAI key (not shown): ')
  let text = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk
    if (text.length > KEY_LENGTH_MAX) {
      throw new AppError('invalid_request', 'Standard input holds more than an OpenAI key.')
    }
  }
  return text
}

const KEY_LENGTH_MAX = 4096

function promptHidden(question: string): Promise<string> {
  process.stderr.write(question)
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true })
  return new Promise((resolve) => {
    lines.once('line', (line) => {
      resolve(line)
      lines.close()
    })
    // Ctrl-C and Ctrl-D close it without a line.
    lines.once('close', () => {
      printNote('')
      resolve('')
    })
  })
}
