import assert from 'node:assert/strict'
import fs from 'node:fs'
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { crc32c } from './crc32c.ts'
import { type Journal, openJournal, readJournal } from './journal.ts'
import { findDeadJournals } from './recovery.ts'

const SEGMENT = '00000001.journal'

test('CRC-32C gives the check values of its specification', () => {
  const values = [
    Buffer.from('123456789'),
    Buffer.alloc(32),
    Buffer.alloc(32, 0xff),
    Buffer.from(Array.from({ length: 32 }, (_, at) => at)),
    Buffer.from('a'),
    Buffer.alloc(0),
  ].map(crc32c)

  assert.deepEqual(values, [0xe3069283, 0x8a9136aa, 0x62a8ab43, 0x46dd794e, 0xc1d04330, 0])
})

test('what was appended is read back in order, with its positions', async () => {
  const { journal, directory } = await open()

  const positions = ['one', 'two', 'drei: ä€😀'].map((text) => journal.append({ text }))

  const { records, damagedBytes } = await readJournal(directory)
  assert.deepEqual(
    records.map(({ record }) => record),
    [{ text: 'one' }, { text: 'two' }, { text: 'drei: ä€😀' }],
  )
  assert.deepEqual(
    records.map(({ position }) => position),
    positions,
  )
  assert.equal(damagedBytes, 0)
})

test('a tail torn at any byte is cut at the last whole record', async () => {
  const { journal, directory } = await open()
  const first = journal.append({ text: 'kept' })
  const second = journal.append({ text: 'torn' })
  const whole = await readFile(join(directory, SEGMENT))

  for (let length = first.offset; length < second.offset; length += 1) {
    await writeFile(join(directory, SEGMENT), whole.subarray(0, length))
    const { records, damagedBytes } = await readJournal(directory)
    assert.deepEqual(
      records.map(({ record }) => record),
      [{ text: 'kept' }],
    )
    assert.equal(damagedBytes, length - first.offset)
  }
})

test('a flipped bit anywhere in the last record cuts it off and never throws', async () => {
  const { journal, directory } = await open()
  const first = journal.append({ text: 'kept' })
  const second = journal.append({ text: 'flipped' })
  const whole = await readFile(join(directory, SEGMENT))

  for (let at = first.offset; at < second.offset; at += 1) {
    for (const bit of [1, 128]) {
      const flipped = Buffer.from(whole)
      flipped[at] = (flipped[at] as number) ^ bit
      await writeFile(join(directory, SEGMENT), flipped)
      assert.deepEqual(
        (await readJournal(directory)).records.map(({ record }) => record),
        [{ text: 'kept' }],
      )
    }
  }
})

test('garbage behind the last record is reported and left out', async () => {
  const { journal, directory } = await open()
  journal.append({ text: 'kept' })

  await appendFile(join(directory, SEGMENT), Buffer.alloc(5000, 0xff))

  const { records, damagedBytes } = await readJournal(directory)
  assert.equal(records.length, 1)
  assert.equal(damagedBytes, 5000)
})

test('a journal grows by segments, and those that are shipped and closed go when space is short', async () => {
  const { journal, directory } = await open({ bytesMax: 1 })
  const record = { text: 'x'.repeat(500_000) }

  const positions = Array.from({ length: 40 }, () => journal.append(record))
  const before = await segmentsOf(directory)
  journal.shipped(positions.at(-1) ?? { segment: 0, offset: 0 })

  assert.equal(before.length, 3)
  assert.deepEqual(await segmentsOf(directory), ['00000003.journal'])
})

test('a segment with an attempt that is still open stays, however much was shipped', async () => {
  const { journal, directory } = await open({ bytesMax: 1 })
  const { segment } = journal.append({ opened: 'long' })
  journal.hold(segment)

  const positions = Array.from({ length: 40 }, () => journal.append({ text: 'x'.repeat(500_000) }))
  journal.shipped(positions.at(-1) ?? { segment: 0, offset: 0 })

  assert.ok((await segmentsOf(directory)).includes(SEGMENT))
})

test('F34: a journal beyond its bound admits nothing new, and can still settle', async () => {
  const { journal } = await open({ bytesMax: 1000 })
  journal.append({ text: 'x'.repeat(2000) })

  await until(() => journal.isFull)

  assert.equal(journal.isFull, true)
  assert.ok(journal.appendWithReserve({ settled: true }).offset > 0)
})

test("a living process's journal is nobody else's to recover; closed without loss it is gone", async () => {
  const { journal, parent } = await open()

  const whileOpen = await findDeadJournals(parent)
  journal.shipped(journal.append({ settled: true }))
  await journal[Symbol.asyncDispose]()

  assert.deepEqual(whileOpen, [])
  assert.deepEqual(await readdir(parent), [])
})

test('with JOURNAL_SYNC=every a record is on the disk when its append returns, and one that may not be is taken back', async (t) => {
  const { journal, directory } = await open({ sync: 'every' })
  const syncs = t.mock.method(fs, 'fdatasyncSync')
  syncBuiltinESMExports()
  after(syncBuiltinESMExports)

  journal.append({ text: 'one' })
  journal.append({ text: 'two' })
  const syncCount = syncs.mock.callCount()
  syncs.mock.mockImplementationOnce(() => {
    throw new Error('EIO')
  })
  assert.throws(() => journal.append({ text: 'lost' }), /EIO/)
  journal.append({ text: 'three' })

  assert.equal(syncCount, 2)
  const { records, damagedBytes } = await readJournal(directory)
  assert.deepEqual(
    records.map(({ record }) => record),
    [{ text: 'one' }, { text: 'two' }, { text: 'three' }],
  )
  assert.equal(damagedBytes, 0)
})

async function open(
  options: { bytesMax?: number; sync?: 'interval' | 'every' } = {},
): Promise<{ journal: Journal; directory: string; parent: string }> {
  const parent = await mkdtemp(join(tmpdir(), 'journal-'))
  const faults: Error[] = []
  const journal = await openJournal({
    directory: parent,
    name: 'test',
    syncIntervalMs: 5,
    sync: options.sync ?? 'interval',
    bytesMax: options.bytesMax ?? 1e9,
    onFault: (error) => faults.push(error),
  })
  after(async () => {
    await journal[Symbol.asyncDispose]().catch(() => {})
    await rm(parent, { recursive: true, force: true })
    assert.deepEqual(faults, [])
  })
  return { journal, directory: join(parent, 'test'), parent }
}

async function segmentsOf(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((file) => file.endsWith('.journal')).sort()
}

async function until(isSo: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + 5000
  while (!isSo() && performance.now() < giveUpAt) await new Promise((resolve) => setTimeout(resolve, 20))
}
