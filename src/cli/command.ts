import type { Command } from 'commander'

/** Adds a command with what every command has: a description, `--json` and an example. */
export function addCommand(program: Command, name: string, description: string, example: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--json', 'print one JSON document instead of text')
    .addHelpText('after', `\nExample:\n  $ openai-proxy ${example}`)
}
