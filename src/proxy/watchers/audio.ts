import type { SettledUsage } from '../../ledger/ledger.ts'
import type { AnswerForm, AnswerWatcher } from '../answer-watcher.ts'
import type { EventJson } from '../sse.ts'
import { endingByError, isRecord, textOf } from './answer-fields.ts'
import { EventsWatcher } from './events-watcher.ts'
import { JsonWatcher } from './json-watcher.ts'

/**
 * Speech, transcriptions and translations. An answer of sound or of bare text (`text`, `srt`, `vtt`) says nothing of its usage, and
 * one that is cut has not yet said it.
 */
export function watchAudio(form: AnswerForm): AnswerWatcher {
  if (form === 'stream') {
    return new EventsWatcher({
      terminal: ['transcript.text.done', 'speech.audio.done'],
      fields: FIELDS,
      readUsage: readAudioUsage,
    })
  }
  return new JsonWatcher({
    fields: [...FIELDS, 'error', 'model'],
    readEnd: (json) => ({
      ...endingByError(json.value('error')),
      modelUsed: textOf(json.value('model')),
      serviceTier: null,
      usage: readAudioUsage(json),
    }),
    usageIfCut: { source: 'unknown' },
    endOfOtherForms: {
      ending: 'completed',
      errorCode: null,
      modelUsed: null,
      serviceTier: null,
      usage: { source: 'unknown' },
    },
  })
}

const FIELDS = ['usage', 'duration']

/** A verbose answer without a usage still says how long the recording was, which is what its model is billed by. */
function readAudioUsage(json: EventJson): SettledUsage {
  const raw = json.value('usage')
  if (isRecord(raw)) return { source: 'reported', raw }
  const duration = json.value('duration')
  const seconds = typeof duration === 'string' && DECIMAL.test(duration) ? Number(duration) : duration
  if (typeof seconds !== 'number') return { source: 'unknown' }
  return { source: 'reported', raw: { type: 'duration', seconds } }
}

const DECIMAL = /^\d{1,9}(?:\.\d{1,20})?$/
