import type { SettledUsage } from '../../ledger/ledger.ts'
import type { AnswerEnd, AnswerForm, AnswerWatcher } from '../answer-watcher.ts'
import type { JsonFields } from '../json-fields.ts'
import { endingByError, isRecord, textOf } from './answer-fields.ts'
import { JsonWatcher } from './json-watcher.ts'
import { watchResponses } from './responses.ts'

/** Answers of one JSON object, which have hardly more to them than a usage. */

/** A compaction has the usage of a response, and says neither its model nor how it ended. */
export function watchCompaction(): AnswerWatcher {
  return new JsonWatcher({ fields: [...FIELDS, 'id', 'service_tier'], readEnd: readPlainEnd })
}

export function watchEmbeddings(): AnswerWatcher {
  return new JsonWatcher({
    fields: FIELDS,
    readEnd: readPlainEnd,
    // Vectors are no tokens.
    usageIfCut: { source: 'estimated', outputTokens: 0 },
  })
}

/** Moderations, and the counting of input tokens. */
export function watchFree(): AnswerWatcher {
  const free: SettledUsage = { source: 'none' }
  return new JsonWatcher({
    fields: FIELDS,
    readEnd: (json) => ({ ...readPlainEnd(json), usage: free }),
    usageIfCut: free,
  })
}

/** A batch when it is made, or asked for. What it used is not read here, but when it has ended, request by request. */
export function watchBatch(): AnswerWatcher {
  return new JsonWatcher({
    fields: [...FIELDS, 'id', 'status'],
    readEnd: (json) => {
      const plain = readPlainEnd(json)
      const isUnderWay = plain.ending === 'completed' && !HAS_ENDED.has(String(json.value('status')))
      return { ...plain, ending: isUnderWay ? 'pending' : plain.ending, usage: { source: 'unknown' } }
    },
    usageIfCut: { source: 'unknown' },
  })
}

const HAS_ENDED: ReadonlySet<string> = new Set(['completed', 'failed', 'expired', 'cancelled'])

/** Nothing is read of it but whether a stream is whole: only responses are streamed again after they were made. */
export function watchUnmetered(form: AnswerForm): AnswerWatcher {
  if (form === 'stream') return watchResponses(form)
  return new JsonWatcher({
    fields: ['error'],
    readEnd: readPlainEnd,
    usageIfCut: { source: 'none' },
    endOfOtherForms: {
      ending: 'completed',
      errorCode: null,
      modelUsed: null,
      serviceTier: null,
      usage: { source: 'none' },
    },
  })
}

const FIELDS = ['model', 'usage', 'error']

function readPlainEnd(json: JsonFields): AnswerEnd {
  const usage = json.value('usage')
  return {
    ...endingByError(json.value('error')),
    modelUsed: textOf(json.value('model')),
    serviceTier: textOf(json.value('service_tier')),
    usage: isRecord(usage) ? { source: 'reported', raw: usage } : { source: 'unknown' },
  }
}
