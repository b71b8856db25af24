import { monitorEventLoopDelay } from 'node:perf_hooks'

/** How busy this process is, measured once a second. */
export interface ProcessLoad {
  /** How late the event loop was in the last second: the 99th percentile and the worst, in milliseconds. */
  readonly loopDelayP99Ms: number
  readonly loopDelayMaxMs: number
  /** For how many seconds on end the 99th percentile has been above a limit. */
  secondsAbove(limitMs: number): number
  /** Memory of the process, its buffers included. */
  readonly residentBytes: number
  [Symbol.dispose](): void
}

export function watchProcess(): ProcessLoad {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delays.enable()
  let loopDelayP99Ms = 0
  let loopDelayMaxMs = 0
  let residentBytes = process.memoryUsage.rss()
  /** The newest first. */
  let recent: number[] = []

  const timer = setInterval(() => {
    loopDelayP99Ms = lateness(delays.percentile(99))
    loopDelayMaxMs = lateness(delays.max)
    delays.reset()
    recent = [loopDelayP99Ms, ...recent.slice(0, RECENT_MAX - 1)]
    residentBytes = process.memoryUsage.rss()
  }, INTERVAL_MS)
  timer.unref()

  return {
    get loopDelayP99Ms() {
      return loopDelayP99Ms
    },
    get loopDelayMaxMs() {
      return loopDelayMaxMs
    },
    secondsAbove(limitMs) {
      const firstBelow = recent.findIndex((delay) => delay <= limitMs)
      return firstBelow === -1 ? recent.length : firstBelow
    },
    get residentBytes() {
      return residentBytes
    },
    [Symbol.dispose]() {
      clearInterval(timer)
      delays.disable()
    },
  }
}

const INTERVAL_MS = 1000
const RESOLUTION_MS = 10
const RECENT_MAX = 10

/** What is measured is the time between two ticks, in nanoseconds. */
function lateness(nanoseconds: number): number {
  return Number.isFinite(nanoseconds) ? Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS) : 0
}
