import type { Command } from 'commander'

export function addStartCommand(program: Command): void {
  program
    .command('start')
    .description('run the server; its log is JSON lines on standard output')
    .addHelpText('after', '\nExample:\n  $ PORT=8080 openai-proxy start')
    .action(async () => {
      await import('../../main.ts')
    })
}
