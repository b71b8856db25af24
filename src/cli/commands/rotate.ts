import { join } from 'node:path'
import type { Command } from 'commander'
import { type MasterKeys, openMasterKeys } from '../../api-keys/master-keys.ts'
import { rotateDataKeys } from '../../api-keys/rotate-data-keys.ts'
import { masterKeyStatus, rotateMasterKey } from '../../api-keys/rotate-master-key.ts'
import { withRotationLock } from '../../api-keys/rotation-lock.ts'
import { SEALED_UPSTREAM_KEYS } from '../../api-keys/sealed-upstream-keys.ts'
import { OPERATOR } from '../../auth/caller.ts'
import { SEALED_CONTENTS } from '../../content/sealed-contents.ts'
import { withLock } from '../../db/process-lock.ts'
import { AppError } from '../../errors.ts'
import { type Foundation, readMasterKeys } from '../../foundation.ts'
import { loadSecrets, removeFormerJwtSecret, replaceSecretFile, writeJwtPreviousUntil } from '../../instance-secrets.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { formatTime, type OutputOptions, printResult } from '../output.ts'
import { showProgress } from '../progress.ts'

/** Changing secrets while servers serve. */
export function addRotationCommands(program: Command): void {
  addCommand(
    program,
    'rotate-encryption-key',
    'seal everything anew under a new ENCRYPTION_KEY, while servers serve; goes on where it was stopped',
    'rotate-encryption-key --data-keys',
  )
    .option('--data-keys', 'also give every organization a new key, and seal its OpenAI keys and contents anew')
    .option('--dry-run', 'only say what there is to do')
    .action(async (options: OutputOptions & { dataKeys?: boolean; dryRun?: boolean }) => {
      await using foundation = await connect()
      if (options.dryRun) await showStatus(foundation, options)
      else await withRotationLock(foundation.db, () => rotateEncryptionKey(foundation, options))
    })

  addCommand(
    program,
    'rotate-jwt-secret',
    'sign tokens under a new secret; those under the former one are accepted for some time more',
    'rotate-jwt-secret --grace-days 30',
  )
    .option('--grace-days <n>', 'for how long tokens under the former secret are accepted', '30')
    .option('--end-grace', 'accept them no longer, from the next start of the server on')
    .action(async (options: OutputOptions & { graceDays: string; endGrace?: boolean }) => {
      await using foundation = await connect()
      const { config } = foundation
      if (config.jwtSecretKey) throw new AppError('conflict', JWT_BY_ENVIRONMENT)
      await withLock(join(config.dataDirectory, 'secrets.lock'), LOCK_TIMEOUT_MS, () =>
        options.endGrace ? endGrace(foundation, options) : rotateJwtSecret(foundation, options),
      )
    })
}

async function showStatus({ db, config }: Foundation, options: OutputOptions): Promise<void> {
  const masters = await openMasterKeys({ db }, () => readMasterKeys(config))
  const status = await masterKeyStatus({ db, masters })
  printResult(
    options,
    {
      in_force: status.inForce,
      configured: status.configured,
      retiring: status.retiring,
      to_reseal: status.remaining,
    },
    [
      `In force: ${status.inForce}`,
      `Configured: ${status.configured}`,
      `Being retired: ${status.retiring.join(', ') || 'none'}`,
      `To seal anew: ${status.remaining} data keys and secrets`,
    ],
  )
}

async function rotateEncryptionKey(foundation: Foundation, options: OutputOptions & { dataKeys?: boolean }) {
  const { db, vault, config } = foundation
  const masters = await readyMasterKeys(foundation, options.dataKeys === true)
  const master = await rotateMasterKey({ db, masters }, OPERATOR, showProgress('data keys sealed anew'))
  const showRows = showProgress('organizations')
  const places = [SEALED_UPSTREAM_KEYS, SEALED_CONTENTS]
  const dataKeys = options.dataKeys
    ? await rotateDataKeys({ db, vault, places }, OPERATOR, (done, total) => showRows(done, total))
    : undefined
  const document = {
    encryption_key: masters.configured.name,
    resealed: master.resealed,
    retired: master.retired,
    data_keys: dataKeys
      ? { organizations: dataKeys.organizations, resealed: dataKeys.resealed, retired: dataKeys.retired }
      : null,
  }
  printResult(options, document, [
    `Encryption key in force: ${document.encryption_key}`,
    `Data keys and secrets sealed anew: ${master.resealed}`,
    `Retired: ${master.retired.join(', ') || 'none'}`,
    ...(dataKeys
      ? [
          `Organizations with a new data key: ${dataKeys.organizations}`,
          `OpenAI keys and contents sealed anew: ${dataKeys.resealed}`,
          `Data keys retired: ${dataKeys.retired}`,
        ]
      : []),
    ...(config.encryptionKeyPrevious
      ? ['Nothing needs ENCRYPTION_KEY_PREVIOUS any more: remove it from every server.']
      : []),
  ])
}

/**
 * The keys to rotate with. Those of the environment are the operator's to change; those of the data directory are changed here,
 * unless an earlier rotation has not come to its end.
 */
async function readyMasterKeys({ db, config }: Foundation, isForDataKeys: boolean): Promise<MasterKeys> {
  const open = () => openMasterKeys({ db }, () => readMasterKeys(config))
  const masters = await open()
  const { inForce, configured, retiring, remaining } = await masterKeyStatus({ db, masters })
  const isUnfinished = inForce !== configured || retiring.length > 0 || remaining > 0
  if (isUnfinished) return masters
  if (config.encryptionKey) {
    if (!config.encryptionKeyPrevious && !isForDataKeys) throw new AppError('conflict', KEY_BY_ENVIRONMENT)
    return masters
  }
  await replaceSecretFile(config.dataDirectory, 'ENCRYPTION_KEY')
  return open()
}

const KEY_BY_ENVIRONMENT =
  'ENCRYPTION_KEY is in force already. To change it, give every server a new one ("openai-proxy generate-keys") as ' +
  'ENCRYPTION_KEY and the present one as ENCRYPTION_KEY_PREVIOUS, restart them, and run this command again.'

async function rotateJwtSecret(foundation: Foundation, options: OutputOptions & { graceDays: string }): Promise<void> {
  const { config } = foundation
  const days = Number(options.graceDays)
  if (!Number.isInteger(days) || days < 0 || days > GRACE_DAYS_MAX) {
    throw new AppError('invalid_request', `--grace-days is a whole number from 0 to ${GRACE_DAYS_MAX}.`)
  }
  const { jwtSecretKeyPrevious, jwtPreviousUntil: former } = await loadSecrets(config)
  if (jwtSecretKeyPrevious && (!former || former > new Date())) {
    throw new AppError(
      'conflict',
      `Tokens under the former secret are still accepted${former ? ` until ${formatTime(former)}` : ''}, and would be refused ` +
        'if there was a newer one: wait until then, or end that first with --end-grace.',
    )
  }
  const until = new Date(Date.now() + days * 86_400_000)
  await writeJwtPreviousUntil(config.dataDirectory, until)
  await replaceSecretFile(config.dataDirectory, 'JWT_SECRET_KEY')
  printResult(options, { rotated: true, former_accepted_until: until.toISOString() }, [
    'New tokens are signed under a new secret.',
    `Tokens under the former one are accepted until: ${formatTime(until)}`,
  ])
}

async function endGrace({ config }: Foundation, options: OutputOptions): Promise<void> {
  await removeFormerJwtSecret(config.dataDirectory)
  printResult(options, { rotated: false, former_accepted_until: null }, [
    'Tokens under the former secret are refused from the next start of the server on.',
  ])
}

const JWT_BY_ENVIRONMENT =
  'JWT_SECRET_KEY is set in your environment and has to be changed there: set the new one, the present one as ' +
  'JWT_SECRET_KEY_PREVIOUS, and perhaps JWT_PREVIOUS_UNTIL; restart every server, and only then make tokens.'
const GRACE_DAYS_MAX = 3650
const LOCK_TIMEOUT_MS = 10_000
