import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppError } from '../errors.ts'
import { type Loaded, OrganizationCache } from './organization-cache.ts'

const STALE_MS = 60_000

test('while changes are heard an entry is read once, and given at once', async () => {
  const { cache, source, clock } = open()
  assert.equal(await cache.read('k', source.load), 'v1')
  clock.now += 299_000
  assert.equal(cache.read('k', source.load), 'v1', 'not a promise')
  assert.equal(source.loads, 1)
})

test('an entry is read again after five minutes, heard or not', async () => {
  const { cache, source, clock } = open()
  await cache.read('k', source.load)
  clock.now += 300_000
  source.value = 'v2'
  assert.equal(await cache.read('k', source.load), 'v2')
})

test("a change of its organization ends an entry, another organization's does not", async () => {
  const { cache, source } = open()
  await cache.read('k', source.load)
  source.value = 'v2'
  cache.invalidate('other')
  assert.equal(cache.read('k', source.load), 'v1')
  cache.invalidate('org')
  assert.equal(await cache.read('k', source.load), 'v2')
  assert.equal(cache.read('k', source.load), 'v2')
})

test('a change heard while its entry is being read is not lost', async () => {
  const { cache, source } = open()
  const slow = source.hold()
  const early = cache.read('k', source.load)
  cache.invalidate('org')
  slow.release('before the change')
  assert.equal(await early, 'before the change', 'who asked before the change may get what was before')
  source.value = 'after the change'
  assert.equal(await cache.read('k', source.load), 'after the change')
})

test('whoever comes after a change never gets what was read before it, even from a read still under way', async () => {
  const { cache, source } = open()
  const slow = source.hold()
  const early = cache.read('k', source.load)
  cache.invalidate('org')
  const late = [cache.read('k', source.load), cache.read('k', source.load)]
  source.value = 'after'
  slow.release('before')
  await early
  assert.deepEqual(await Promise.all(late), ['after', 'after'])
  assert.equal(source.loads, 2, 'and both share one read')
})

test('with the listener lost every entry is read again within half a second', async () => {
  const { cache, source, clock } = open()
  await cache.read('k', source.load)
  cache.deaf()
  source.value = 'v2'
  clock.now += 499
  assert.equal(cache.read('k', source.load), 'v1')
  clock.now += 1
  assert.equal(await cache.read('k', source.load), 'v2')
})

test('before the listener is there at all, entries are read again as well', async () => {
  const { cache, source, clock } = open({ isListening: false })
  await cache.read('k', source.load)
  clock.now += 500
  source.value = 'v2'
  assert.equal(await cache.read('k', source.load), 'v2')
})

test('when the listener is back, whatever was read before is read again once', async () => {
  const { cache, source, clock } = open()
  await cache.read('k', source.load)
  cache.deaf()
  clock.now += 10
  source.value = 'v2'
  cache.listening()
  assert.equal(await cache.read('k', source.load), 'v2')
  assert.equal(cache.read('k', source.load), 'v2')
  assert.equal(source.loads, 2)
})

test('a read that began before the listener was back counts as read before', async () => {
  const { cache, source, clock } = open({ isListening: false })
  const slow = source.hold()
  const early = cache.read('k', source.load)
  clock.now += 1
  cache.listening()
  slow.release('before')
  await early
  source.value = 'after'
  assert.equal(await cache.read('k', source.load), 'after')
})

test('while the database is away what was known serves on, up to its bound and not beyond', async () => {
  const { cache, source, clock } = open()
  await cache.read('k', source.load)
  cache.deaf()
  source.fault = unavailable()
  clock.now += 1000
  assert.equal(await cache.read('k', source.load), 'v1')
  clock.now += 1
  assert.equal(cache.read('k', source.load), 'v1', 'right after a fault nobody waits')
  clock.now = STALE_MS - 1
  assert.equal(await cache.read('k', source.load), 'v1')
  clock.now = STALE_MS
  await assert.rejects(Promise.resolve(cache.read('k', source.load)), { code: 'database_unavailable' })
  clock.now += 5000
  await assert.rejects(Promise.resolve(cache.read('k', source.load)), { code: 'database_unavailable' })
})

test('what was revoked is not served while the database is away, not even within the bound', async () => {
  const { cache, source } = open()
  await cache.read('k', source.load)
  cache.invalidate('org')
  source.fault = unavailable()
  await assert.rejects(Promise.resolve(cache.read('k', source.load)), { code: 'database_unavailable' })
  cache.deaf()
  await assert.rejects(Promise.resolve(cache.read('k', source.load)), { code: 'database_unavailable' })
  cache.listening()
  await assert.rejects(Promise.resolve(cache.read('k', source.load)), { code: 'database_unavailable' })
})

test('a revocation heard during a read that fails is honoured', async () => {
  const { cache, source, clock } = open()
  await cache.read('k', source.load)
  cache.deaf()
  clock.now += 1000
  const slow = source.hold()
  const reading = Promise.resolve(cache.read('k', source.load))
  cache.invalidate('org')
  slow.fail(unavailable())
  await assert.rejects(reading, { code: 'database_unavailable' })
})

test('as soon as the database answers again, its answer counts', async () => {
  const { cache, source, clock } = open()
  await cache.read('k', source.load)
  cache.deaf()
  source.fault = unavailable()
  clock.now += 1000
  assert.equal(await cache.read('k', source.load), 'v1')
  source.fault = undefined
  source.value = 'v2'
  clock.now += 100
  await cache.read('k', source.load)
  await Promise.resolve()
  assert.equal(await cache.read('k', source.load), 'v2')
})

test('a definite no ends what was known, and is never kept itself', async () => {
  const { cache, source, clock } = open()
  await cache.read('k', source.load)
  cache.deaf()
  clock.now += 1000
  source.fault = new AppError('invalid_authentication', 'x')
  for (let round = 0; round < 3; round += 1) {
    await assert.rejects(Promise.resolve(cache.read('k', source.load)), { code: 'invalid_authentication' })
  }
  assert.equal(source.loads, 4, 'asked each time')
  source.fault = unavailable()
  await assert.rejects(Promise.resolve(cache.read('k', source.load)), { code: 'database_unavailable' })
  source.fault = undefined
  assert.equal(await cache.read('k', source.load), 'v1')
})

test('a hundred who ask at once share one read, and one fault', async () => {
  const { cache, source } = open()
  const ask = () => Promise.resolve(cache.read('k', source.load))
  const all = Array.from({ length: 100 }, ask)
  assert.deepEqual(new Set(await Promise.all(all)), new Set(['v1']))
  assert.equal(source.loads, 1)

  cache.invalidate('org')
  source.fault = unavailable()
  const outcomes = await Promise.allSettled(Array.from({ length: 100 }, ask))
  assert.ok(outcomes.every(({ status }) => status === 'rejected'))
  assert.equal(source.loads, 2)
})

test('one key never gets what was read for another', async () => {
  const { cache } = open()
  const load = (value: string) => async () => ({ organizationId: 'org', value })
  const values = await Promise.all(['a', 'b', 'c'].map((key) => cache.read(key, load(key))))
  assert.deepEqual(values, ['a', 'b', 'c'])
})

test('entries are bounded: the oldest go, the newest stay', async () => {
  const { cache } = open()
  let loads = 0
  const load = async () => {
    loads += 1
    return { organizationId: 'org', value: loads }
  }
  for (let at = 0; at < 100_001; at += 1) await cache.read(`k${at}`, load)
  assert.equal(typeof cache.read('k100000', load), 'number')
  assert.equal(typeof cache.read('k20000', load), 'number')
  assert.ok(cache.read('k0', load) instanceof Promise)
})

function open({ isListening = true } = {}) {
  const clock = { now: 0 }
  const cache = new OrganizationCache({ staleMs: STALE_MS, now: () => clock.now })
  if (isListening) cache.listening()
  return { cache, clock, source: newSource() }
}

/** What is behind the cache: a value, a fault, or an answer held back. */
function newSource() {
  let held: Promise<Loaded<string>> | undefined
  const source = {
    value: 'v1',
    fault: undefined as Error | undefined,
    loads: 0,
    load: async (): Promise<Loaded<string>> => {
      source.loads += 1
      if (held) {
        const answer = held
        held = undefined
        return answer
      }
      if (source.fault) throw source.fault
      return { organizationId: 'org', value: source.value }
    },
    /** The next read waits for what this returns. */
    hold() {
      const { promise, resolve, reject } = Promise.withResolvers<Loaded<string>>()
      held = promise
      return { release: (value: string) => resolve({ organizationId: 'org', value }), fail: reject }
    },
  }
  return source
}

function unavailable(): AppError {
  return new AppError('database_unavailable', 'x')
}
