import { ApiError } from './api-error.ts'
import type { Behaviour } from './behaviour.ts'
import { callHostedTools } from './hosted-tools.ts'
import { inputItems } from './input-items.ts'
import { isUnknownModel } from './models.ts'
import type { Conversation, Objects, StoredResponse } from './objects.ts'
import type { Item } from './page.ts'
import { findReferences } from './references.ts'
import { modelOf } from './request-body.ts'
import { type Answer, type Context, decideAnswer, type ResponseObject } from './responses.ts'
import { questionIn } from './said.ts'
import { charsIn } from './usage.ts'

/** A request for a response, wherever it came from. */
export type Asked = {
  body: Record<string, unknown>
  project: string
  behaviour: Behaviour
  /** Responses that only this connection knows, because they were not to be stored. */
  remembered?: ReadonlyMap<string, StoredResponse>
}

/** An answer that is decided, but not yet told; `finish` takes the response as it ended, for those who ask for it later. */
export type Prepared = { answer: Answer; stored: StoredResponse; finish: (response: ResponseObject) => void }

/** @throws ApiError for a request that OpenAI would refuse. */
export function prepareResponse(objects: Objects, asked: Asked): Prepared {
  const { body, behaviour, project } = asked
  const model = modelOfResponse(body)
  const previous = previousOf(objects, asked)
  const conversation = conversationOf(objects, asked)
  if (previous && conversation) {
    throw new ApiError(400, 'Mutually exclusive parameters: previous_response_id and conversation.', {
      code: 'mutually_exclusive_parameters',
    })
  }
  if (body.input === undefined && !previous && !body.prompt && !conversation) {
    throw new ApiError(
      400,
      'One of "input" or "previous_response_id" or \'prompt\' or \'conversation_id\' must be provided.',
      { param: 'input', code: 'missing_required_parameter' },
    )
  }
  const question = questionIn(body.input)
  const answer = decideAnswer(body, model, question, behaviour, {
    previous: previous ?? (conversation && contextOf(conversation)),
    found: readReferences(objects, asked),
    hosted: callHostedTools(objects, project, body, question),
  })
  const { contextChars } = answer
  const stored: StoredResponse = {
    response: answer.response,
    inputItems: inputItems(body.input),
    contextChars,
    question,
    job: undefined,
  }
  const finish = (response: ResponseObject) => {
    stored.response = response
    conversation?.items.push(...stored.inputItems, ...(response.output as Item[]))
    if (body.store !== false) objects.responses.save(project, response.id, stored)
  }
  return { answer, stored, finish }
}

/** Characters that go in, for those who only count them. @throws ApiError as for a response. */
export function charsAsked(objects: Objects, asked: Asked): number {
  const { body } = asked
  modelOfResponse(body)
  readReferences(objects, asked)
  const conversation = conversationOf(objects, asked)
  const before = previousOf(objects, asked) ?? (conversation && contextOf(conversation))
  return charsIn(body.input) + charsIn(body.instructions) + (before?.contextChars ?? 0)
}

/** A text alone refers to nothing. */
function readReferences(objects: Objects, { body, project }: Asked): string[] {
  const { input, tools, prompt, prompt_cache_options } = body
  if (typeof input === 'string' && !tools && !prompt && !prompt_cache_options) return []
  return findReferences(objects, project, [input, tools, prompt, prompt_cache_options])
}

function modelOfResponse(body: Record<string, unknown>): string {
  if (body.model === undefined && body.prompt) return 'gpt-4o-mini'
  const model = modelOf(body)
  if (!isUnknownModel(model)) return model
  throw new ApiError(400, `The requested model '${model}' does not exist.`, { param: 'model', code: 'model_not_found' })
}

function previousOf(objects: Objects, { project, body, remembered }: Asked): StoredResponse | undefined {
  const id = body.previous_response_id
  if (id === undefined || id === null) return undefined
  const previous = remembered?.get(String(id)) ?? objects.responses.find(project, String(id))
  if (previous) return previous
  throw new ApiError(400, `Previous response with id '${id}' not found.`, {
    param: 'previous_response_id',
    code: 'previous_response_not_found',
  })
}

function conversationOf(objects: Objects, { project, body }: Asked): Conversation | undefined {
  const { conversation } = body
  if (conversation === undefined || conversation === null) return undefined
  return objects.conversations.get(
    project,
    String(typeof conversation === 'string' ? conversation : (conversation as { id?: unknown }).id),
  )
}

function contextOf({ items }: Conversation): Context {
  return { contextChars: charsIn(items), question: questionIn(items) }
}
