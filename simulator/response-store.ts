import { ApiError } from './api-error.ts'
import type { BackgroundJob } from './background.ts'
import type { Context, ResponseObject } from './responses.ts'

/** A stored response, and what belongs to it. */
export type Stored = Context & {
  response: ResponseObject
  inputItems: Record<string, unknown>[]
  /** Only a background response can be cancelled, or watched again. */
  job: BackgroundJob | undefined
}

/** Responses by project: the keys of one project see the same ones, and no others. At least the last 10,000 are kept. */
export type ResponseStore = {
  find(project: string, id: string): Stored | undefined
  /** @throws ApiError 404. */
  get(project: string, id: string): Stored
  save(project: string, stored: Stored): void
  remove(project: string, id: string): void
  /** Stops what still runs in the background. */
  close(): void
}

const GENERATION = 10_000

export function openResponseStore(): ResponseStore {
  // Two generations: deleting the oldest one by one would make each look for it past all those deleted before.
  let young = new Map<string, { project: string; stored: Stored }>()
  let old = new Map<string, { project: string; stored: Stored }>()

  function find(project: string, id: string): Stored | undefined {
    const found = young.get(id) ?? old.get(id)
    return found?.project === project ? found.stored : undefined
  }

  return {
    find,
    get(project, id) {
      const stored = find(project, id)
      if (!stored) throw new ApiError(404, `Response with id '${id}' not found.`)
      return stored
    },
    save(project, stored) {
      if (young.size >= GENERATION) {
        old = young
        young = new Map()
      }
      young.set(stored.response.id, { project, stored })
    },
    remove(project, id) {
      if (find(project, id) && !young.delete(id)) old.delete(id)
    },
    close() {
      for (const { stored } of [...old.values(), ...young.values()]) stored.job?.cancel()
    },
  }
}
