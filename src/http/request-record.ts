/** What is told of a request when it is over: to the log, the metrics and the trace. Whoever learns something writes it down. */
export interface RequestRecord {
  readonly requestId: string
  /** As `performance.now()` tells time. */
  readonly startedAt: number
  /** The name in the table of relayed endpoints, `health` or `administration`. */
  endpoint: string
  organizationId: string | undefined
  /** Of the proxy's own errors. */
  errorCode: string | undefined
  /** How the call upstream ended; undefined while there was none. */
  ending: string | undefined
  /** How long the request's body took to arrive. */
  receiveMs: number
}

export function openRequestRecord(requestId: string): RequestRecord {
  return {
    requestId,
    startedAt: performance.now(),
    endpoint: 'administration',
    organizationId: undefined,
    errorCode: undefined,
    ending: undefined,
    receiveMs: 0,
  }
}

/** @param env what the listener gave to the control plane; nothing when that is called within the process. */
export function recordOf(env: unknown): RequestRecord | undefined {
  return (env as { incoming?: { record?: RequestRecord } } | undefined)?.incoming?.record
}

/** @returns one word for how a request ended. */
export function outcomeOf(record: RequestRecord, answer: { status: number | null; isComplete: boolean }): string {
  if (record.ending !== undefined) return record.ending
  if (record.errorCode !== undefined) return 'refused'
  if (!answer.isComplete) return 'client_closed'
  if ((answer.status ?? 0) >= 500) return 'failed'
  return (answer.status ?? 0) >= 400 ? 'refused' : 'completed'
}
