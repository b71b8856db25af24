import { setTimeout as sleep } from 'node:timers/promises'
import type { Db, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { type Key, keyNameOf, masterKey, openText, VaultError } from './sealing.ts'
import { ensureMasterKey, listMasterKeys, type MasterKeyRow } from './vault-store.ts'

/** The keys of an installation's operator: the one to be in force and, while it is being changed, the former one. */
export type ReadMasterKeys = () => Promise<{ current: Buffer; previous: Buffer | undefined }>

/**
 * The master keys of this process. Which of them is in force is written in the database, so that servers that were given a new key
 * and servers that were not yet can serve side by side.
 */
export interface MasterKeys {
  /** The bytes under a text that a master key has sealed. */
  open(context: string, sealed: string): Promise<Buffer>
  /** The key that new data keys are sealed under. */
  inForce(tx: Tx): Promise<Key>
  /** @throws {AppError} `encryption_key_missing` when something may be sealed under a key that this process does not have. */
  check(tx: Tx): Promise<void>
  /** As configured: the one to be in force. */
  readonly configured: Key
}

/**
 * @param read asked again when a key is missing that an operator may have put into the data directory meanwhile.
 * @throws {VaultError} when the database's secrets are sealed under a key that is not there.
 */
export async function openMasterKeys({ db }: { db: Db }, read: ReadMasterKeys): Promise<MasterKeys> {
  let retired = new Set<string>()
  let { configured, known } = await readKeys(read)
  let lastReadAt = performance.now()
  let reading: Promise<void> | undefined

  /** Whoever finds a key missing right after a reading waits for the next one, rather than doing without. */
  async function reread(): Promise<void> {
    await sleep(Math.max(0, REREAD_INTERVAL_MS - (performance.now() - lastReadAt)))
    ;({ configured, known } = await readKeys(read))
    lastReadAt = performance.now()
  }

  async function find(name: string): Promise<Key | undefined> {
    if (!known.has(name)) {
      reading ??= reread().finally(() => {
        reading = undefined
      })
      await reading
    }
    return retired.has(name) ? undefined : known.get(name)
  }

  function note(rows: MasterKeyRow[]): MasterKeyRow[] {
    retired = new Set(rows.filter(({ state }) => state === 'retired').map(({ name }) => name))
    return rows.filter(({ state }) => state !== 'retired')
  }

  const inUse = note(await db.forOperator((tx) => ensureMasterKey(tx, configured.name)))
  for (const { name, state } of inUse) if (!known.has(name)) throw new VaultError(explainMissing(state))

  return {
    async open(context, sealed) {
      const key = await find(keyNameOf(sealed))
      if (!key) throw missing()
      return openText(key, context, sealed)
    },
    async inForce(tx) {
      const row = (await listMasterKeys(tx)).find(({ state }) => state === 'current')
      const key = row && (await find(row.name))
      if (!key) throw missing()
      return key
    },
    async check(tx) {
      for (const { name } of note(await listMasterKeys(tx))) if (!(await find(name))) throw missing()
    },
    get configured() {
      return configured
    },
  }
}

async function readKeys(read: ReadMasterKeys): Promise<{ configured: Key; known: Map<string, Key> }> {
  const { current, previous } = await read()
  const configured = masterKey(current)
  const former = previous && masterKey(previous)
  return { configured, known: new Map([...(former ? [former] : []), configured].map((key) => [key.name, key])) }
}

/** A forged or damaged text must not make this process read files all the time. */
const REREAD_INTERVAL_MS = 100

function explainMissing(state: MasterKeyRow['state']): string {
  return state === 'current'
    ? 'The database was sealed under another ENCRYPTION_KEY: start with the key it was set up with. ' +
        'To change the key, set the new one and the former one as ENCRYPTION_KEY_PREVIOUS.'
    : 'The database is still being sealed anew: set ENCRYPTION_KEY_PREVIOUS to the former key until ' +
        '"openai-proxy rotate-encryption-key" has finished.'
}

function missing(): AppError {
  return new AppError(
    'encryption_key_missing',
    'This server does not have the encryption key that the data is sealed under; ask its operator.',
    { retryAfterSeconds: 5 },
  )
}
