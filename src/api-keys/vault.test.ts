import assert from 'node:assert/strict'
import { createHmac, randomBytes } from 'node:crypto'
import { after, test } from 'node:test'
import { parseIntoClientConfig } from 'pg-connection-string'
import { createDatabase } from '../../test/harness.ts'
import { openDatabase, type Tx } from '../db/database.ts'
import { migrate } from '../db/migrate.ts'
import { Secret } from '../secret.ts'
import type { ReadMasterKeys } from './master-keys.ts'
import { VaultError } from './sealing.ts'
import { openVault, type Vault } from './vault.ts'

const stack = new AsyncDisposableStack()
after(() => stack.disposeAsync())
const { databaseUrl, client } = await createDatabase(stack)
const db = stack.use(openDatabase(parseIntoClientConfig(databaseUrl), 4, () => {}))
await migrate(db)
const masterKey = randomBytes(32)
const vault = await openVault({ db }, given(masterKey))
const [ORGANIZATION, OTHER] = [await newOrganization(), await newOrganization()]
const UPSTREAM_KEY = 'sk-sentinel-0123456789-é'

test('what was sealed opens again, here and in every other process with the same master key', async () => {
  const sealed = await seal(ORGANIZATION, 'api-key|1|upstream-key')
  assert.equal(await open(vault, ORGANIZATION, 'api-key|1|upstream-key', sealed), UPSTREAM_KEY)
  const other = await openVault({ db }, given(masterKey))
  assert.equal(await open(other, ORGANIZATION, 'api-key|1|upstream-key', sealed), UPSTREAM_KEY)
})

test('the text form names scheme and key version, shows nothing, and is never the same twice', async () => {
  const [one, two] = [await seal(ORGANIZATION, 'a'), await seal(ORGANIZATION, 'a')]
  assert.match(one, /^enc:v1:[\w-]+$/)
  assert.notEqual(one, two)
  for (const encoding of ['utf8', 'base64', 'base64url', 'hex'] as const) {
    assert.ok(!one.includes(Buffer.from(UPSTREAM_KEY).toString(encoding).slice(0, 12)), encoding)
  }
})

test('a sealed text opens for its own organization and its own key, nowhere else', async () => {
  const sealed = await seal(ORGANIZATION, 'api-key|1|upstream-key')
  await seal(OTHER, 'api-key|1|upstream-key')
  for (const [organizationId, context] of [
    [OTHER, 'api-key|1|upstream-key'],
    [ORGANIZATION, 'api-key|2|upstream-key'],
    [ORGANIZATION, 'api-key|1|other-purpose'],
    [ORGANIZATION, ''],
  ] as const) {
    await assert.rejects(open(vault, organizationId, context, sealed), VaultError)
  }
})

test("an organization's data key moved into another's place opens nothing", async () => {
  const [victim, thief] = [await newOrganization(), await newOrganization()]
  const sealed = await seal(victim, 'a')
  await client.query(
    'insert into organization_keys (organization_id, version, sealed) select $1, version, sealed from organization_keys where organization_id = $2',
    [thief, victim],
  )
  const fresh = await openVault({ db }, given(masterKey))
  await assert.rejects(open(fresh, thief, 'a', sealed), VaultError)
})

test('the wrong master key says so at the start, and opens nothing', async () => {
  await assert.rejects(openVault({ db }, given(randomBytes(32))), (error: Error) => {
    assert.ok(error instanceof VaultError)
    assert.match(error.message, /another ENCRYPTION_KEY/)
    return !error.message.includes(masterKey.toString('hex').slice(0, 8))
  })
})

test('every changed byte of a sealed text is noticed', async () => {
  const sealed = await seal(ORGANIZATION, 'a')
  const start = 'enc:v1:'.length
  const bytes = Buffer.from(sealed.slice(start), 'base64url')
  for (let at = 0; at < bytes.length; at += 1) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 1
    await assert.rejects(
      open(vault, ORGANIZATION, 'a', `enc:v1:${changed.toString('base64url')}`),
      VaultError,
      `byte ${at}`,
    )
  }
})

test('a text that was cut, or whose tag was, is refused, whatever its length', async () => {
  const sealed = await seal(ORGANIZATION, 'a')
  const bytes = Buffer.from(sealed.slice('enc:v1:'.length), 'base64url')
  for (let length = 0; length < bytes.length; length += 1) {
    const cut = `enc:v1:${bytes.subarray(0, length).toString('base64url')}`
    await assert.rejects(open(vault, ORGANIZATION, 'a', cut), VaultError, `${length} bytes`)
  }
  // A tag of 4 bytes where 16 belong.
  const withShortTag = Buffer.concat([bytes.subarray(0, 16), bytes.subarray(28)])
  await assert.rejects(open(vault, ORGANIZATION, 'a', `enc:v1:${withShortTag.toString('base64url')}`), VaultError)
})

test('what does not have the form of a sealed text is refused without a guess', async () => {
  const sealed = await seal(ORGANIZATION, 'a')
  const rest = sealed.slice('enc:v1:'.length)
  for (const text of ['', UPSTREAM_KEY, rest, `enc:${rest}`, `enc::${rest}`, `ENC:v1:${rest}`, ` ${sealed}`]) {
    await assert.rejects(open(vault, ORGANIZATION, 'a', text), VaultError, text.slice(0, 20))
  }
  for (const version of ['v2', 'v0', 'v01', 'v-1', 'v1e3', 'm-00000000', 'v999999999', 'v9999999999']) {
    await assert.rejects(open(vault, ORGANIZATION, 'a', `enc:${version}:${rest}`), VaultError, version)
  }
})

test('no error of the vault shows what was sealed or with what', async () => {
  const sealed = await seal(ORGANIZATION, 'a')
  const error = await open(vault, OTHER, 'a', sealed).catch((caught: Error) => caught)
  assert.ok(error instanceof Error)
  assert.ok(!`${error.message}${error.stack}`.includes(sealed.slice(10)))
})

test('a key is found by a keyed hash: the same on every server, and not the plain hash of anything', async () => {
  const other = await openVault({ db }, given(masterKey))
  assert.deepEqual(vault.hash('sk-proxy-x'), other.hash('sk-proxy-x'))
  assert.equal(vault.hash('sk-proxy-x').length, 32)
  assert.notDeepEqual(vault.hash('sk-proxy-x'), vault.hash('sk-proxy-y'))
  assert.notDeepEqual(vault.hash('sk-proxy-x'), createHmac('sha256', masterKey).update('sk-proxy-x').digest())
})

test('twenty first seals of an organization at once make one data key, and all open', async () => {
  const organizationId = await newOrganization()
  const vaults = await Promise.all([1, 2, 3, 4].map(() => openVault({ db }, given(masterKey))))
  const sealed = await Promise.all(
    Array.from({ length: 20 }, (_, at) => seal(organizationId, `a${at}`, vaults[at % 4] ?? vault)),
  )
  for (const [at, text] of sealed.entries()) {
    assert.equal(await open(vaults[(at + 1) % 4] ?? vault, organizationId, `a${at}`, text), UPSTREAM_KEY)
  }
  const { rows } = await client.query('select * from organization_keys where organization_id = $1', [organizationId])
  assert.equal(rows.length, 1)
})

test('twenty first starts at once make one pepper', async () => {
  await using own = new AsyncDisposableStack()
  const fresh = await createDatabase(own)
  const freshDb = own.use(openDatabase(parseIntoClientConfig(fresh.databaseUrl), 10, () => {}))
  await migrate(freshDb)
  const vaults = await Promise.all(Array.from({ length: 20 }, () => openVault({ db: freshDb }, given(masterKey))))
  assert.equal(new Set(vaults.map((one) => one.hash('x').toString('hex'))).size, 1)
  assert.notDeepEqual(vaults[0]?.hash('x'), vault.hash('x'), 'another installation hashes otherwise')
})

test('the database without the master key holds nothing that can be read', async () => {
  await seal(ORGANIZATION, 'a')
  const { rows } = await client.query<{ sealed: string }>(
    'select sealed from organization_keys union all select sealed from instance_secrets',
  )
  assert.ok(rows.length >= 2)
  for (const { sealed } of rows) assert.match(sealed, /^enc:m-[0-9a-f]{8}:[\w-]{80}$/)
})

function given(current: Buffer, previous?: Buffer): ReadMasterKeys {
  return async () => ({ current, previous })
}

function seal(organizationId: string, context: string, by: Vault = vault): Promise<string> {
  return db.forOrganization(organizationId, (tx: Tx) => by.seal(tx, organizationId, context, new Secret(UPSTREAM_KEY)))
}

async function open(by: Vault, organizationId: string, context: string, sealed: string): Promise<string> {
  const secret = await db.forOrganization(organizationId, (tx) => by.open(tx, organizationId, context, sealed))
  return secret.reveal()
}

async function newOrganization(): Promise<string> {
  const { rows } = await client.query<{ id: string }>("insert into organizations (name) values ('x') returning id")
  return rows[0]?.id ?? ''
}
