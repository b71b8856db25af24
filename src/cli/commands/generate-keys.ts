import type { Command } from 'commander'
import { generateSecrets } from '../../instance-secrets.ts'
import { addCommand } from '../command.ts'
import { type OutputOptions, printResult } from '../output.ts'

/** Reads no configuration: it is what makes one possible. */
export function addSecretCommands(program: Command): void {
  addCommand(
    program,
    'generate-keys',
    'print new values for JWT_SECRET_KEY and ENCRYPTION_KEY',
    'generate-keys >> .env',
  ).action((options: OutputOptions) => {
    const { JWT_SECRET_KEY, ENCRYPTION_KEY } = generateSecrets()
    printResult(options, { jwt_secret_key: JWT_SECRET_KEY, encryption_key: ENCRYPTION_KEY }, [
      `JWT_SECRET_KEY=${JWT_SECRET_KEY}`,
      `ENCRYPTION_KEY=${ENCRYPTION_KEY}`,
    ])
  })
}
