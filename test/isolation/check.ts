import type { Endpoint } from '../../src/proxy/endpoints.ts'
import type { System } from '../harness.ts'
import { until } from '../raw-client.ts'
import { adoptObjects, makeObjects, type Objects } from './objects.ts'
import { type Answer, ask, type Party } from './party.ts'
import { pathOf, type Way, waysIn } from './ways.ts'

export interface Owner extends Party {
  objects: Objects
}

export interface Report {
  attempts: number
  /** A sentence for each thing that is not as it must be. */
  holes: string[]
}

/** More would wait for the database longer than the server lets them. */
const AT_ONCE = 32

export async function withObjects(system: System, parties: Party[]): Promise<Owner[]> {
  return Promise.all(
    parties.map(async (party) => {
      const adopted = await adoptObjects(system, party)
      return { ...party, objects: { ...adopted, ...(await makeObjects(system.url, party)) } }
    }),
  )
}

/**
 * Tries everything that a table lets one party name of another's: each must be refused as what never was, byte for byte, without a call
 * to OpenAI, without a row, and without a byte of anybody else's. Whoever names their own is served.
 */
export async function checkIsolation(
  { simulator, query, url }: Pick<System, 'simulator' | 'query' | 'url'>,
  table: readonly Endpoint[],
  owners: Owner[],
): Promise<Report> {
  const holes: string[] = []
  const ways = waysIn(table)
  const attempts = ways.flatMap((way, at) => pairs(owners, way, at).map(([asker, victim]) => ({ way, asker, victim })))
  const unknown = new Map<Way, Answer>()
  await each(ways, async (way) => {
    const asker = owners[0] as Owner
    unknown.set(way, await ask(url, asker, way.request(mixed(asker.objects, neverIssued(asker.objects), way.foreign))))
  })
  // The proxy itself asks OpenAI how background responses and batches end.
  await until(
    'everything has ended',
    async () => (await query('select 1 from background_attempts limit 1')).length === 0,
    120_000,
  )
  await simulator.ledger.idle()
  const rowsBefore = await countRows()
  const callsBefore = simulator.ledger.entries().length

  await each(attempts, async ({ way, asker, victim }) => {
    const answer = await ask(url, asker, way.request(mixed(asker.objects, victim.objects, way.foreign)))
    const name = `${way.name}: ${asker.name} with what is ${victim.name}'s`
    const expected = unknown.get(way)
    if (answer.status !== 404) holes.push(`${name}: answered ${answer.status}: ${answer.text.slice(0, 200)}`)
    else if (answer.text !== expected?.text || answer.headers !== expected.headers) {
      holes.push(`${name}: not answered as what never was: ${answer.text} and not ${expected?.text}`)
    }
    for (const other of owners) {
      if (other.circle !== asker.circle && isIn(other, answer, way.request(other.objects).path)) {
        holes.push(`${name}: bytes of ${other.name} in the answer: ${answer.text.slice(0, 200)}`)
      }
    }
  })

  await simulator.ledger.idle()
  const calls = simulator.ledger.entries().slice(callsBefore)
  for (const { method, path } of calls) holes.push(`OpenAI was called: ${method} ${path}`)
  if ((await countRows()) !== rowsBefore) holes.push('A refused call has a row in the ledger.')
  holes.push(...(await strangersInLists()))
  return { attempts: attempts.length, holes }

  /** What everybody sees of lists, their own and those within their own objects, and of each of their objects. */
  async function strangersInLists(): Promise<string[]> {
    const found: string[] = []
    const readable = table.filter(
      ({ method, body, isolation }) => method === 'GET' && body === 'none' && isolation !== 'here',
    )
    const reads = readable.flatMap((endpoint) =>
      owners.flatMap((owner) => ['', '?order=asc&limit=100'].map((search) => ({ endpoint, owner, search }))),
    )
    await each(reads, async ({ endpoint, owner, search }) => {
      if (endpoint.name === 'models.retrieve' && owner.user === null) return
      const answer = await ask(url, owner, { method: 'GET', path: `${pathOf(endpoint, owner.objects)}${search}` })
      const name = `${endpoint.name}: ${owner.name} with what is their own`
      if (answer.status !== 200) found.push(`${name}: answered ${answer.status}: ${answer.text.slice(0, 200)}`)
      if (endpoint.isolation === 'own list' && !Object.values(owner.objects).some((id) => answer.text.includes(id))) {
        found.push(`${name}: nothing of it in their list`)
      }
      for (const other of owners) {
        if (other.circle !== owner.circle && isIn(other, answer, '')) {
          found.push(`${name}: bytes of ${other.name} in the answer: ${answer.text.slice(0, 200)}`)
        }
      }
    })
    return found
  }

  async function countRows(): Promise<string | undefined> {
    return (await query<{ rows: string }>('select count(*) as rows from attempts'))[0]?.rows
  }
}

/** Tries every way with what is one's own: none of them fails, so that what is refused above is refused for whose it is. */
export async function checkOwnUse(url: string, table: readonly Endpoint[], owner: Owner): Promise<string[]> {
  const failures: string[] = []
  const ways = waysIn(table).filter(({ isUsable }) => isUsable)
  await each(ways, async (way) => {
    // Made anew each time: some ways delete or close what they name.
    const answer = await ask(url, owner, way.request({ ...owner.objects, ...(await makeObjects(url, owner)) }))
    // A batch may have ended before, which OpenAI says.
    const expected = way.name.startsWith('batches.cancel') ? [200, 409] : [200]
    if (!expected.includes(answer.status))
      failures.push(`${way.name}: answered ${answer.status}: ${answer.text.slice(0, 300)}`)
  })
  return failures
}

/** Who tries a way with whose objects; where it is not everybody with everybody, others have their turn with the next way. */
function pairs(owners: Owner[], { triedBy }: Way, turn: number): [asker: Owner, victim: Owner][] {
  const all = owners.map((asker) =>
    owners.filter(({ circle }) => circle !== asker.circle).map((victim): [Owner, Owner] => [asker, victim]),
  )
  if (triedBy === 'every pair') return all.flat()
  const turns = all.map((of, at) => of[(turn + at) % of.length] as [Owner, Owner])
  return triedBy === 'everybody' ? turns : [turns[turn % turns.length] as [Owner, Owner]]
}

export function mixed(own: Objects, other: Objects, foreign: Way['foreign']): Objects {
  return { ...own, ...Object.fromEntries(foreign.map((kind) => [kind, other[kind]])) }
}

/** Ids of the same form that nobody was ever given. */
export function neverIssued(objects: Objects): Objects {
  const reversed = (id: string) => id.replace(/[0-9a-f]{40}/, (digits) => [...digits].reverse().join(''))
  return Object.fromEntries(Object.entries(objects).map(([kind, id]) => [kind, reversed(id)])) as Objects
}

function isIn({ canary, objects }: Owner, { text, headers }: Answer, asked: string): boolean {
  return [canary, ...Object.values(objects)].some(
    (secret) => !asked.includes(secret) && (text + headers).includes(secret),
  )
}

async function each<T>(things: readonly T[], work: (thing: T) => Promise<void>): Promise<void> {
  const waiting = [...things]
  const worker = async () => {
    for (let thing = waiting.pop(); thing !== undefined; thing = waiting.pop()) await work(thing)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}
