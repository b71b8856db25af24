/** The operator's command line: the same services as the admin API, for whoever may run it on the server's machine. */
import { type Argument, Command, CommanderError } from 'commander'
import { ConfigError } from '../config.ts'
import { explainStartFailure } from '../explain-failure.ts'
import { VERSION } from '../version.ts'
import { addAdoptCommand } from './commands/adopt.ts'
import { addApiKeyCommands } from './commands/api-keys.ts'
import { addAuditCommands } from './commands/audit.ts'
import { addDemoCommand } from './commands/demo.ts'
import { addExportCommand } from './commands/export.ts'
import { addSecretCommands } from './commands/generate-keys.ts'
import { addPersonaAnalyticsCommand } from './commands/get-analytics.ts'
import { addImportLegacyCommand } from './commands/import-legacy.ts'
import { addLedgerCommands } from './commands/ledger.ts'
import { addMigrateCommand } from './commands/migrate.ts'
import { addOrganizationCommands } from './commands/organizations.ts'
import { addPersonaDefaultCommands } from './commands/persona-defaults.ts'
import { addPersonaVersionCommands } from './commands/persona-versions.ts'
import { addPersonaCommands } from './commands/personas.ts'
import { addPolicyCommands } from './commands/policies.ts'
import { addPriceCommands } from './commands/prices.ts'
import { addRatingsCommand } from './commands/ratings.ts'
import { addRequestCommands } from './commands/requests.ts'
import { addRetentionCommand } from './commands/retention.ts'
import { addRotationCommands } from './commands/rotate.ts'
import { addSelftestCommand } from './commands/selftest.ts'
import { addSimulateCommand } from './commands/simulate.ts'
import { addStartCommand } from './commands/start.ts'
import { addStatusCommand } from './commands/status.ts'
import { addTokenCommands } from './commands/tokens.ts'
import { addUsageCommand } from './commands/usage.ts'
import { addUserCommands } from './commands/users.ts'
import { printError } from './output.ts'

// Both can hold keys: a report by its environment, a snapshot by its heap.
process.report.reportOnFatalError = false
process.report.excludeEnv = true

const USAGE_ERROR = 2

const program = createProgram()
try {
  if (process.argv.length <= 2) program.outputHelp()
  else await program.parseAsync()
} catch (error) {
  process.exitCode = explain(error)
}

function createProgram(): Command {
  const program = new Command('openai-proxy')
    .description(
      'Runs the OpenAI Inference Proxy, and manages its organizations, users, API keys, personas and tokens.',
    )
    .version(VERSION, '-V, --version', 'print the version')
    .configureOutput({ outputError: () => {} })
    .exitOverride()
    .configureHelp({
      subcommandTerm: (command) => [command.name(), ...command.registeredArguments.map(termOf)].join(' '),
    })
    .addHelpText('after', '\nSettings come from the environment and from .env in the working directory.')
  program.commandsGroup('Run:')
  addStartCommand(program)
  addDemoCommand(program)
  addSimulateCommand(program)
  program.commandsGroup('Organizations and users:')
  addOrganizationCommands(program)
  addPolicyCommands(program)
  addAdoptCommand(program)
  addUserCommands(program)
  program.commandsGroup('API keys:')
  addApiKeyCommands(program)
  program.commandsGroup('Personas:')
  addPersonaCommands(program)
  addPersonaVersionCommands(program)
  addPersonaDefaultCommands(program)
  addPersonaAnalyticsCommand(program)
  program.commandsGroup('Tokens:')
  addTokenCommands(program)
  program.commandsGroup('Analytics:')
  addUsageCommand(program)
  addRatingsCommand(program)
  program.commandsGroup('Records:')
  addRequestCommands(program)
  addLedgerCommands(program)
  addPriceCommands(program)
  addAuditCommands(program)
  addRetentionCommand(program)
  addExportCommand(program)
  program.commandsGroup('Installation:')
  addStatusCommand(program)
  addSelftestCommand(program)
  addMigrateCommand(program)
  addSecretCommands(program)
  addRotationCommands(program)
  addImportLegacyCommand(program)
  program.helpCommand('help [command]', 'explain a command')
  return program
}

function termOf(argument: Argument): string {
  return argument.required ? `<${argument.name()}>` : `[${argument.name()}]`
}

/** @returns the exit code: 2 for a command line that says nothing sensible, 1 for a command that failed. */
function explain(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0
    const sentence = error.message.replace(/^error: /, '').replace(/\n\(D(.*)\)$/, '; d$1')
    const end = /[.?]$/.test(sentence) ? '' : '.'
    printError(`${sentence.charAt(0).toUpperCase()}${sentence.slice(1)}${end}`)
    return USAGE_ERROR
  }
  printError(error instanceof ConfigError ? error.problems.join(' ') : explainStartFailure(error))
  return 1
}
