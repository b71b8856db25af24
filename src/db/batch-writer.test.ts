import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../errors.ts'
import { type BatchWriterOptions, openBatchWriter } from './batch-writer.ts'

test('what is added is written, in order, in batches no larger than allowed', async () => {
  const { writer, written, batches } = open({ batchMax: 7 })
  for (let item = 0; item < 100; item += 1) writer.add(item)
  assert.equal(writer.pendingCount, 100)
  await writer.flush()
  assert.deepEqual(written, range(100))
  assert.equal(Math.max(...batches.map(({ length }) => length)), 7)
  assert.equal(batches.length, Math.ceil(100 / 7))
  assert.equal(writer.pendingCount, 0)
})

test('nobody has to flush: it is written soon by itself, also what comes during a write', async () => {
  const { writer, written } = open({ intervalMs: 1 })
  writer.add(1)
  await until(() => written.length === 1)
  writer.add(2)
  await until(() => written.length === 2)
  assert.deepEqual(written, [1, 2])
})

test('while the database is away everything is kept, and written once it is back, in order', async () => {
  let isAway = true
  const { writer, written, faults } = open({
    batchMax: 3,
    write: async () => {
      if (isAway) throw unavailable()
    },
  })
  for (const item of range(10)) writer.add(item)
  await until(() => faults.length >= 2)
  assert.deepEqual([written, writer.pendingCount], [[], 10])
  for (const item of range(5)) writer.add(10 + item)
  isAway = false
  await writer.flush()
  assert.deepEqual(written, range(15))
  assert.deepEqual(faults[0], ['database_unavailable', 10])
})

test('a batch whose outcome is unknown is sent again, the same and before any other', async () => {
  let calls = 0
  const { writer, batches } = open({
    batchMax: 2,
    write: async () => {
      calls += 1
      if (calls === 1) throw unavailable()
    },
  })
  for (const item of range(4)) writer.add(item)
  await writer.flush()
  assert.deepEqual(batches, [
    [0, 1],
    [0, 1],
    [2, 3],
  ])
})

test('one item that the database refuses holds up none of the others, and is told alone', async () => {
  for (const poisoned of [0, 5, 9]) {
    const { writer, written, refused } = open({
      batchMax: 10,
      write: async (items) => {
        if (items.includes(poisoned)) throw new Error('violates a check')
      },
    })
    for (const item of range(10)) writer.add(item)
    await writer.flush()
    assert.deepEqual(refused, [poisoned])
    assert.deepEqual(
      written,
      range(10).filter((item) => item !== poisoned),
    )
  }
})

test('when every item is refused each is told, and what comes later is written', async () => {
  const { writer, written, refused } = open({
    write: async (items) => {
      if (items.some((item) => item < 4)) throw new Error('violates a check')
    },
  })
  for (const item of range(6)) writer.add(item)
  await writer.flush()
  assert.deepEqual([refused, written], [range(4), [4, 5]])
})

test('a database that goes away while a poisoned batch is being split loses nothing', async () => {
  let calls = 0
  const { writer, written, refused } = open({
    batchMax: 4,
    write: async (items) => {
      calls += 1
      if (calls === 3) throw unavailable()
      if (items.includes(2)) throw new Error('violates a check')
    },
  })
  for (const item of range(4)) writer.add(item)
  await writer.flush()
  assert.deepEqual([...new Set(written)].sort(), [0, 1, 3])
  assert.deepEqual(refused, [2])
})

test('it says when more waits than may', () => {
  const { writer } = open({ pendingMax: 3, intervalMs: 60_000 })
  for (const item of range(2)) writer.add(item)
  assert.equal(writer.isFull, false)
  writer.add(3)
  assert.equal(writer.isFull, true)
  writer.add(4)
  assert.equal(writer.pendingCount, 4, 'what is added all the same is kept')
  return writer[Symbol.asyncDispose]()
})

test('a flush waits for what is being written and for what was added behind it; with nothing to do it is over at once', async () => {
  const gate = Promise.withResolvers<void>()
  const { writer, written, batches } = open({ batchMax: 1, intervalMs: 0, write: () => gate.promise })
  await writer.flush()
  writer.add(1)
  await until(() => batches.length === 1)
  writer.add(2)
  const flushed = writer.flush()
  gate.resolve()
  await flushed
  assert.deepEqual(written, [1, 2])
})

test('a flush gives up when its signal says so, and the writing goes on', async () => {
  const gate = Promise.withResolvers<void>()
  const { writer, written } = open({ write: () => gate.promise })
  writer.add(1)
  await assert.rejects(writer.flush(AbortSignal.abort(new Error('enough'))), /enough/)
  await assert.rejects(writer.flush(AbortSignal.timeout(5)), { name: 'TimeoutError' })
  gate.resolve()
  await writer.flush()
  assert.deepEqual(written, [1])
})

test('closing writes what is left, however it stands with the interval', async () => {
  const { writer, written } = open({ intervalMs: 60_000, batchMax: 2 })
  for (const item of range(5)) writer.add(item)
  await writer[Symbol.asyncDispose]()
  assert.deepEqual(written, range(5))
})

test('closing is bounded when the database stays away, and when it never answers at all', async () => {
  for (const write of [() => Promise.reject(unavailable()), () => new Promise<never>(() => {})]) {
    const { writer } = open({ write, closeTimeoutMs: 50, intervalMs: 0 })
    writer.add(1)
    const startedAt = performance.now()
    await writer[Symbol.asyncDispose]()
    assert.ok(performance.now() - startedAt < 1500)
    assert.equal(writer.pendingCount, 1)
  }
})

/** A writer of numbers that remembers what it wrote, and what it was told. */
function open(options: Partial<BatchWriterOptions<number>> = {}) {
  const written: number[] = []
  const batches: number[][] = []
  const refused: number[] = []
  const faults: [string, number][] = []
  const { write, ...rest } = options
  const writer = openBatchWriter<number>({
    intervalMs: 5,
    batchMax: 100,
    pendingMax: 1000,
    closeTimeoutMs: 1000,
    onFault: (error, pendingCount) =>
      faults.push([error instanceof AppError ? error.code : error.message, pendingCount]),
    onRefused: (item) => refused.push(item),
    ...rest,
    async write(items) {
      batches.push([...items])
      await write?.(items)
      written.push(...items)
    },
  })
  return { writer, written, batches, refused, faults }
}

function range(count: number): number[] {
  return [...Array(count).keys()]
}

function unavailable(): AppError {
  return new AppError('database_unavailable', 'x')
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 2000
  while (!holds()) {
    assert.ok(performance.now() < deadline, 'it does not hold within 2 s')
    await new Promise((resolve) => setImmediate(resolve))
  }
}
