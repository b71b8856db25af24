/** The persona section of the earlier guide, followed on the command line from end to end. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startSystem, temporaryDirectory } from './harness.ts'

const BINARY = fileURLToPath(new URL('../bin/openai-proxy.cjs', import.meta.url))
const RULE = '-'.repeat(80)
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const directory = await temporaryDirectory(stack)
const system = await startSystem()

const SUPPORT =
  'You are a technical support specialist with expertise in our software products. Help users troubleshoot issues and provide clear, step-by-step solutions.'

test('create, list, view, update, deactivate, activate and delete: the guide’s commands, arguments and labels', async () => {
  const organization = await system.organization()
  const name = (await system.query('select name from organizations where id = $1', [organization.id]))[0]?.name
  const userId = await organization.createUser('user123')
  const label = `Organization: ${name}`

  const created = await run(
    'create-persona',
    organization.id,
    'Technical Support',
    SUPPORT,
    '--description',
    'For technical support inquiries',
  )
  const id = idIn(created)
  const personal = await run(
    'create-persona',
    organization.id,
    'Marketing Specialist',
    'You are a\nmarketing specialist…',
    '--user-id',
    userId,
    '--description',
    'For marketing team use only',
  )
  assert.equal(created, `\nPersona created successfully!\n${label}\nName: Technical Support\nID: ${id}\n`)
  assert.equal(
    personal,
    `\nPersona created successfully!\n${label}\nName: Marketing Specialist\nID: ${idIn(personal)}\n`,
  )

  const listed = timesOut(await run('list-personas', '--org-id', organization.id))
  assert.equal(
    listed,
    [
      '',
      `Personas for Organization: ${name} (${organization.id})`,
      RULE,
      `ID: ${id}`,
      'Name: Technical Support',
      'Description: For technical support inquiries',
      'User: None (Organization-wide)',
      'Active: True',
      'Content Length: 153 characters',
      'Created: <time>',
      RULE,
      `ID: ${idIn(personal)}`,
      'Name: Marketing Specialist',
      'Description: For marketing team use only',
      `User: user123 (${userId})`,
      'Active: True',
      'Content Length: 31 characters',
      'Created: <time>',
      RULE,
      '',
    ].join('\n'),
  )
  assert.ok((await run('list-personas')).includes(`Personas for Organization: ${name} (${organization.id})`))

  const details = (active: string, content: string, more: string[] = []) =>
    [
      '',
      'Persona Details:',
      RULE,
      `ID: ${id}`,
      `Name: ${more.length > 0 ? 'Advanced Technical Support' : 'Technical Support'}`,
      `Description: ${more.length > 0 ? 'For complex technical inquiries' : 'For technical support inquiries'}`,
      `Organization: ${name} (${organization.id})`,
      'User: None (Organization-wide)',
      `Active: ${active}`,
      'Created: <time>',
      ...more,
      '',
      'Content:',
      content,
      RULE,
      '',
    ].join('\n')
  assert.equal(timesOut(await run('get-persona', id)), details('True', SUPPORT))

  await run(
    'update-persona',
    id,
    '--content',
    'You are an advanced\ntechnical support specialist.',
    '--name',
    'Advanced Technical Support',
    '--description',
    'For complex technical inquiries',
  )
  const suffix = `successfully: ${id} (Advanced Technical Support)\n`
  assert.equal(await run('deactivate-persona', id), `Persona deactivated ${suffix}`)
  assert.equal(
    timesOut(await run('get-persona', id)),
    details('False', 'You are an advanced\ntechnical support specialist.', ['Version: 2']),
  )
  assert.equal(await run('activate-persona', id), `Persona activated ${suffix}`)
  assert.equal(await run('delete-persona', id), `Persona deleted ${suffix}`)
  assert.equal(await fail('get-persona', id), `Error: Persona not found: ${id}\n`)
  await run('delete-persona', idIn(personal))
  assert.equal(await run('list-personas', '--org-id', organization.id), 'No personas found.\n')
})

test('versions, rollback, rollout and defaults on the command line are what requests get', async () => {
  const organization = await system.organization()
  const file = join(directory, 'content.txt')
  await writeFile(file, 'One for {{who}}.\n')
  const id = idIn(await run('create-persona', organization.id, 'P', '--content-file', file, '--variable', 'who=you'))

  assert.match(await run('update-persona', id, '--content', 'Two.', '--no-variables'), /\nVersion: 2\n$/)
  assert.equal(await run('persona-versions', id, '--diff', '1', '2'), '- One for {{who}}.\n+ Two.\n')
  assert.equal(await run('persona-versions', id, '--show', '1'), 'One for {{who}}.\n')
  assert.match(await run('rollback-persona', id, '1'), /^Persona rolled back successfully: .*\(P\)\nVersion: 1\n$/)
  await run('rollout-persona', id, '1=40', '2=60%', '--sticky-by', 'user')
  const { rollout } = JSON.parse(await run('get-persona', id, '--json'))
  assert.deepEqual(rollout, {
    sticky_by: 'user',
    versions: [
      { version: 1, percent: 40 },
      { version: 2, percent: 60 },
    ],
  })
  assert.match(await run('rollout-persona', id), /Version 1: 40%\nVersion 2: 60%\n$/)
  assert.match(await run('rollout-persona', id, '--end'), /None: every call gets version 1\n$/)
  const { versions } = JSON.parse(await run('persona-versions', id, '--json'))
  assert.deepEqual(
    versions.map((version: { version: number; content: string }) => [version.version, version.content]),
    [
      [2, 'Two.'],
      [1, 'One for {{who}}.'],
    ],
  )
  const { defaults } = JSON.parse(await run('persona-defaults', organization.id, id, '--json'))
  assert.deepEqual([defaults[0].scope, defaults[0].persona_id], ['organization', id])

  const answer = await organization.client().responses.create({ model: 'gpt-4o-mini', input: 'hi' })
  const rows = await system.query('select persona_id, persona_version from attempts where response_id = $1', [
    answer.id,
  ])
  assert.deepEqual(rows, [{ persona_id: id, persona_version: 1 }])
  assert.equal(await run('persona-defaults', organization.id, '--remove'), 'No default personas.\n')
})

test('what a command cannot do is one line on standard error, exit code 1, and changes nothing', async () => {
  const organization = await system.organization()
  const id = idIn(await run('create-persona', organization.id, 'P', 'x'))
  const nobody = randomUUID()
  for (const [message, ...args] of [
    ['Persona not found', 'get-persona', nobody],
    ['Invalid UUID format', 'get-persona', 'x'],
    ['Organization not found', 'create-persona', nobody, 'Q', 'x'],
    ['already exists', 'create-persona', organization.id, 'P', 'x'],
    ['User not found', 'create-persona', organization.id, 'Q', 'x', '--user-id', nobody],
    ['no content', 'create-persona', organization.id, 'Q'],
    ['twice', 'create-persona', organization.id, 'Q', 'x', '--content-file', '/dev/null'],
    ['cannot be read', 'create-persona', organization.id, 'Q', '--content-file', '/nowhere'],
    ['characters', 'create-persona', organization.id, 'Q', ''],
    ['not declared', 'create-persona', organization.id, 'Q', 'Hi {{who}}'],
    ['not valid JSON', 'create-persona', organization.id, 'Q', 'x', '--metadata', '{'],
    ['an object', 'create-persona', organization.id, 'Q', 'x', '--metadata', '5'],
    ['nothing to change', 'update-persona', id],
    ['exclude each other', 'update-persona', id, '--everyone', '--user-id', nobody],
    ['no version 9', 'rollback-persona', id, '9'],
    ['whole number', 'rollback-persona', id, 'one'],
    ['no share', 'rollout-persona', id, '1'],
    ['make 100', 'rollout-persona', id, '1=50'],
    ['two versions', 'persona-versions', id, '--diff', '1'],
    ['Name the persona', 'persona-defaults', organization.id, '--user-id', nobody],
    ['no default persona', 'persona-defaults', organization.id, '--remove'],
  ]) {
    const error = await fail(...args)
    assert.match(error, /^Error: [^\n]+\n$/)
    assert.ok(error.includes(message ?? ''), `${args.join(' ')}: ${error}`)
  }
  const { personas } = JSON.parse(await run('list-personas', '--org-id', organization.id, '--json'))
  assert.deepEqual(
    personas.map((persona: { id: string; version: number }) => [persona.id, persona.version]),
    [[id, 1]],
  )
})

test('a persona of other people’s text prints as text: nothing in it moves the cursor', async () => {
  const organization = await system.organization()
  const id = idIn(await run('create-persona', organization.id, 'P\u001b[31m', 'one\n\u001b[2Jtwo\rthree'))

  const shown = await run('get-persona', id)

  assert.ok(shown.includes('Name: P\n') && shown.includes('\nContent:\none\ntwo three\n'), JSON.stringify(shown))
})

async function execute(args: string[]) {
  const child = spawn(process.execPath, [BINARY, ...args], {
    cwd: directory,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: join(directory, 'compiled'), ...system.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited])
  return { stdout, stderr, code }
}

async function run(...args: string[]): Promise<string> {
  const { stdout, stderr, code } = await execute(args)
  assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`)
  return stdout
}

async function fail(...args: string[]): Promise<string> {
  const { stdout, stderr, code } = await execute(args)
  assert.deepEqual([code, stdout], [1, ''], `${args.join(' ')}: ${stdout}${stderr}`)
  return stderr
}

function idIn(output: string): string {
  return /^ID: (\S+)$/m.exec(output)?.[1] ?? assert.fail(output)
}

function timesOut(output: string): string {
  return output.replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00/g, '<time>')
}
