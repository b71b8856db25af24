import { parentPort } from 'node:worker_threads'
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base'

/** The thread behind `tokenizer.ts`: o200k is the encoding of every model since gpt-4o. */
parentPort?.on('message', ({ id, text }: { id: number; text: string }) => {
  // A special token's spelling within a text is text.
  const tokens = countTokens(text, { disallowedSpecial: new Set() })
  parentPort?.postMessage({ id, tokens })
})
