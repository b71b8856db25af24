import { AppError } from '../errors.ts'

export const SCOPES = ['inference', 'org:admin'] as const
export type Scope = (typeof SCOPES)[number]

/** The authenticated party: for which organization it speaks and what it may do there. */
export interface Caller {
  readonly organizationId: string
  readonly scopes: readonly Scope[]
  /** Who acts, for the audit log: `token:<id>`, `key:<id>` or `operator`. */
  readonly actor: string
}

/** Whoever runs the command line on the server's own machine: may act in every organization. */
export interface Operator {
  readonly actor: 'operator'
}

export const OPERATOR: Operator = { actor: 'operator' }

export function requireScope(caller: Caller, scope: Scope): void {
  if (caller.scopes.includes(scope)) return
  throw new AppError(
    'insufficient_scope',
    `This credential lacks the scope "${scope}". Use a token made with --scope ${scope}.`,
  )
}

/** The operator acting as an administrator of one organization. */
export function asAdministrator(operator: Operator, organizationId: string): Caller {
  return { organizationId, scopes: SCOPES, actor: operator.actor }
}
