import { type Call, sendJson } from './call.ts'
import { createChatCompletion } from './chat.ts'
import { json, param, type Routes } from './handler.ts'
import { deleted, type Objects, type StoredCompletion } from './objects.ts'
import { pageOf } from './page.ts'

/** Chat completions, and those stored with `store: true`. @see https://platform.openai.com/docs/api-reference/chat */
export const chatRoutes: Routes = {
  'POST /chat/completions': json(({ objects }, call) => createChatCompletion(objects, call)),

  'GET /chat/completions': ({ objects }, call) => {
    const query = new URLSearchParams(call.query)
    const model = query.get('model')
    const wanted = [...query].flatMap(([name, value]) => {
      const key = /^metadata\[(.+)\]$/.exec(name)?.[1]
      return key === undefined ? [] : [[key, value] as const]
    })
    const completions = objects.completions
      .list(call.project)
      .map(({ completion }) => completion)
      .filter((completion) => model === null || completion.model === model)
      .filter(({ metadata }) => wanted.every(([key, value]) => (metadata as Record<string, unknown>)[key] === value))
    // Unlike the other lists this one begins with the oldest.
    const order = query.has('order') ? '' : '&order=asc'
    return sendJson(call, 200, pageOf(completions, `${call.query}${order}`))
  },

  'GET /chat/completions/{completion}': ({ objects }, call) => sendJson(call, 200, asked(objects, call).completion),

  'POST /chat/completions/{completion}': json(({ objects }, call) => {
    const stored = asked(objects, call)
    stored.completion = { ...stored.completion, metadata: call.body.metadata ?? {} }
    return sendJson(call, 200, stored.completion)
  }),

  'DELETE /chat/completions/{completion}': ({ objects }, call) => {
    const { completion } = objects.completions.remove(call.project, param(call, 'completion'))
    return sendJson(call, 200, deleted(completion.id, 'chat.completion.deleted'))
  },

  'GET /chat/completions/{completion}/messages': ({ objects }, call) =>
    sendJson(call, 200, pageOf(asked(objects, call).messages, call.query || 'order=asc')),
}

function asked(objects: Objects, call: Call): StoredCompletion {
  return objects.completions.get(call.project, param(call, 'completion'))
}
