/** `docs/operations.md`: what it says of backups is done, with the programs it names, into a server that was empty. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import pg from 'pg'
import { readConfig } from '../src/config.ts'
import { serve } from '../src/serve.ts'
import { startSystem, temporaryDirectory } from './harness.ts'

const ROOT = join(import.meta.dirname, '..')
const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())

const programs = await findPrograms()
const skip = programs === undefined && 'there is no Postgres with pg_dump on this machine'
const manual = await readFile(join(ROOT, 'docs/operations.md'), 'utf8')

const WAYS = [
  { name: 'with a Postgres of your own', heading: '### With a Postgres of your own', isSuperuser: false },
  { name: 'in Docker', heading: '### In Docker', isSuperuser: true },
]

for (const { name, heading, isSuperuser } of WAYS) {
  test(`a backup made ${name} while serving is restored into an empty server, whole`, { skip }, async () => {
    const [old, fresh] = await Promise.all([startPostgres(isSuperuser), startPostgres(isSuperuser)])
    const system = await startSystem({ DATABASE_URL: old.databaseUrl })
    const organization = await system.organization()
    const openai = organization.client()
    const asked = { model: 'gpt-4o-mini', input: 'What is the capital of France?' }
    const { id } = await openai.responses.create(asked)
    for await (const _ of await openai.responses.create({ ...asked, stream: true }));
    await openai.responses.create({ ...asked, model: 'no-such' }).catch(() => {})
    await system.server.context.ledger.flush()
    // What is not accounting follows within a tenth of a second, in batches.
    let [before, earlier] = [await readContent(old.client), {}]
    while (!isDeepStrictEqual(before, earlier)) {
      await sleep(500)
      earlier = before
      before = await readContent(old.client)
    }

    const shell = await openShell({ from: old, to: fresh })
    for (const block of blocksUnder(heading)) await shell(block)
    const after = await readContent(fresh.client)
    await system.server.stop()
    const env = { ...system.env, DATABASE_URL: fresh.databaseUrl, DATA_DIR: await temporaryDirectory(stack) }
    const restored = await serve(readConfig(env))
    stack.defer(() => restored.stop())
    const url = `http://127.0.0.1:${restored.port}`
    const headers = { authorization: `Bearer ${organization.token}`, 'x-user-id': 'alice' }
    const followUp = await fetch(`${url}/v1/responses`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify({ ...asked, previous_response_id: id }),
    })
    const content = await fetch(`${url}/v1/requests/${id}/content`, { headers })
    const verified = await shell(
      blocksUnder('### After a restore').join('\n').replaceAll('<org-id>', organization.id),
      { ...env, PORT: String(restored.port) },
    )

    assert.equal(before.attempts, '3')
    for (const table of ['upstream_objects', 'contents', 'audit_log']) assert.ok(Number(before[table]) >= 2, table)
    assert.deepEqual(after, before)
    // The token, the sealed OpenAI key, the ownership of what OpenAI keeps, and the sealed content.
    assert.equal(followUp.status, 200)
    await followUp.text()
    assert.match(await content.text(), /The capital of France is Paris/)
    assert.match(verified, /The ledger is consistent\./)
    assert.match(verified, /^Audit log intact: /m)
  })
}

/** How many rows each table has, and what the attempts among them say. */
async function readContent(client: pg.Client): Promise<Record<string, string>> {
  const { rows: tables } = await client.query<{ name: string }>(
    "select relname as name from pg_class where relkind in ('r', 'p') and not relispartition and relnamespace = 'public'::regnamespace",
  )
  const counts = tables.map(({ name }) => `(select count(*) from "${name}") as "${name}"`)
  const attempts = "(select md5(string_agg(a::text, ';' order by a::text)) from attempts a) as sum_of_attempts"
  return (await client.query(`select ${[...counts, attempts].join(', ')}`)).rows[0]
}

interface Server {
  databaseUrl: string
  socket: string
  client: pg.Client
}

interface Programs {
  directory: string
  account: { uid: number; gid: number } | undefined
}

/** Where `pg_dump` and a server of the same version are; neither comes with the embedded database. */
async function findPrograms(): Promise<Programs | undefined> {
  const installations = '/usr/lib/postgresql'
  const versions = await readdir(installations).catch((): string[] => [])
  const directories: string[] = [
    ...versions.map((version) => join(installations, version, 'bin')),
    ...(process.env.PATH ?? '').split(delimiter),
  ]
  for (const directory of directories) {
    const files = await readdir(directory).catch((): string[] => [])
    if (['initdb', 'postgres', 'psql', 'pg_dump', 'pg_restore'].every((file) => files.includes(file))) {
      return { directory, account: await findAccount() }
    }
  }
  return undefined
}

/** Postgres refuses to be root. */
async function findAccount(): Promise<Programs['account']> {
  if (process.geteuid?.() !== 0) return undefined
  const accounts = await readFile('/etc/passwd', 'utf8')
  const [, uid, gid] = /^(?:postgres|nobody):[^:]*:(\d+):(\d+):/m.exec(accounts) ?? []
  return { uid: Number(uid), gid: Number(gid) }
}

/** An empty database `openai_proxy` that belongs to `proxyuser`, in a cluster of its own. */
async function startPostgres(isSuperuser: boolean): Promise<Server> {
  assert.ok(programs)
  const { directory: bin, account } = programs
  const directory = await temporaryDirectory(stack)
  await chmod(directory, 0o755)
  const [data, socket] = [join(directory, 'data'), join(directory, 'socket')]
  for (const folder of [data, socket]) {
    await mkdir(folder, { mode: 0o700 })
    if (account) await chown(folder, account.uid, account.gid)
  }
  const options = { ...account, cwd: '/', stdio: 'ignore' as const }
  const initdb = spawn(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'admin', '-A', 'trust', '-E', 'UTF8', '--no-sync'],
    options,
  )
  const [code] = await once(initdb, 'exit')
  assert.equal(code, 0)
  const server = spawn(
    join(bin, 'postgres'),
    ['-D', data, '-k', socket, '-c', 'listen_addresses=', '-c', 'fsync=off'],
    options,
  )
  const exited = once(server, 'exit')
  stack.defer(async () => {
    server.kill('SIGINT')
    await exited
  })
  const admin = await connect({ host: socket, user: 'admin', database: 'postgres' })
  await admin.query(`create role proxyuser login ${isSuperuser ? 'superuser' : ''}`)
  await admin.query('create database openai_proxy owner proxyuser')
  await admin.end()
  const client = await connect({ host: socket, user: 'admin', database: 'openai_proxy' })
  stack.defer(() => client.end())
  return {
    databaseUrl: `postgresql://proxyuser@localhost/openai_proxy?host=${encodeURIComponent(socket)}`,
    socket,
    client,
  }
}

/** As soon as it takes connections. */
async function connect(config: pg.ClientConfig): Promise<pg.Client> {
  for (let tries = 0; ; tries += 1) {
    const client = new pg.Client(config)
    client.on('error', () => {})
    try {
      await client.connect()
      return client
    } catch (error) {
      if (tries > 600) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

/** The commands of each block under a heading that a test is to run. */
function blocksUnder(heading: string): string[] {
  const section = manual.split(`${heading}\n`)[1]?.split(/^##+ /m)[0] ?? ''
  const blocks = [...section.matchAll(/^<!-- run .*-->\n```bash\n([\s\S]*?)^```$/gm)].map(([, block = '']) => block)
  assert.ok(blocks.length > 0, heading)
  return blocks
}

/** A shell with the programs of Postgres, and a `docker` whose containers are the two servers. */
async function openShell({ from, to }: { from: Server; to: Server }) {
  assert.ok(programs)
  const directory = await temporaryDirectory(stack)
  const bin = join(directory, 'bin')
  await mkdir(bin)
  // Dumps come from the one and are restored into the other.
  const docker = `case "$*" in
  'exec openai-inference-proxy-db pg_dump '*) shift 2; PGHOST='${from.socket}' exec "$@" ;;
  'exec -i openai-inference-proxy-db pg_restore '*) shift 3; PGHOST='${to.socket}' exec "$@" ;;
  'compose --env-file .env -f docker/docker-compose.yml up -d'*) ;;
  *) echo "no such call: $*" >&2; exit 125 ;;
esac`
  const npx = `[ "$1" = openai-proxy ] && shift && exec '${process.execPath}' '${join(ROOT, 'bin/openai-proxy.cjs')}' "$@"`
  for (const [name, script] of Object.entries({ docker, npx })) {
    await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  }
  for (const name of ['psql', 'pg_dump', 'pg_restore']) await symlink(join(programs.directory, name), join(bin, name))

  return async (script: string, env: Record<string, string> = {}): Promise<string> => {
    const child = spawn('sh', ['-ec', script], {
      cwd: directory,
      env: {
        PATH: `${bin}${delimiter}/usr/bin${delimiter}/bin`,
        ADMIN_DATABASE_URL: from.databaseUrl.replace('proxyuser', 'admin'),
        BACKUP_DATABASE_URL: from.databaseUrl.replace('proxyuser', 'openai_proxy_backup'),
        NEW_DATABASE_URL: to.databaseUrl,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
    assert.equal(code, 0, `${script}\n${stdout}${stderr}`)
    return stdout
  }
}

test('every command of the manual is run by a test or says why not', () => {
  const blocks = manual.match(/^```bash$/gm)?.length
  const marked = manual.match(/^<!-- (?:not run: (?:stops|needs) |run )[^\n]+-->\n```bash$/gm)?.length

  assert.equal(marked, blocks)
})
