import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import { PriceOverlayError, parsePriceOverlay } from './price-table.ts'
import { openPriceTable, type PriceTable } from './pricing.ts'

/** A price table that follows the operator's file: changed prices hold for the next settlement, without a restart. */
export interface PriceFile extends PriceTable {
  [Symbol.dispose](): void
}

/**
 * Reads the operator's prices over the shipped ones: those of PRICES_FILE, or of `prices.json` in the data directory, which need not
 * exist.
 * @throws {PriceOverlayError} when they are wrong; a later change for the worse is reported and the old prices stay.
 */
export async function openPriceFile(
  config: Pick<Config, 'pricesFile' | 'dataDirectory'>,
  handlers: { onReload(): void; onRefused(error: Error): void } = { onReload() {}, onRefused() {} },
): Promise<PriceFile> {
  const file = config.pricesFile ?? join(config.dataDirectory, 'prices.json')
  if (config.pricesFile !== undefined && (await stampOf(file)) === '') {
    throw new PriceOverlayError(['PRICES_FILE names a file that does not exist or cannot be read.'])
  }
  let stamp = await stampOf(file)
  let table = openPriceTable({ overlay: await readOverlay(file) })

  async function reload(): Promise<void> {
    const newStamp = await stampOf(file)
    if (newStamp === stamp) return
    stamp = newStamp
    try {
      table = openPriceTable({ overlay: await readOverlay(file) })
      handlers.onReload()
    } catch (error) {
      handlers.onRefused(error as Error)
    }
  }

  const timer = setInterval(reload, CHECK_INTERVAL_MS)
  timer.unref()
  return {
    price: (answer) => table.price(answer),
    ratesFor: (model, at) => table.ratesFor(model, at),
    [Symbol.dispose]: () => clearInterval(timer),
  }
}

/** A file on a network share or a mounted secret tells no one that it changed: it is looked at. */
const CHECK_INTERVAL_MS = 2000

async function readOverlay(file: string) {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return undefined
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    throw new PriceOverlayError([`${file} is not valid JSON.`])
  }
  return parsePriceOverlay(raw)
}

async function stampOf(file: string): Promise<string> {
  const found = await stat(file, { bigint: true }).catch(() => undefined)
  return found ? `${found.mtimeNs}:${found.size}:${found.ino}` : ''
}
