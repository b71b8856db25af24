import type { BackgroundJob } from './background.ts'
import { type Collection, openCollection } from './collection.ts'
import type { Item } from './page.ts'
import type { Context, ResponseObject } from './responses.ts'

/** A stored response, and what belongs to it. */
export type StoredResponse = Context & {
  response: ResponseObject
  inputItems: Item[]
  /** Only a background response can be cancelled, or watched again. */
  job: BackgroundJob | undefined
}

export type StoredCompletion = { completion: Item & { metadata: unknown }; messages: Item[] }
export type Conversation = { object: Item & { metadata: unknown }; items: Item[] }
export type StoredFile = { object: Item & { purpose: string; filename: string; bytes: number }; content: Buffer }
export type Upload = {
  object: Item & { status: string; bytes: number }
  parts: Map<string, Buffer>
}
export type VectorStore = {
  object: Item
  files: Map<string, Item>
  batches: Map<string, { object: Item; fileIds: string[] }>
}
export type Batch = { object: Item & { status: string }; abort: AbortController }
export type ContainerFile = { object: Item; content: Buffer }
export type Container = { object: Item & { name: string }; files: Map<string, ContainerFile> }

/** Everything that is kept for the keys of a project. */
export type Objects = {
  responses: Collection<StoredResponse>
  completions: Collection<StoredCompletion>
  conversations: Collection<Conversation>
  /** What was said aloud in chats. */
  audios: Collection<string>
  files: Collection<StoredFile>
  uploads: Collection<Upload>
  vectorStores: Collection<VectorStore>
  batches: Collection<Batch>
  containers: Collection<Container>
  /** Stops what still runs in the background. */
  close(): void
}

export function openObjects(): Objects {
  const objects = {
    responses: openCollection<StoredResponse>((id) => `Response with id '${id}' not found.`),
    completions: openCollection<StoredCompletion>((id) => `Chat completion with id '${id}' not found.`),
    conversations: openCollection<Conversation>((id) => `Conversation with id '${id}' not found.`),
    audios: openCollection<string>((id) => `Audio with id '${id}' not found.`),
    files: openCollection<StoredFile>((id) => `No such File object: ${id}`),
    uploads: openCollection<Upload>((id) => `No such Upload object: ${id}`),
    vectorStores: openCollection<VectorStore>((id) => `Vector store with id '${id}' not found.`),
    batches: openCollection<Batch>((id) => `No batch found with id '${id}'.`),
    containers: openCollection<Container>((id) => `Container with id '${id}' not found.`),
  }
  return {
    ...objects,
    close() {
      for (const { job } of objects.responses.all()) job?.cancel()
      for (const { abort } of objects.batches.all()) abort.abort()
    },
  }
}

/** Seconds since the epoch, as OpenAI's timestamps are. */
export function now(): number {
  return Math.floor(Date.now() / 1000)
}

/** What OpenAI says of an object that is gone. */
export function deleted(id: string, object: string): Item {
  return { id, object, deleted: true }
}
