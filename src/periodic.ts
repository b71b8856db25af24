/** Work that is done at once and then again and again; after a fault it is tried again sooner. */
export function startPeriodic(options: {
  work: (signal: AbortSignal) => Promise<void>
  intervalMs: number
  retryMs: number
  onFault: (error: Error) => void
}): AsyncDisposable {
  const closing = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let running = turn()

  async function turn(): Promise<void> {
    let waitMs = options.intervalMs
    try {
      await options.work(closing.signal)
    } catch (error) {
      options.onFault(error as Error)
      waitMs = options.retryMs
    }
    if (closing.signal.aborted) return
    timer = setTimeout(() => {
      running = turn()
    }, waitMs)
    timer.unref()
  }

  return {
    async [Symbol.asyncDispose]() {
      closing.abort()
      clearTimeout(timer)
      await running
    },
  }
}
