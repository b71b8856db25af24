import { setTimeout as sleep } from 'node:timers/promises'

/** Asks until the answer is as wanted; the last answer after ten seconds, for the assertion to show. */
export async function askUntil<T>(ask: () => Promise<T>, isWanted: (answer: T) => boolean): Promise<T> {
  const giveUpAt = performance.now() + 10_000
  for (;;) {
    const answer = await ask()
    if (isWanted(answer) || performance.now() > giveUpAt) return answer
    await sleep(50)
  }
}
