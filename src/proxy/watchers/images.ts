import type { SettledUsage } from '../../ledger/ledger.ts'
import type { AnswerEnd, AnswerForm, AnswerWatcher } from '../answer-watcher.ts'
import type { EventJson } from '../sse.ts'
import { endingByError, isRecord, textOf } from './answer-fields.ts'
import { EventsWatcher } from './events-watcher.ts'
import { JsonWatcher } from './json-watcher.ts'

/** Images that were made or edited. What an image costs is known when it is whole: an answer that is cut has an unknown usage. */
export function watchImages(form: AnswerForm): AnswerWatcher {
  if (form === 'stream') {
    return new EventsWatcher({
      terminal: ['image_generation.completed', 'image_edit.completed'],
      fields: FIELDS,
      readUsage: readImagesUsage,
    })
  }
  return new JsonWatcher({
    fields: [...FIELDS, 'error', 'model'],
    readEnd: readImagesEnd,
    usageIfCut: { source: 'unknown' },
  })
}

const FIELDS = ['usage', 'svg_usage']

function readImagesEnd(json: EventJson): AnswerEnd {
  return {
    ...endingByError(json.value('error')),
    modelUsed: textOf(json.value('model')),
    serviceTier: null,
    usage: readImagesUsage(json),
  }
}

/** Writing SVG is billed beside the images, at the price of the model that wrote it. */
function readImagesUsage(json: EventJson): SettledUsage {
  const raw = json.value('usage')
  const svg = json.value('svg_usage')
  if (!isRecord(raw)) return { source: 'unknown' }
  return {
    source: 'reported',
    raw,
    ...(isRecord(svg) ? { parts: [{ usage: raw }, { model: textOf(svg.model), usage: svg }] } : {}),
  }
}
