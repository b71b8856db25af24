import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'

/** Counts tokens in a thread of its own, because some texts take it a second. */
export interface Tokenizer {
  /** @returns undefined when the count is not to be had in time; then an estimate has to do. */
  count(text: string): Promise<number | undefined>
  [Symbol.asyncDispose](): Promise<void>
}

/** The thread is started when it is first needed and ended when it is not needed any more: its tables take 70 MB. */
export function openTokenizer(): Tokenizer {
  let worker: Worker | undefined
  let idleTimer: NodeJS.Timeout | undefined
  let nextId = 0
  const waiting = new Map<number, (tokens: number | undefined) => void>()

  function start(): Worker {
    // Like this file, it is .js in the published package.
    const fresh = new Worker(new URL(`./tokenizer-worker${extname(import.meta.filename)}`, import.meta.url))
    fresh.unref()
    fresh.on('message', ({ id, tokens }: { id: number; tokens: number }) => answer(id, tokens))
    fresh.on('error', stop)
    return fresh
  }

  function answer(id: number, tokens: number | undefined): void {
    waiting.get(id)?.(tokens)
    waiting.delete(id)
    clearTimeout(idleTimer)
    idleTimer = setTimeout(stop, IDLE_MS)
    idleTimer.unref()
  }

  function stop(): void {
    void worker?.terminate()
    worker = undefined
    for (const resolve of waiting.values()) resolve(undefined)
    waiting.clear()
  }

  return {
    count(text) {
      if (waiting.size >= WAITING_MAX) return Promise.resolve(undefined)
      worker ??= start()
      const id = nextId
      nextId += 1
      return new Promise((resolve) => {
        const timer = setTimeout(() => answer(id, undefined), ANSWER_TIMEOUT_MS)
        waiting.set(id, (tokens) => {
          clearTimeout(timer)
          resolve(tokens)
        })
        worker?.postMessage({ id, text })
      })
    },
    async [Symbol.asyncDispose]() {
      clearTimeout(idleTimer)
      stop()
    },
  }
}

const WAITING_MAX = 1000
const ANSWER_TIMEOUT_MS = 5000
const IDLE_MS = 60_000
