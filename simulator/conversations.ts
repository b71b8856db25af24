import { ApiError } from './api-error.ts'
import { type Call, newId, sendJson } from './call.ts'
import { json, param, type Routes } from './handler.ts'
import { inputItems } from './input-items.ts'
import { type Conversation, deleted, now, type Objects } from './objects.ts'
import { type Item, pageOf } from './page.ts'

const ITEMS_MAX = 20

/** @see https://platform.openai.com/docs/api-reference/conversations */
export const conversationRoutes: Routes = {
  'POST /conversations': ({ objects }, call) => {
    const { metadata, items } = call.body
    const id = newId('conv')
    const object = { id, object: 'conversation', created_at: now(), metadata: metadata ?? {} }
    objects.conversations.save(call.project, id, { object, items: newItems(items ?? []) })
    return sendJson(call, 200, object)
  },

  'GET /conversations/{conversation}': ({ objects }, call) => sendJson(call, 200, asked(objects, call).object),

  'POST /conversations/{conversation}': json(({ objects }, call) => {
    const conversation = asked(objects, call)
    conversation.object = { ...conversation.object, metadata: call.body.metadata ?? {} }
    return sendJson(call, 200, conversation.object)
  }),

  'DELETE /conversations/{conversation}': ({ objects }, call) => {
    const { object } = objects.conversations.remove(call.project, param(call, 'conversation'))
    return sendJson(call, 200, deleted(object.id, 'conversation.deleted'))
  },

  'POST /conversations/{conversation}/items': json(({ objects }, call) => {
    const conversation = asked(objects, call)
    const items = newItems(call.body.items)
    conversation.items.push(...items)
    return sendJson(call, 200, pageOf(items, 'order=asc'))
  }),

  'GET /conversations/{conversation}/items': ({ objects }, call) =>
    sendJson(call, 200, pageOf(asked(objects, call).items, call.query)),

  'GET /conversations/{conversation}/items/{item}': ({ objects }, call) =>
    sendJson(call, 200, itemAsked(asked(objects, call), call)),

  'DELETE /conversations/{conversation}/items/{item}': ({ objects }, call) => {
    const conversation = asked(objects, call)
    const item = itemAsked(conversation, call)
    conversation.items = conversation.items.filter((each) => each !== item)
    return sendJson(call, 200, conversation.object)
  },
}

function newItems(items: unknown): Item[] {
  if (!Array.isArray(items) || items.length > ITEMS_MAX) {
    throw new ApiError(400, `Invalid 'items': expected an array of at most ${ITEMS_MAX}.`, { param: 'items' })
  }
  return inputItems(items)
}

function asked(objects: Objects, call: Call): Conversation {
  return objects.conversations.get(call.project, param(call, 'conversation'))
}

function itemAsked({ items, object }: Conversation, call: Call): Item {
  const item = items.find(({ id }) => id === param(call, 'item'))
  if (!item) throw new ApiError(404, `Item '${param(call, 'item')}' not found in conversation '${object.id}'.`)
  return item
}
