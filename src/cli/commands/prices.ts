import type { Command } from 'commander'
import { AppError } from '../../errors.ts'
import { openPriceFile } from '../../ledger/price-file.ts'
import { addCommand } from '../command.ts'
import { readCommandConfig } from '../connect.ts'
import { type OutputOptions, printResult } from '../output.ts'

export function addPriceCommands(program: Command): void {
  addCommand(program, 'prices', 'show what a model costs here, by which table, and since when', 'prices gpt-5.6-sol')
    .argument('<model>', 'the model, as OpenAI names it')
    .action(async (model: string, options: OutputOptions) => {
      using prices = await openPriceFile(readCommandConfig())
      const list = prices.ratesFor(model, new Date())
      if (!list) {
        throw new AppError(
          'not_found',
          `There is no price for ${model}: its requests are recorded as unpriced. Add one to prices.json in DATA_DIR.`,
        )
      }
      const bands = list.bands.flatMap(
        ({ aboveInputTokens, usdPerMillion, usdPerAudioHour, usdPerMillionCharacters }) => [
          aboveInputTokens === 0
            ? 'US dollars per million tokens:'
            : `With more than ${aboveInputTokens} input tokens:`,
          ...Object.entries(usdPerMillion).map(([name, usd]) => `  ${name}: ${usd}`),
          ...(usdPerAudioHour === undefined ? [] : [`  an hour of audio: ${usdPerAudioHour}`]),
          ...(usdPerMillionCharacters === undefined ? [] : [`  a million characters: ${usdPerMillionCharacters}`]),
        ],
      )
      printResult(
        options,
        {
          model: list.model,
          source: list.source,
          since: list.since ?? null,
          price_version: list.priceVersion,
          bands: list.bands.map((band) => ({
            above_input_tokens: band.aboveInputTokens,
            usd_per_million: band.usdPerMillion,
            usd_per_audio_hour: band.usdPerAudioHour ?? null,
            usd_per_million_characters: band.usdPerMillionCharacters ?? null,
          })),
        },
        [
          `Model: ${list.model}`,
          `Source: ${list.source}`,
          `Since: ${list.since ?? 'always'}`,
          `Version: ${list.priceVersion}`,
          ...bands,
        ],
      )
    })
}
