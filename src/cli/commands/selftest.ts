import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { AppError } from '../../errors.ts'
import { Secret } from '../../secret.ts'
import { addCommand } from '../command.ts'
import { type OutputOptions, plain, printNote, printResult, printText, printWarning } from '../output.ts'
import { type Finding, runSelftest } from '../selftest/run.ts'

/** Speaks to a server over HTTP only, so it needs neither its machine nor its configuration. */
export function addSelftestCommand(program: Command): void {
  addCommand(
    program,
    'selftest',
    'check a running server from outside: authentication, users, keys, answers, ratings, errors',
    'selftest --url http://localhost:8000 --token-file token.txt',
  )
    .option('--url <url>', 'where the server is', 'http://localhost:8000')
    .option('--admin-url <url>', 'where its admin API is, if that has a port of its own')
    .option('--token <token>', 'a token of the organization to test with; with the scope org:admin all is checked')
    .option('--token-file <file>', 'read the token from this file; /dev/stdin is standard input')
    .option('--user <id>', 'for which user to ask (default: one that is made and removed again)')
    .option('--model <name>', 'which model to ask; its two short answers are paid for', 'gpt-4o-mini')
    .action(run)
}

interface SelftestOptions extends OutputOptions {
  url: string
  adminUrl?: string
  token?: string
  tokenFile?: string
  user?: string
  model: string
}

async function run(options: SelftestOptions): Promise<void> {
  const url = parseUrl('--url', options.url)
  const adminUrl = options.adminUrl === undefined ? url : parseUrl('--admin-url', options.adminUrl)
  const token = await readToken(options)
  const { model, user } = options
  printNote(`Checking ${url}: two short answers of ${plain(model)}, which spend a few tokens.`)
  const interruption = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interruption.abort())
  const report = (finding: Finding) => {
    if (!options.json) printText(`${formatFinding(finding)}\n`)
  }
  const findings = await runSelftest({ url, adminUrl, token, model, user, signal: interruption.signal }, report)
  const failed = findings.filter(({ state }) => state === 'failed').length
  const skipped = findings.filter(({ state }) => state === 'skipped').length
  printResult(options, { url, model, ok: failed === 0, checks: findings }, [
    '',
    `Checks: ${findings.length}, failed: ${failed}, skipped: ${skipped}`,
  ])
  if (failed > 0) process.exitCode = 1
}

function formatFinding({ name, state, detail }: Finding): string {
  return `${state.padEnd(7)}  ${name.padEnd(14)}  ${plain(detail)}`
}

/** What OpenAI's SDKs call a base URL is good as well. */
function parseUrl(option: string, text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    throw new AppError(
      'invalid_request',
      `${option} is an http or https URL such as http://localhost:8000, without credentials and query.`,
    )
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')}`
}

async function readToken({ token, tokenFile }: SelftestOptions): Promise<Secret> {
  if ((token === undefined) === (tokenFile === undefined)) {
    throw new AppError('invalid_request', 'Give a token, either with --token-file or with --token.')
  }
  if (token !== undefined) {
    printWarning(
      'The token was given as an argument: other users of this machine can see it while the command runs; --token-file avoids that.',
    )
  }
  const text = (token ?? (await readTokenFile(tokenFile ?? ''))).trim()
  if (!/^[\x21-\x7e]+$/.test(text)) {
    throw new AppError('invalid_request', 'That is no token: it is one word, as create-jwt prints it.')
  }
  return new Secret(text)
}

async function readTokenFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    throw new AppError('invalid_request', `The token file ${file} cannot be read: check the path and its permissions.`)
  }
}
