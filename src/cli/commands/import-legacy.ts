import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { AppError } from '../../errors.ts'
import { readFernetKey } from '../../legacy-import/fernet.ts'
import type { Reason } from '../../legacy-import/report.ts'
import { type ImportReport, importLegacy } from '../../legacy-import/service.ts'
import { openSource } from '../../legacy-import/source.ts'
import { Secret } from '../../secret.ts'
import { addCommand } from '../command.ts'
import { connect } from '../connect.ts'
import { type OutputOptions, plain, printResult, printWarning } from '../output.ts'
import { showProgress } from '../progress.ts'

interface ImportOptions extends OutputOptions {
  databaseUrl?: string
  databaseUrlFile?: string
  fernetKeyFile: string
  sourceTimeZone: string
  dryRun?: boolean
}

export function addImportLegacyCommand(program: Command): void {
  addCommand(
    program,
    'import-legacy',
    'take over organizations, users, keys, personas, requests and ratings of the earlier system; again changes nothing',
    'import-legacy --database-url-file legacy-url.txt --fernet-key-file fernet-key.txt --dry-run',
  )
    .option('--database-url <url>', "the earlier system's database, which is only read")
    .option('--database-url-file <file>', 'a file that holds it, so that its password is not on the command line')
    .requiredOption('--fernet-key-file <file>', "a file that holds the earlier system's ENCRYPTION_KEY")
    .option(
      '--source-time-zone <name>',
      'of the host the earlier system ran on, which its ends and ratings are off by',
      'UTC',
    )
    .option('--dry-run', 'only say what would be imported')
    .action(async (options: ImportOptions) => {
      const url = await readUrl(options)
      const openFernet = readFernetKey((await readSecretFile(options.fernetKeyFile)).trim())
      if (!openFernet) {
        throw new AppError(
          'invalid_request',
          'The file of --fernet-key-file holds no Fernet key: it is 32 bytes in base64url, 44 characters.',
        )
      }
      await using foundation = await connect()
      await using source = await openSource(url, options.sourceTimeZone)
      const isDryRun = options.dryRun === true
      const deps = { db: foundation.db, vault: foundation.vault, source, openFernet, isDryRun }
      const report = await importLegacy(deps, showProgress('requests'))
      printResult(options, toDocument(report, isDryRun), formatReport(report, isDryRun))
    })
}

async function readUrl({ databaseUrl, databaseUrlFile }: ImportOptions): Promise<Secret> {
  if ((databaseUrl === undefined) === (databaseUrlFile === undefined)) {
    throw new AppError('invalid_request', 'Name the database with --database-url or --database-url-file.')
  }
  const text = (databaseUrl ?? (await readSecretFile(databaseUrlFile ?? ''))).trim()
  // "+asyncpg" and its like name a driver of the earlier system's language.
  const url = text.replace(/^postgres(?:ql)?(?:\+\w+)?:\/\//i, 'postgresql://')
  if (!url.startsWith('postgresql://') || !URL.canParse(url)) {
    throw new AppError('invalid_request', 'The URL must look like postgresql://user:password@host:5432/database.')
  }
  if (databaseUrl !== undefined && new URL(url).password !== '') {
    printWarning(
      'The password was given as an argument: other users of this machine can see it while the command runs, and it remains in the shell history; --database-url-file avoids both.',
    )
  }
  return new Secret(url)
}

async function readSecretFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    throw new AppError('invalid_request', `The file ${file} cannot be read: check the path and its permissions.`)
  }
}

function formatReport({ tables, notImported }: ImportReport, isDryRun: boolean): string[] {
  return [
    '',
    isDryRun ? 'What would be imported:' : 'Imported from the earlier system:',
    ...Object.entries(tables).flatMap(([table, report]) => [
      `${table}: ${report.imported} of ${report.found}, ${report.present} here already`,
      ...report.changed.map((reason) => `  changed ${formatReason(reason)}`),
      ...report.skipped.map((reason) => `  left out ${formatReason(reason)}`),
    ]),
    'Not imported:',
    ...Object.entries(notImported).map(([table, count]) => `  ${table}: ${count}`),
  ]
}

function formatReason({ why, count, examples }: Reason): string {
  return `${count}: ${why} (${examples.map(plain).join(', ')}${count > examples.length ? ', ...' : ''})`
}

function toDocument({ tables, notImported }: ImportReport, isDryRun: boolean) {
  return {
    dry_run: isDryRun,
    tables: Object.fromEntries(
      Object.entries(tables).map(([table, { found, imported, present, changed, skipped }]) => [
        table,
        { found, imported, present, changed, skipped },
      ]),
    ),
    not_imported: notImported,
  }
}
