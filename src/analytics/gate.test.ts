import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openGate } from './gate.ts'

test('no more are in than may be, the next comes when one leaves, and beyond the line is a refusal', async () => {
  const gate = openGate({ runningMax: 2, waitingMax: 1 })
  const order: string[] = []
  const first = await gate.enter()
  const second = await gate.enter()
  const third = gate.enter().then((pass) => {
    order.push('third in')
    return pass
  })

  await assert.rejects(gate.enter(), { code: 'overloaded' })
  order.push('first leaves')
  first[Symbol.dispose]()
  const pass = await third
  second[Symbol.dispose]()
  const fourth = await gate.enter()

  assert.deepEqual(order, ['first leaves', 'third in'])
  for (const held of [pass, fourth]) held[Symbol.dispose]()
})
