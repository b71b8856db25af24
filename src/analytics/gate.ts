import { AppError } from '../errors.ts'

/** Lets some in at a time, so that reports leave database connections to those whose requests wait for nothing else. */
export interface Gate {
  /**
   * Resolves when there is room; disposing of the pass makes room for the next.
   * @throws {AppError} `overloaded` when too many wait already.
   */
  enter(): Promise<Disposable>
}

export function openGate({ runningMax, waitingMax }: { runningMax: number; waitingMax: number }): Gate {
  const waiting: (() => void)[] = []
  let running = 0

  /** Whoever waits takes the place that was left, before anybody who comes now. */
  function leave(): void {
    const next = waiting.shift()
    if (next) next()
    else running -= 1
  }

  return {
    async enter() {
      if (running < runningMax) running += 1
      else {
        if (waiting.length >= waitingMax) {
          throw new AppError('overloaded', 'Too many reports are asked for at once; try again shortly.', {
            retryAfterSeconds: 5,
          })
        }
        await new Promise<void>((resolve) => waiting.push(resolve))
      }
      return { [Symbol.dispose]: leave }
    },
  }
}
