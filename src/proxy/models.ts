import { AppError } from '../errors.ts'
import { isModelAllowed, type Policies } from '../organizations/policies.ts'
import type { Reference } from './references.ts'

/**
 * Whether an organization may use the models that a request names. Fine-tuned ones belong to whoever trained them, which another
 * organization of the same OpenAI project may have done: they are objects like any other.
 * @returns the fine-tuned ones, which must be the caller's own.
 * @throws {AppError} `model_not_found`, as OpenAI answers for a model that a project has no access to.
 */
export function requireModels(policies: Policies, models: readonly (string | null)[]): Reference[] {
  const fineTuned: Reference[] = []
  for (const model of models) {
    if (model === null) {
      if (policies.models === null) continue
      throw new AppError('model_not_found', 'Your organization allows certain models only: name one of them.', {
        param: 'model',
      })
    }
    if (!isModelAllowed(policies, model)) throw modelNotFound(model)
    if (isFineTuned(model)) fineTuned.push({ kinds: ['model'], id: model, param: 'model', isLookedUp: true })
  }
  return fineTuned
}

export function isFineTuned(model: string): boolean {
  return /(?:^|:)ft[:-]/i.test(model)
}

function modelNotFound(model: string): AppError {
  const name = model.slice(0, 128)
  return new AppError(
    'model_not_found',
    `The model "${name}" does not exist or your organization has no access to it.`,
    {
      param: 'model',
    },
  )
}
