import type { Command } from 'commander'
import { AppError } from '../../errors.ts'

export function addSimulateCommand(program: Command): void {
  program
    .command('simulate')
    .description('run a simulated OpenAI: no account, no cost; set OPENAI_API_BASE_URL to it')
    .option('--port <n>', 'where it listens; 0 takes a free port', '4020')
    .option('--host <name>', 'on which address', '127.0.0.1')
    .option('--ledger <file>', 'append every call to this file, as a line of JSON')
    .addHelpText('after', '\nExample:\n  $ openai-proxy simulate --port 4020')
    .action(async ({ port, host, ledger }: { port: string; host: string; ledger?: string }) => {
      if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) {
        throw new AppError('invalid_request', `--port ${port} is not a port.`)
      }
      // Loaded only now: no other command should wait for it.
      const { run } = await import('../../../simulator/main.ts')
      try {
        await run(['--port', port, '--host', host, ...(ledger === undefined ? [] : ['--ledger', ledger])])
      } catch (error) {
        if (!(error instanceof Error) || !('code' in error) || error.code !== 'EADDRINUSE') throw error
        throw new AppError('conflict', `Port ${port} is taken by another process: choose one with --port.`)
      }
    })
}
