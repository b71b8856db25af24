import type { Command } from 'commander'
import { type MigrationStatus, migrate, migrationStatus } from '../../db/migrate.ts'
import { addCommand } from '../command.ts'
import { connectToExisting, openForMigration, readCommandConfig } from '../connect.ts'
import { formatTable, formatTime, type OutputOptions, printResult } from '../output.ts'

export function addMigrateCommand(program: Command): void {
  addCommand(
    program,
    'migrate',
    'bring the database to the schema of this version (a starting server does so too)',
    'migrate --status',
  )
    .option('--status', 'only show which migrations are applied and which are pending')
    .action((options: OutputOptions & { status?: boolean }) => (options.status ? show(options) : apply(options)))
}

async function apply(options: OutputOptions): Promise<void> {
  await using storage = await openForMigration()
  const applied = await migrate(storage.db)
  printResult(
    options,
    { applied: applied.map(({ version, name }) => ({ version, name })) },
    applied.length === 0
      ? ['The database is up to date.']
      : ['', 'Migrations applied:', ...applied.map(({ name }) => `  ${name}`)],
  )
}

async function show(options: OutputOptions): Promise<void> {
  await using storage = await connectToExisting(readCommandConfig())
  const migrations = await migrationStatus(storage?.db)
  printResult(options, { migrations: migrations.map(toDocument) }, ['', ...formatTable(COLUMNS, migrations)])
}

const COLUMNS = [
  { title: 'Migration', value: ({ name }: MigrationStatus) => name },
  { title: 'Applied', value: ({ appliedAt }: MigrationStatus) => (appliedAt ? formatTime(appliedAt) : 'pending') },
]

function toDocument({ version, name, isBreaking, appliedAt }: MigrationStatus) {
  return { version, name, is_breaking: isBreaking, applied_at: appliedAt?.toISOString() ?? null }
}
