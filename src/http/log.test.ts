import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { openLog } from './log.ts'

/** Keeps what is written; takes nothing while it is held. */
class Sink extends Writable {
  text = ''
  isHeld = false
  #release: (() => void) | undefined

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk
    if (this.isHeld) this.#release = done
    else done()
  }

  letGo(): void {
    this.isHeld = false
    this.#release?.()
  }

  get lines(): Record<string, unknown>[] {
    return this.text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  }
}

test('of equal warnings the first is written, and then how many more there were; others are not touched by that', async () => {
  const sink = new Sink()
  const log = openLog('info', sink)

  for (let turn = 0; turn < 1000; turn += 1) {
    log.logger.warn(
      { err: Object.assign(new Error(`attempt ${turn}`), { code: 'ECONNREFUSED' }) },
      'the database is away',
    )
  }
  log.logger.warn({ err: Object.assign(new Error('other'), { code: 'ETIMEDOUT' }) }, 'the database is away')
  log.logger.error('the database is away')
  log.logger.info('the database is away')
  log.logger.info('the database is away')
  await log.flush()

  assert.deepEqual(
    sink.lines.map(({ level, err, repeated }) => [level, (err as { code?: string } | undefined)?.code, repeated]),
    [
      ['warn', 'ECONNREFUSED', undefined],
      ['warn', 'ETIMEDOUT', undefined],
      ['error', undefined, undefined],
      ['info', undefined, undefined],
      ['info', undefined, undefined],
      ['warn', 'ECONNREFUSED', 999],
    ],
  )
})

test('when nobody takes the lines a bounded number waits, the rest is counted, and the log says so once it flows again', async () => {
  const sink = new Sink()
  const log = openLog('info', sink)
  sink.isHeld = true

  for (let turn = 0; turn < 5000; turn += 1) log.logger.info({ text: 'x'.repeat(1000) }, 'a line')
  const waiting = sink.writableLength
  const dropped = log.droppedCount
  sink.letGo()
  await log.flush()
  log.logger.info('after')
  await log.flush()

  assert.ok(waiting <= 1024 * 1024 && waiting > 1000 * 1000)
  assert.ok(dropped > 3000 && dropped < 5000)
  const last = sink.lines.slice(-2)
  assert.equal(last[0]?.dropped, dropped)
  assert.equal(last[1]?.msg, 'after')
  assert.equal(sink.lines.length, 5000 - dropped + 2)
})

test('a disk that is full costs lines, not the process', async () => {
  const full = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error('full'), { code: 'ENOSPC' })),
  })
  const log = openLog('info', full)

  log.logger.info('one')
  log.logger.info('two')
  await new Promise((resolve) => setImmediate(resolve))
  await log.flush()

  assert.ok(log.droppedCount >= 1)
})
