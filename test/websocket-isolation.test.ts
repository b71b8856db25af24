/** Everything that the body of a request for a response could name of somebody else's, named in frames. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ENDPOINTS } from '../src/proxy/endpoints.ts'
import { startSystem } from './harness.ts'
import { mixed, neverIssued, withObjects } from './isolation/check.ts'
import { newParties } from './isolation/party.ts'
import { waysIn } from './isolation/ways.ts'
import { connectSocket, type Frame, type SocketClient } from './socket-client.ts'

const system = await startSystem()

test('no object of anybody else can be named in a frame, in any place: it is told as one that never was', async () => {
  const organizations = { organizations: 2, users: ['alice'], shareObjects: 'user' as const }
  const [mine, theirs] = await withObjects(system, await newParties(system, organizations))
  assert.ok(mine && theirs)
  const table = ENDPOINTS.filter(({ name }) => name === 'responses.create')
  const sockets = await Promise.all([1, 2].map(() => connectSocket(system.url, mine.organization)))
  const framesBefore = framesCount()

  const ways = waysIn(table)
  for (const way of ways) {
    const frames: object[] = [neverIssued(mine.objects), theirs.objects].map((other) => {
      const { body } = way.request(mixed(mine.objects, other, way.foreign))
      return { type: 'response.create', ...body }
    })
    const [unknown, foreign]: (Frame | undefined)[] = await Promise.all(
      frames.map((frame, at) => answerTo(sockets[at], frame)),
    )
    assert.equal(foreign?.status, 404, way.name)
    assert.deepEqual(foreign, unknown, way.name)
  }

  assert.ok(ways.length >= 40, `only ${ways.length}`)
  assert.equal(framesCount(), framesBefore)
  for (const { received, socket } of sockets) {
    assert.ok(received.every((text) => !text.includes(theirs.canary)))
    socket.terminate()
  }
})

function framesCount(): number {
  return system.simulator.ledger.entries().filter(({ transport }) => transport === 'websocket').length
}

async function answerTo(socket: SocketClient | undefined, frame: object): Promise<Frame | undefined> {
  socket?.send(frame)
  return (await socket?.until(['error', 'response.created']))?.at(-1)
}
