import { AppError } from '../errors.ts'

/** How many requests may be under way in this process; a response over a WebSocket is one like any other. */
export class Places {
  readonly #countMax: number
  #count = 0

  constructor(countMax: number) {
    this.#countMax = countMax
  }

  /** @throws {AppError} `overloaded` when there is none left. */
  take(): void {
    if (this.#count >= this.#countMax) throw overloaded()
    this.#count += 1
  }

  /** For what has begun already and cannot be refused. */
  takeAnyway(): void {
    this.#count += 1
  }

  free(): void {
    this.#count -= 1
  }
}

function overloaded(): AppError {
  return new AppError('overloaded', 'The proxy has as many requests under way as it takes; try again shortly.', {
    retryAfterSeconds: 1,
  })
}
