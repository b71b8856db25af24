import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { calcPrice, findProvider, type MatchLogic } from '@pydantic/genai-prices'
import { type PriceOverlay, PriceOverlayError, parsePriceOverlay } from './price-table.ts'
import { openPriceTable } from './pricing.ts'
import { NO_USAGE, readUsage, type Usage } from './usage.ts'

const NOW = '2026-11-20T12:00:00Z'
const table = openPriceTable()

function use(inputTokens: number, outputTokens: number, rest: Partial<Usage> = {}): Usage {
  return { ...NO_USAGE, inputTokens, outputTokens, totalTokens: inputTokens + outputTokens, ...rest }
}

function cost(
  model: string,
  tier: string | null,
  usage: Usage | undefined,
  at: string = NOW,
  prices = table,
): bigint | string {
  const priced = prices.price({ model, serviceTier: tier, usage, at: new Date(at) })
  return priced.kind === 'priced' ? priced.costNanoUsd : priced.reason
}

/** 800 uncached, 200 cached, 100 output. */
const A = use(1000, 100, { cachedTokens: 200, reasoningTokens: 60 })
/** 400 uncached, 200 cached, 300 written for 30 minutes, 100 for 12 hours, 100 output. */
const W = use(1000, 100, { cachedTokens: 200, cacheWrite30mTokens: 300, cacheWrite12hTokens: 100 })
/** So many input tokens, 100,000 of them cached, and 1,000 output. */
const long = (inputTokens: number) => use(inputTokens, 1000, { cachedTokens: 100_000 })
const VOICE = use(1000, 200, {
  inputAudioTokens: 400,
  inputImageTokens: 100,
  cachedTokens: 300,
  cachedAudioTokens: 100,
  cachedImageTokens: 50,
  outputAudioTokens: 150,
})
const PICTURE = use(250, 1000, { inputImageTokens: 200, outputImageTokens: 1000 })

// One token at $1 per million is 1,000 nano-dollars. The arithmetic beside each row is in thousands of nano-dollars.
const GOLDEN: [model: string, tier: string | null, usage: Usage, costNanoUsd: bigint, at?: string][] = [
  ['gpt-6-astra', null, A, 13_200_000n], // 800*10 + 200*1 + 100*50
  ['gpt-6.1-sol', null, A, 2_620_000n], // 800*2 + 200*0.1 + 100*10
  ['gpt-6.1-terra', null, A, 1_310_000n], // 800*1 + 200*0.05 + 100*5
  ['gpt-6-sol', null, A, 2_640_000n], // 800*2 + 200*0.2 + 100*10
  ['gpt-6-luna', null, A, 132_000n], // 800*0.1 + 200*0.01 + 100*0.5
  ['gpt-5.6-sol', null, A, 5_280_000n], // 800*4 + 200*0.4 + 100*20
  ['gpt-5.6', null, A, 5_280_000n], // the same model
  ['gpt-5.6-terra', null, A, 2_840_000n], // 800*2 + 200*0.2 + 100*12
  ['gpt-5.6-luna', null, A, 284_000n], // 800*0.2 + 200*0.02 + 100*1.2
  ['gpt-5.5', null, A, 7_100_000n], // 800*5 + 200*0.5 + 100*30
  ['gpt-5.5-pro', null, A, 48_000_000n], // 1000*30 + 100*180: no price for cached
  ['gpt-5.4-pro', null, A, 48_000_000n], // 1000*30 + 100*180
  ['gpt-5.4', null, A, 3_550_000n], // 800*2.5 + 200*0.25 + 100*15
  ['gpt-5.4-mini', null, A, 1_065_000n], // 800*0.75 + 200*0.075 + 100*4.5
  ['gpt-5.4-nano', null, A, 289_000n], // 800*0.2 + 200*0.02 + 100*1.25
  ['gpt-5.3', null, A, 2_835_000n], // 800*1.75 + 200*0.175 + 100*14
  ['gpt-5.3-chat-latest', null, A, 2_835_000n], // named beside gpt-5.3
  ['gpt-5.3-codex', null, A, 2_835_000n], // 800*1.75 + 200*0.175 + 100*14
  ['gpt-5.2', null, A, 2_835_000n], // 800*1.75 + 200*0.175 + 100*14
  ['gpt-5.2-pro', null, A, 37_800_000n], // 1000*21 + 100*168
  ['gpt-5.1', null, A, 2_025_000n], // 800*1.25 + 200*0.125 + 100*10
  ['gpt-5.1-codex-mini', null, A, 405_000n], // 800*0.25 + 200*0.025 + 100*2
  ['gpt-5', null, A, 2_025_000n], // 800*1.25 + 200*0.125 + 100*10
  ['gpt-5-pro', null, A, 27_000_000n], // 1000*15 + 100*120
  ['gpt-5-mini', null, A, 405_000n], // 800*0.25 + 200*0.025 + 100*2
  ['gpt-5-nano', null, A, 81_000n], // 800*0.05 + 200*0.005 + 100*0.4
  ['gpt-4.1', null, A, 2_500_000n], // 800*2 + 200*0.5 + 100*8
  ['gpt-4.1-mini', null, A, 500_000n], // 800*0.4 + 200*0.1 + 100*1.6
  ['gpt-4.1-nano', null, A, 125_000n], // 800*0.1 + 200*0.025 + 100*0.4
  ['gpt-4o', null, A, 3_250_000n], // 800*2.5 + 200*1.25 + 100*10
  ['gpt-4o-mini', null, A, 195_000n], // 800*0.15 + 200*0.075 + 100*0.6
  ['gpt-4o-2024-05-13', null, A, 6_500_000n], // 1000*5 + 100*15
  ['chatgpt-4o-latest', null, A, 6_500_000n], // 1000*5 + 100*15
  ['gpt-4-turbo', null, A, 13_000_000n], // 1000*10 + 100*30
  ['gpt-4', null, A, 36_000_000n], // 1000*30 + 100*60
  ['gpt-3.5-turbo', null, A, 650_000n], // 1000*0.5 + 100*1.5
  ['o1', null, A, 19_500_000n], // 800*15 + 200*7.5 + 100*60
  ['o1-pro', null, A, 210_000_000n], // 1000*150 + 100*600
  ['o1-mini', null, A, 1_430_000n], // 800*1.1 + 200*0.55 + 100*4.4
  ['o3', null, A, 2_500_000n], // 800*2 + 200*0.5 + 100*8
  ['o3-mini', null, A, 1_430_000n], // 800*1.1 + 200*0.55 + 100*4.4
  ['o3-pro', null, A, 28_000_000n], // 1000*20 + 100*80
  ['o3-deep-research', null, A, 12_500_000n], // 800*10 + 200*2.5 + 100*40
  ['o4-mini', null, A, 1_375_000n], // 800*1.1 + 200*0.275 + 100*4.4
  ['o4-mini-deep-research', null, A, 2_500_000n], // 800*2 + 200*0.5 + 100*8
  ['codex-mini-latest', null, A, 1_875_000n], // 800*1.5 + 200*0.375 + 100*6
  ['codex-mini', null, A, 1_875_000n], // 800*1.5 + 200*0.375 + 100*6
  ['gpt-4.5-preview', null, A, 82_500_000n], // 800*75 + 200*37.5 + 100*150
  ['gpt-4o-realtime-preview', null, A, 6_500_000n], // 800*5 + 200*2.5 + 100*20
  ['gpt-4o-mini-realtime-preview', null, A, 780_000n], // 800*0.6 + 200*0.3 + 100*2.4
  ['gpt-realtime', null, A, 4_880_000n], // 800*4 + 200*0.4 + 100*16
  ['gpt-realtime-mini', null, A, 732_000n], // 800*0.6 + 200*0.06 + 100*2.4
  ['gpt-5-image', null, A, 9_250_000n], // 800*10 + 200*1.25 + 100*10
  ['gpt-5-image-mini', null, A, 2_250_000n], // 800*2.5 + 200*0.25 + 100*2
  ['gpt-5.4-image-2', null, A, 8_300_000n], // 800*8 + 200*2 + 100*15
  ['gpt-chat-latest', null, A, 7_100_000n], // 800*5 + 200*0.5 + 100*30
  ['gpt-oss-safeguard-20b', null, A, 97_400n], // 800*0.075 + 200*0.037 + 100*0.3
  ['o1-preview', null, A, 19_500_000n], // 800*15 + 200*7.5 + 100*60
  ['gpt-image-1', null, A, 8_250_000n], // 800*5 + 200*1.25 + 100*40
  ['gpt-image-1-mini', null, A, 2_440_000n], // 800*2 + 200*0.2 + 100*8
  ['gpt-image-1.5', null, A, 5_250_000n], // 800*5 + 200*1.25 + 100*10
  ['gpt-image-2', null, A, 7_250_000n], // 800*5 + 200*1.25 + 100*30
  ['gpt-realtime-2', null, A, 5_680_000n], // 800*4 + 200*0.4 + 100*24
  ['computer-use-preview', null, A, 4_200_000n], // 1000*3 + 100*12
  ['computer-use-preview-2025-03-11', null, A, 4_200_000n], // 1000*3 + 100*12
  ['text-embedding-3-large', null, use(1000, 0), 130_000n], // 1000*0.13
  ['text-embedding-3-small', null, use(1, 0), 20n], // 1*0.02
  ['text-embedding-ada-002', null, use(1000, 0), 100_000n], // 1000*0.1
  ['omni-moderation-latest', null, use(1000, 0), 0n], // free
  ['omni-moderation-2024-09-26', null, use(1000, 0), 0n], // free

  // Dated snapshots
  ['gpt-6.1-sol-2026-10-15', null, A, 2_620_000n],
  ['gpt-6-sol-2026-09-17', null, A, 2_640_000n],
  ['gpt-5.5-2026-04-23', null, A, 7_100_000n],
  ['gpt-4o-2024-08-06', null, A, 3_250_000n],
  ['gpt-5-nano-2025-08-07', null, A, 81_000n],

  // Service tiers
  ['gpt-6-sol', 'default', A, 2_640_000n],
  ['gpt-6-sol', 'auto', A, 2_640_000n],
  ['gpt-6-sol', 'standard', A, 2_640_000n],
  ['gpt-6-sol', 'scale', A, 2_640_000n],
  ['gpt-6-sol', '', A, 2_640_000n],
  ['gpt-6-sol', 'flex', A, 1_320_000n], // 2640 * 0.5
  ['gpt-6-sol', 'batch', A, 1_320_000n], // 2640 * 0.5
  ['gpt-6-sol', 'priority', A, 5_280_000n], // 2640 * 2
  ['gpt-6-sol', 'fast', A, 5_280_000n], // 2640 * 2
  ['gpt-5.5', 'priority', A, 17_750_000n], // 800*12.5 + 200*1.25 + 100*75
  ['gpt-5.5-2026-04-23', 'fast', A, 17_750_000n], // the same
  ['gpt-5.5', 'flex', A, 3_550_000n], // 7100 * 0.5
  ['gpt-5.5-pro', 'priority', A, 96_000_000n], // 48000 * 2
  ['gpt-5-mini', 'priority', A, 729_000n], // 800*0.45 + 200*0.045 + 100*3.6
  ['gpt-5-mini-2025-08-07', 'fast', A, 729_000n], // the same
  ['gpt-5', 'priority', A, 4_050_000n], // 800*2.5 + 200*0.25 + 100*20
  ['gpt-4.1', 'priority', A, 4_375_000n], // 800*3.5 + 200*0.875 + 100*14
  ['gpt-4.1-mini', 'priority', A, 875_000n], // 800*0.7 + 200*0.175 + 100*2.8
  ['gpt-4.1-nano', 'priority', A, 250_000n], // 800*0.2 + 200*0.05 + 100*0.8
  ['gpt-4o', 'priority', A, 5_525_000n], // 800*4.25 + 200*2.125 + 100*17
  ['gpt-4o-2024-08-06', 'priority', A, 5_525_000n], // the same
  ['gpt-4o-2024-05-13', 'priority', A, 11_375_000n], // 1000*8.75 + 100*26.25
  ['gpt-4o-mini', 'priority', A, 325_000n], // 800*0.25 + 200*0.125 + 100*1
  ['o3', 'priority', A, 4_375_000n], // 800*3.5 + 200*0.875 + 100*14
  ['o4-mini', 'priority', A, 2_500_000n], // 800*2 + 200*0.5 + 100*8
  ['gpt-6.1-sol', 'fast', A, 5_240_000n], // 2620 * 2

  // One rounding, half up, at the end
  ['gpt-5-nano', 'batch', use(1, 0, { cachedTokens: 1 }), 3n], // 5 nano * 0.5 = 2.5
  ['gpt-5-nano', 'batch', use(3, 0, { cachedTokens: 3 }), 8n], // 15 nano * 0.5 = 7.5
  ['gpt-5-nano', 'batch', use(2, 0, { cachedTokens: 2 }), 5n], // 10 nano * 0.5

  // Cache writes
  ['gpt-6-sol', null, W, 3_090_000n], // 400*2 + 200*0.2 + 300*2.5 + 100*5 + 100*10
  ['gpt-6.1-sol', null, W, 3_070_000n], // 400*2 + 200*0.1 + 300*2.5 + 100*5 + 100*10
  ['gpt-6.1-terra', null, W, 1_535_000n], // 400*1 + 200*0.05 + 300*1.25 + 100*2.5 + 100*5
  ['gpt-6-astra', null, W, 15_450_000n], // 400*10 + 200*1 + 300*12.5 + 100*25 + 100*50
  ['gpt-6-luna', null, W, 154_500n], // 400*0.1 + 200*0.01 + 300*0.125 + 100*0.25 + 100*0.5
  ['gpt-5.6-sol', null, W, 6_180_000n], // 400*4 + 200*0.4 + 300*5 + 100*10 + 100*20
  ['gpt-5.6-sol', 'flex', W, 3_090_000n], // 6180 * 0.5
  ['gpt-5.5', null, W, 7_100_000n], // (400+300+100)*5 + 200*0.5 + 100*30: writes were free before gpt-5.6
  ['gpt-4o', null, W, 3_250_000n], // (400+300+100)*2.5 + 200*1.25 + 100*10

  // Long context
  ['gpt-5.6-sol', null, long(271_999), 747_996_000n], // 171999*4 + 100000*0.4 + 1000*20
  ['gpt-5.6-sol', null, long(272_000), 1_486_000_000n], // 172000*8 + 100000*0.8 + 1000*30
  ['gpt-5.6-terra', null, long(271_999), 375_998_000n], // 171999*2 + 100000*0.2 + 1000*12
  ['gpt-5.6-terra', null, long(272_000), 746_000_000n], // 172000*4 + 100000*0.4 + 1000*18
  ['gpt-5.6-luna', null, long(271_999), 37_599_800n], // 171999*0.2 + 100000*0.02 + 1000*1.2
  ['gpt-5.6-luna', null, long(272_000), 74_600_000n], // 172000*0.4 + 100000*0.04 + 1000*1.8
  ['gpt-5.5', null, long(272_000), 1_865_000_000n], // 172000*10 + 100000*1 + 1000*45
  ['gpt-5.4-pro', null, long(271_999), 8_339_970_000n], // 271999*30 + 1000*180
  ['gpt-5.4-pro', null, long(272_000), 16_590_000_000n], // 272000*60 + 1000*270
  ['gpt-5.4', null, long(272_000), 932_500_000n], // 172000*5 + 100000*0.5 + 1000*22.5
  ['gpt-6-astra', null, long(272_000), 3_715_000_000n], // 172000*20 + 100000*2 + 1000*75
  ['gpt-6-sol', null, long(272_000), 374_000_000n], // 172000*2 + 100000*0.2 + 1000*10
  ['gpt-6-sol', null, long(272_001), 743_004_000n], // 172001*4 + 100000*0.4 + 1000*15
  ['gpt-6-sol', 'flex', long(272_001), 371_502_000n], // 743004 * 0.5
  ['gpt-6-luna', null, long(272_001), 37_150_200n], // 172001*0.2 + 100000*0.02 + 1000*0.75
  ['gpt-6.1-sol', null, long(272_000), 364_000_000n], // 172000*2 + 100000*0.1 + 1000*10
  ['gpt-6.1-sol', null, long(272_001), 723_004_000n], // 172001*4 + 100000*0.2 + 1000*15
  ['gpt-6.1-terra', null, long(272_000), 182_000_000n], // 172000*1 + 100000*0.05 + 1000*5
  ['gpt-6.1-terra', null, long(272_001), 361_502_000n], // 172001*2 + 100000*0.1 + 1000*7.5
  ['gpt-5.5', 'priority', long(272_001), 4_662_525_000n], // (172001*10 + 100000*1 + 1000*45) * 2.5
  ['gpt-5.5-pro', null, long(272_001), 16_590_060_000n], // 272001*60 + 1000*270
  ['gpt-5.4-mini', null, long(300_000), 162_000_000n], // 200000*0.75 + 100000*0.075 + 1000*4.5: no long context
  [
    'gpt-6.1-terra',
    null,
    use(300_000, 0, { cacheWrite30mTokens: 100_000, cacheWrite12hTokens: 100_000 }),
    950_000_000n, // 100000*2 + 100000*2.5 + 100000*5
  ],
  [
    'gpt-6.1-sol',
    null,
    use(300_000, 0, { cacheWrite30mTokens: 100_000, cacheWrite12hTokens: 100_000 }),
    1_900_000_000n, // 100000*4 + 100000*5 + 100000*10
  ],

  // History
  ['gpt-5.6-sol', null, A, 7_100_000n, '2026-08-20T23:59:59.999Z'], // 800*5 + 200*0.5 + 100*30
  ['gpt-5.6-sol', null, A, 5_280_000n, '2026-08-21T00:00:00.000Z'], // 800*4 + 200*0.4 + 100*20
  ['gpt-5.6-terra', null, A, 3_550_000n, '2026-07-29T23:59:59.999Z'], // 800*2.5 + 200*0.25 + 100*15
  ['gpt-5.6-luna', null, A, 1_420_000n, '2026-07-29T12:00:00Z'], // 800*1 + 200*0.1 + 100*6
  ['gpt-5.6-luna', null, A, 284_000n, '2026-07-30T00:00:00Z'], // 800*0.2 + 200*0.02 + 100*1.2
  ['o3', null, A, 12_100_000n, '2025-06-09T12:00:00Z'], // 800*10 + 200*0.5 + 100*40

  // Audio, images, time
  // text 350*4 + 150*0.4, audio 300*32 + 100*0.4, image 50*5 + 50*0.5, output 50*24 + 150*64
  ['gpt-realtime-2', null, VOICE, 22_175_000n],
  ['gpt-realtime-2.1', null, VOICE, 22_175_000n], // named, with the page of 2.1 as the source
  ['gpt-audio', null, use(100, 50, { inputAudioTokens: 60, outputAudioTokens: 40 }), 4_680_000n], // 40*2.5 + 60*32 + 10*10 + 40*64
  ['gpt-4o-transcribe', null, use(100, 20, { inputAudioTokens: 90 }), 765_000n], // 10*2.5 + 90*6 + 20*10
  ['gpt-4o-audio-preview', null, use(100, 20), 450_000n], // 100*2.5 + 20*10
  ['gpt-image-1.5', null, PICTURE, 33_850_000n], // 50*5 + 200*8 + 1000*32
  ['gpt-image-2', null, PICTURE, 31_850_000n], // 50*5 + 200*8 + 1000*30
  ['gpt-4o', null, use(1000, 100, { inputImageTokens: 300 }), 3_500_000n], // 1000*2.5 + 100*10: a seen image is input
  ['whisper-1', null, { ...NO_USAGE, seconds: 90 }, 9_000_000n], // $0.36 * 90 / 3600
  ['tts-1', null, { ...NO_USAGE, characters: 4096 }, 61_440_000n], // $15 * 4096 / 1,000,000
  ['tts-1-hd-1106', null, { ...NO_USAGE, characters: 1 }, 30_000n], // $30 / 1,000,000
  ['gpt-transcribe', null, { ...NO_USAGE, seconds: 1 }, 75_000n], // $0.27 / 3600
  ['gpt-6-sol', null, use(0, 0), 0n],
  ['gpt-6-sol', null, use(1e12, 1e12), 19_000_000_000_000_000n], // 10^12*4 + 10^12*15: 19 million dollars
]

test('each model, tier and kind of token costs what the price page says, to the nano-dollar', () => {
  for (const [model, tier, usage, costNanoUsd, at] of GOLDEN) {
    assert.equal(cost(model, tier, usage, at), costNanoUsd, `${model} ${tier} ${at ?? ''} ${JSON.stringify(usage)}`)
  }
})

// What each kind of endpoint reports, as it comes. The arithmetic is in thousands of nano-dollars.
const ENDPOINTS: [kind: string, model: string, tier: string | null, raw: object, costNanoUsd: bigint | RegExp][] = [
  [
    'chat',
    'gpt-4o-2024-08-06',
    'default',
    {
      prompt_tokens: 1000,
      completion_tokens: 100,
      total_tokens: 1100,
      prompt_tokens_details: { cached_tokens: 200, audio_tokens: 0 },
      completion_tokens_details: {
        reasoning_tokens: 60,
        accepted_prediction_tokens: 20,
        rejected_prediction_tokens: 15,
      },
    },
    3_250_000n, // 800*2.5 + 200*1.25 + 100*10: predicted tokens are part of the output, rejected ones too
  ],
  [
    'chat with writes to the cache',
    'gpt-6-sol',
    'priority',
    {
      prompt_tokens: 1000,
      completion_tokens: 100,
      prompt_tokens_details: { cached_tokens: 200, cache_write_tokens: 300 },
    },
    5_580_000n, // (500*2 + 200*0.2 + 300*2.5 + 100*10) * 2
  ],
  [
    'chat with sound',
    'gpt-audio',
    null,
    {
      prompt_tokens: 120,
      completion_tokens: 50,
      prompt_tokens_details: { audio_tokens: 60, text_tokens: 60 },
      completion_tokens_details: { audio_tokens: 40, text_tokens: 10 },
    },
    4_730_000n, // 60*2.5 + 60*32 + 10*10 + 40*64
  ],
  [
    'completions',
    'gpt-3.5-turbo-instruct',
    null,
    { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 },
    190_000n,
  ], // 100*1.5 + 20*2
  ['embeddings', 'text-embedding-3-large', null, { prompt_tokens: 8, total_tokens: 8 }, 1_040n], // 8*0.13
  ['embeddings in a batch', 'text-embedding-3-small', 'batch', { prompt_tokens: 101, total_tokens: 101 }, 1_010n], // 101*0.02 * 0.5
  [
    'images',
    'gpt-image-2',
    null,
    {
      input_tokens: 250,
      input_tokens_details: { text_tokens: 50, image_tokens: 200 },
      output_tokens: 1000,
      output_tokens_details: { image_tokens: 1000, text_tokens: 0 },
    },
    31_850_000n, // 50*5 + 200*8 + 1000*30
  ],
  [
    'images without details of the output',
    'gpt-image-1-mini',
    null,
    { input_tokens: 250, input_tokens_details: { text_tokens: 50, image_tokens: 200 }, output_tokens: 1000 },
    8_600_000n, // 50*2 + 200*2.5 + 1000*8
  ],
  [
    'transcription by tokens',
    'gpt-4o-transcribe',
    null,
    {
      type: 'tokens',
      input_tokens: 100,
      input_token_details: { text_tokens: 10, audio_tokens: 90 },
      output_tokens: 20,
    },
    765_000n, // 10*2.5 + 90*6 + 20*10
  ],
  ['transcription by time', 'whisper-1', null, { type: 'duration', seconds: 8.4 }, 900_000n], // 9 * $0.36 / 3600
  ['speech', 'gpt-4o-mini-tts', null, { input_tokens: 100, output_tokens: 1000, total_tokens: 1100 }, 12_060_000n], // 100*0.6 + 1000*12
  [
    'compaction',
    'gpt-5.6-luna',
    'flex',
    { input_tokens: 1000, input_tokens_details: { cached_tokens: 200 }, output_tokens: 100, total_tokens: 1100 },
    142_000n, // (800*0.2 + 200*0.02 + 100*1.2) * 0.5
  ],
  ['moderations', 'omni-moderation-latest', null, { prompt_tokens: 10, total_tokens: 10 }, 0n],
  [
    'a batch of short requests, as one sum of many tokens',
    'gpt-6-sol',
    'batch',
    { input_tokens: 1_000_000, output_tokens: 1000, largest_input_tokens: 272_000 },
    1_005_000_000n, // (1000000*2 + 1000*10) * 0.5
  ],
  [
    'a batch of long requests',
    'gpt-6-sol',
    'batch',
    { input_tokens: 1_000_000, output_tokens: 1000, largest_input_tokens: 272_001 },
    2_007_500_000n, // (1000000*4 + 1000*15) * 0.5
  ],
  [
    'sound of a model that has no rate for it',
    'gpt-4o',
    null,
    { prompt_tokens: 9, completion_tokens: 1, prompt_tokens_details: { audio_tokens: 9 } },
    /no rate/,
  ],
  ['images of a model without a price', 'dall-e-3', null, { input_tokens: 1, output_tokens: 1 }, /No price/],
  ['fine-tuned', 'ft:gpt-4o-mini-2024-07-18:acme::abc', null, { prompt_tokens: 1, completion_tokens: 1 }, /No price/],
]

test('what each kind of endpoint reports costs what the price page says, to the nano-dollar', () => {
  for (const [kind, model, tier, raw, expected] of ENDPOINTS) {
    const found = cost(model, tier, readUsage(raw))
    if (typeof expected === 'bigint') assert.equal(found, expected, kind)
    else assert.match(String(found), expected, kind)
  }
})

test('parts with prices of their own are added up and rounded once; one that is unpriced makes the whole so', () => {
  const at = new Date(NOW)
  const half = { model: 'gpt-5-nano', serviceTier: 'batch', usage: use(1, 0, { cachedTokens: 1 }) }
  const image = { model: 'gpt-image-2', serviceTier: null, usage: PICTURE }
  const price = (...parts: (typeof half | typeof image)[]) =>
    table.price({ model: 'gpt-7', serviceTier: null, usage: A, parts, at })

  // 2.5 nano-dollars each: two are 5, not twice 3.
  assert.equal(costOf(price(half, half)), 5n)
  assert.equal(costOf(price(half, image)), 31_850_003n) // 31,850,000 + 2.5
  assert.equal(costOf(price()), 0n)
  assert.match(String(costOf(price(half, { ...image, model: 'dall-e-3' }))), /^No price is known/)
  assert.match(String(costOf(price(half, { ...image, model: null as unknown as string }))), /names no model/)
  assert.match(String(costOf(price(half, { ...image, usage: undefined as unknown as Usage }))), /usage is unknown/)
})

function costOf(priced: ReturnType<typeof table.price>): bigint | string {
  return priced.kind === 'priced' ? priced.costNanoUsd : priced.reason
}

test('every model with a rate for cached tokens, for writes or for long context has its row above', () => {
  const rowsOf = (model: string) => GOLDEN.filter(([name]) => name === model).map(([, , usage]) => usage)
  const names = [...baseModels().map(({ id }) => id), 'gpt-6.1-sol', 'gpt-6.1-terra']

  for (const name of names.filter((one) => !one.startsWith('ft:'))) {
    const bands = table.ratesFor(name, new Date(NOW))?.bands ?? []
    const { input, cacheRead, cacheWrite30m } = bands[0]?.usdPerMillion ?? {}
    const rows = rowsOf(name)
    if (cacheRead !== input)
      assert.ok(
        rows.some(({ cachedTokens }) => cachedTokens > 0),
        `${name}: cached`,
      )
    if (cacheWrite30m !== input)
      assert.ok(
        rows.some((row) => row.cachedTokens > 0 || row.cacheWrite30mTokens > 0),
        `${name}: writes`,
      )
    for (const { aboveInputTokens } of bands.slice(1)) {
      assert.ok(
        rows.some(({ inputTokens }) => inputTokens > aboveInputTokens),
        `${name}: long context`,
      )
    }
  }
  assert.ok(GOLDEN.length >= 120, `${GOLDEN.length}`)
})

test('tool calls are added, and cost the same in every service tier', () => {
  const tools = { webSearchCalls: 3, fileSearchCalls: 2 }
  const costs = ['default', 'flex'].map((serviceTier) =>
    table.price({ model: 'gpt-6-sol', serviceTier, usage: A, tools, at: new Date(NOW) }),
  )

  // 2,640,000 or half of it, and 3 * $0.01 + 2 * $0.0025
  assert.deepEqual(
    costs.map((priced) => priced.kind === 'priced' && priced.costNanoUsd),
    [37_640_000n, 36_320_000n],
  )
})

test('a model nobody has a price for is unpriced, whatever it resembles', () => {
  const names = [
    ...['gpt-5.6-cyber', 'gpt-6-cyber', 'gpt-daybreak-blue-latest', 'gpt-daybreak-red-latest', 'gpt-rosalind-research'],
    ...['gpt-6-rosalind', 'gpt-image-2.5-flare', 'gpt-image-2.6-sunburst', 'chatgpt-image-latest', 'dall-e-3', 'tts-2'],
    ...[
      'sora-2',
      'gpt-live-1',
      'gpt-live-transcribe',
      'gpt-4o-mini-transcribe-2025-12-15',
      'gpt-4o-mini-tts-2025-12-15',
    ],
    ...['gpt-6.1', 'gpt-6.1-luna', 'gpt-6.1-sol-mini', 'gpt-6-sol-latest', 'gpt-6-sol-mini', 'gpt-6', 'gpt-7'],
    ...['gpt-5-nano-turbo', 'gpt-4.5-preview-mini', 'computer-use-next', 'gpt-4o-realtime', 'gpt-4o-2027-01-01'],
    ...[
      'gpt-3.5-turbo-instruct-next',
      'some-moderation-model',
      'GPT-4o',
      ' gpt-4o',
      'gpt-4o ',
      'gpt-4o\n',
      'gpt-4o-20240806',
    ],
    ...[
      'ft:gpt-4o-mini-2024-07-18:acme::abc',
      'ft:gpt-4o-2024-08-06:acme::abc',
      'ft:gpt-4o-2024-08-06',
      'ft:gpt-4-0613:a::b',
    ],
    ...['__proto__', 'constructor', 'toString', 'x'.repeat(256), 'x'.repeat(257), 'x'.repeat(1_000_000)],
  ]

  for (const name of names) assert.match(String(cost(name, null, A)), /^No price is known for the model "/)
  for (const model of [undefined, null, '']) {
    assert.deepEqual(table.price({ model, serviceTier: null, usage: A, at: new Date(NOW) }), {
      kind: 'unpriced',
      reason: 'The answer names no model.',
    })
  }
})

test('a reason stays short and on one line, whatever the name', () => {
  assert.ok(String(cost(`${'x'.repeat(1_000_000)}`, null, A)).length < 200)
  assert.equal(cost('a\nb', null, A), 'No price is known for the model "a\\nb".')
})

test('a service tier nobody has a price for is unpriced', () => {
  for (const tier of ['ultrafast', 'Priority', 'free', '__proto__', 'constructor']) {
    assert.equal(cost('gpt-5.6-sol', tier, A), `No price is known for the service tier "${tier}".`)
  }
})

test('what a model has no rate for makes the answer unpriced', () => {
  const noRate = [
    cost('gpt-4o-audio-preview', null, use(100, 10, { inputAudioTokens: 50 })),
    cost('gpt-4o-audio-preview', null, use(100, 10, { outputAudioTokens: 5 })),
    cost('text-embedding-3-small', null, use(100, 10)),
  ]

  for (const reason of noRate) assert.match(String(reason), /has no rate for some of what it used\.$/)
})

test('speech billed by its text is never free for want of its length, and the other way round', () => {
  assert.equal(cost('tts-1', null, A), 'The model "tts-1" is billed by characters, which are unknown.')
  assert.equal(cost('tts-1', null, undefined), 'The usage is unknown.')
  assert.equal(
    cost('gpt-4o-mini-tts', null, { ...NO_USAGE, characters: 9 }),
    'The model "gpt-4o-mini-tts" is billed by tokens, which are unknown.',
  )
  assert.equal(table.ratesFor('tts-1', new Date(NOW))?.bands[0]?.usdPerMillionCharacters, '15.00')
})

test('a multiplier may be a fraction, and keeps what the operator pays', () => {
  const prices = withOverlay({
    models: { 'gpt-4o-mini': { input_mtok: 0.3, output_mtok: 3 } },
    service_tiers: { ultrafast: { default: 3, 'gpt-6-sol': '7/3' } },
  })
  assert.equal(cost('gpt-4o-mini', 'priority', use(1000, 100), NOW, prices), 1_000_000n) // (1000*0.3 + 100*3) * 5/3
  assert.equal(cost('gpt-6-sol', 'ultrafast', use(1, 0), NOW, prices), 4667n) // 2,000 nano * 7/3
  for (const bad of ['5/0', '0/5', '5', '-1/2', '1.5/2', '/', '12345/1', 5e-9, -1]) {
    assert.throws(() => parsePriceOverlay({ service_tiers: { x: { default: bad } } }), PriceOverlayError, String(bad))
  }
})

test('audio billed by time is never free for want of its length', () => {
  assert.equal(cost('whisper-1', null, A), 'The model "whisper-1" is billed by time, and the length is unknown.')
  assert.equal(
    cost('whisper-1', null, use(0, 0)),
    'The model "whisper-1" is billed by time, and the length is unknown.',
  )
  assert.equal(
    cost('gpt-4o-transcribe', null, { ...NO_USAGE, seconds: 9 }),
    'The model "gpt-4o-transcribe" is billed by tokens, and only the length is known.',
  )
})

test('an unknown or impossible usage is unpriced, except where everything is free', () => {
  assert.equal(cost('gpt-6-sol', null, undefined), 'The usage is unknown.')
  assert.equal(cost('omni-moderation-latest', null, undefined), 0n)
  for (const wrong of [
    use(10, 0, { cachedTokens: 11 }),
    use(-1, 0),
    use(0.5, 0),
    use(Number.NaN, 0),
    use(2 ** 60, 0),
  ]) {
    assert.equal(cost('gpt-6-sol', null, wrong), 'The usage contradicts itself.')
  }
})

test('tool calls that are no count, a cost that fits nowhere and a time that is none are unpriced', () => {
  const at = new Date(NOW)
  for (const calls of [-1, 0.5, Number.NaN]) {
    const tools = { webSearchCalls: calls, fileSearchCalls: 0 }
    assert.equal(table.price({ model: 'gpt-6-sol', serviceTier: null, usage: A, tools, at }).kind, 'unpriced')
  }
  const tools = { webSearchCalls: Number.MAX_SAFE_INTEGER, fileSearchCalls: 0 }
  assert.deepEqual(table.price({ model: 'gpt-6-sol', serviceTier: null, usage: A, tools, at }), {
    kind: 'unpriced',
    reason: 'The cost is more than the ledger can hold.',
  })
  assert.match(String(cost('gpt-6-sol', null, A, 'never')), /^No price is known/)
})

test('each name the base data writes down is priced with the rates of its own entry', () => {
  for (const model of baseModels()) {
    if (!('input_mtok' in (Array.isArray(model.prices) ? (model.prices[0]?.prices ?? {}) : model.prices))) continue
    for (const name of namesOf(model.match)) {
      const rates = table.ratesFor(name, new Date(NOW))
      if (name.startsWith('ft:')) assert.equal(rates, undefined)
      else assert.equal(rates?.model, model.id, name)
    }
  }
})

test('every price of the base data is exact in our units, at every date it knows, and none depends on the time of day', () => {
  for (const model of baseModels()) {
    const dates = Array.isArray(model.prices)
      ? model.prices.map(({ constraint }) => {
          if (constraint?.type === 'start_date') return constraint.start_date
          assert.equal(constraint, undefined)
          return '2020-01-01'
        })
      : [NOW]
    for (const date of dates) assert.doesNotThrow(() => table.ratesFor(model.id, new Date(date)))
  }
})

test('our integers agree with the floating arithmetic of the base data to the nano-dollar', () => {
  const random = seeded(7)
  const shipped = new Set(['gpt-6.1-sol', 'gpt-6.1-terra', 'computer-use-preview'])
  for (const model of baseModels()) {
    if (shipped.has(model.id) || model.id.startsWith('ft:') || !table.ratesFor(model.id, new Date(NOW))) continue
    if (table.ratesFor(model.id, new Date(NOW))?.bands[0]?.usdPerAudioHour) continue
    for (let round = 0; round < 50; round++) {
      const input = Math.floor(random() * 600_000)
      const cached = Math.floor(random() * input)
      const written = Math.floor(random() * (input - cached))
      const output = model.id.startsWith('text-embedding') ? 0 : Math.floor(random() * 100_000)
      const at = new Date(Date.UTC(2025, 0, 1) + random() * 700 * 86_400_000)
      const theirs = calcPrice(
        { input_tokens: input, cache_read_tokens: cached, cache_write_tokens: written, output_tokens: output },
        model.id,
        { providerId: 'openai', timestamp: at },
      )
      const ours = cost(
        model.id,
        null,
        use(input, output, { cachedTokens: cached, cacheWrite30mTokens: written }),
        at.toISOString(),
      )
      assert.equal(typeof ours, 'bigint', `${model.id}: ${ours}`)
      assert.ok(Math.abs(Number(ours) - (theirs?.total_price ?? Number.NaN) * 1e9) <= 1, `${model.id} ${ours}`)
    }
  }
})

test('more tokens of any kind never cost less, and a cost is never negative', () => {
  const random = seeded(11)
  const models = [
    'gpt-6-sol',
    'gpt-6.1-terra',
    'gpt-5.6-luna',
    'gpt-5.5',
    'gpt-realtime-2',
    'gpt-image-1.5',
    'gpt-4o',
    'o1-pro',
  ]
  const tiers = [null, 'flex', 'priority']
  const more = (count: number) => count + Math.floor(random() * 300_000)
  for (let round = 0; round < 3_000; round++) {
    const model = models[round % models.length] ?? ''
    const tier = tiers[round % tiers.length] ?? null
    const cachedTokens = more(0)
    const inputTokens = more(cachedTokens)
    const less = use(inputTokens, more(0), { cachedTokens })
    const extra = more(0)
    const grown: Usage[] = [
      { ...less, inputTokens: inputTokens + extra },
      { ...less, inputTokens: inputTokens + extra, cachedTokens: cachedTokens + extra },
      { ...less, inputTokens: inputTokens + extra, cacheWrite30mTokens: extra },
      { ...less, inputTokens: inputTokens + extra, cacheWrite12hTokens: extra },
      { ...less, outputTokens: less.outputTokens + extra },
    ]
    const before = cost(model, tier, less)
    assert.ok(typeof before === 'bigint' && before >= 0n)
    for (const usage of grown) {
      const after = cost(model, tier, usage)
      assert.ok(typeof after === 'bigint' && after >= before, `${model} ${before} ${after} ${JSON.stringify(usage)}`)
    }
  }
})

test('the operator wins over the shipped prices, which win over the base data', () => {
  const prices = withOverlay({
    models: {
      'gpt-6.1-sol': { input_mtok: 1, output_mtok: 2 },
      'gpt-4o': { input_mtok: 7, output_mtok: 8 },
      'gpt-5.6-cyber': { input_mtok: 4, output_mtok: 20 },
      'ft:gpt-4o-mini-2024-07-18': { input_mtok: 0.3, cache_read_mtok: 0.15, output_mtok: 1.2 },
    },
    service_tiers: { ultrafast: { default: 4 } },
    tools_per_1k: { web_search: 25 },
  })
  const usage = use(1000, 1000)

  assert.equal(cost('gpt-6.1-sol', null, usage, NOW, prices), 3_000_000n) // 1000*1 + 1000*2
  assert.equal(cost('gpt-4o', null, usage, NOW, prices), 15_000_000n) // 1000*7 + 1000*8
  assert.equal(cost('gpt-4o-2024-08-06', null, usage, NOW, prices), 15_000_000n) // a snapshot of it
  assert.equal(cost('gpt-4o-2024-05-13', null, usage, NOW, prices), 20_000_000n) // priced apart by the base data
  assert.equal(cost('gpt-4o-mini', null, usage, NOW, prices), 750_000n) // not touched
  assert.equal(cost('ft:gpt-4o-mini-2024-07-18:acme::abc', null, usage, NOW, prices), 1_500_000n) // 1000*0.3 + 1000*1.2
  assert.equal(cost('gpt-4o', 'ultrafast', usage, NOW, prices), 60_000_000n) // 15000 * 4
  assert.equal(cost('gpt-5.6-cyber', null, W, NOW, prices), 6_900_000n) // (400+200)*4 + 300*5 + 100*10 + 100*20
  const priced = prices.price({
    model: 'gpt-4o',
    serviceTier: null,
    usage,
    tools: { webSearchCalls: 1, fileSearchCalls: 1 },
    at: new Date(NOW),
  })
  assert.equal(priced.kind === 'priced' && priced.costNanoUsd, 42_500_000n) // 15,000,000 + $0.025 + $0.0025
})

test('an overlay entry holds from its day on, and until then what it replaces', () => {
  const prices = withOverlay({
    models: {
      'gpt-6-sol': [
        { from: '2026-10-01', input_mtok: 3, output_mtok: 0 },
        { from: '2026-11-01', input_mtok: 5, output_mtok: 0 },
      ],
    },
  })
  const costs = [
    '2026-09-30T23:59:59.999Z',
    '2026-10-01T00:00:00Z',
    '2026-10-31T23:00:00Z',
    '2026-11-01T00:00:00Z',
  ].map((at) => cost('gpt-6-sol', null, use(1000, 0), at, prices))

  assert.deepEqual(costs, [2_000_000n, 3_000_000n, 3_000_000n, 5_000_000n])
})

test('each problem of an overlay is a sentence that says where', () => {
  const overlay = {
    modells: {},
    models: {
      'gpt-6.1-sol': { input_mtok: -1, foo: 2 },
      b: [{ from: 'today', input_mtok: { base: '1' } }],
      c: { input_mtok: '2' },
      d: 3,
      e: [{ output_mtok: 0.0000001 }, { input_mtok: { base: 1, tiers: [{ start: 1.5, price: 1 }] } }],
    },
    service_tiers: { x: { y: 1 } },
    tools_per_1k: { web_search: Number.NaN },
  }

  assert.throws(
    () => parsePriceOverlay(overlay),
    (error: unknown) => {
      assert.ok(error instanceof PriceOverlayError)
      assert.deepEqual(error.problems.toSorted(), [
        'The price overlay has the unknown key "modells".',
        'models.b[0].from of the price overlay must be a date such as 2026-11-01.',
        'models.b[0].input_mtok.base of the price overlay must be a number of US dollars.',
        'models.c[0].input_mtok of the price overlay must be a number of US dollars, or an object with "base" and "tiers".',
        'models.d[0] of the price overlay must be an object of prices.',
        'models.e[0].output_mtok.base of the price overlay must have at most 6 decimals.',
        'models.e[1].input_mtok.tiers[0].start of the price overlay must be a whole number of tokens.',
        'models["gpt-6.1-sol"][0] of the price overlay has the unknown key "foo".',
        'models["gpt-6.1-sol"][0].input_mtok.base of the price overlay must not be negative.',
        'service_tiers of the price overlay must have a "default" for each tier.',
        'tools_per_1k.web_search of the price overlay must be a number of US dollars.',
      ])
      return true
    },
  )
  assert.throws(
    () => parsePriceOverlay({ models: { e: [{}, {}] } }),
    /models\.e of the price overlay must have one entry for each "from"\./,
  )
  for (const raw of [null, 5, 'x', []]) assert.throws(() => parsePriceOverlay(raw), PriceOverlayError)
})

test('a price version names the data, the overlays and the day of the rates, and changes with nothing else', () => {
  const version = (prices: typeof table, model: string) => {
    const priced = prices.price({ model, serviceTier: null, usage: A, at: new Date(NOW) })
    return priced.kind === 'priced' ? priced.priceVersion : undefined
  }
  const one = { models: { x: { input_mtok: 1, output_mtok: 2 }, y: { input_mtok: 1 } } }
  const same = { models: { y: { input_mtok: 1 }, x: { output_mtok: 2, input_mtok: 1 } } }

  assert.match(version(table, 'gpt-6-sol') ?? '', /^genai-prices@\d+\.\d+\.\d+\+2026-11#[0-9a-f]{8}$/)
  assert.equal(version(table, 'gpt-5.6-sol'), `${version(table, 'gpt-6-sol')}/2026-08-21`)
  assert.equal(version(openPriceTable(), 'gpt-6-sol'), version(table, 'gpt-6-sol'))
  assert.equal(version(withOverlay(one), 'gpt-6-sol'), version(withOverlay(same), 'gpt-6-sol'))
  assert.notEqual(version(withOverlay(one), 'gpt-6-sol'), version(table, 'gpt-6-sol'))
})

test('the price version names the base data that is installed', () => {
  const installed = JSON.parse(
    readFileSync(new URL('../package.json', import.meta.resolve('@pydantic/genai-prices')), 'utf8'),
  ) as { version: string }

  assert.ok(table.ratesFor('gpt-4o', new Date(NOW))?.priceVersion.startsWith(`genai-prices@${installed.version}+`))
})

test('the rates of a model are shown as exact decimals with their source', () => {
  const at = new Date(NOW)

  assert.deepEqual(table.ratesFor('gpt-6.1-terra', at)?.bands, [
    { aboveInputTokens: 0, usdPerMillion: { ...textRates('1.00', '0.05', '1.25', '2.50', '5.00') } },
    { aboveInputTokens: 272_000, usdPerMillion: { ...textRates('2.00', '0.10', '2.50', '5.00', '7.50') } },
  ])
  assert.equal(table.ratesFor('gpt-6.1-terra', at)?.source, 'shipped')
  assert.deepEqual(
    [table.ratesFor('gpt-5.6-sol', at)?.source, table.ratesFor('gpt-5.6-sol', at)?.since],
    ['base', '2026-08-21'],
  )
  assert.equal(withOverlay({ models: { x: { input_mtok: 1 } } }).ratesFor('x', at)?.source, 'operator')
  assert.deepEqual(table.ratesFor('whisper-1', at)?.bands, [
    { aboveInputTokens: 0, usdPerMillion: {}, usdPerAudioHour: '0.36' },
  ])
  assert.equal(table.ratesFor('gpt-7', at), undefined)
})

function textRates(input: string, cacheRead: string, cacheWrite30m: string, cacheWrite12h: string, output: string) {
  const images = { inputImage: input, cacheImageRead: cacheRead, outputImage: output }
  return { input, cacheRead, cacheWrite30m, cacheWrite12h, output, ...images }
}

function withOverlay(raw: unknown): typeof table {
  const overlay: PriceOverlay = parsePriceOverlay(raw)
  return openPriceTable({ overlay })
}

function baseModels() {
  return findProvider({ providerId: 'openai' })?.models ?? []
}

function namesOf(match: MatchLogic): string[] {
  if ('or' in match) return match.or.flatMap(namesOf)
  return 'equals' in match ? [match.equals] : []
}

/** Mulberry32: the same numbers in every run. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
