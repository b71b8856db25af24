import { newId } from './call.ts'
import { addContainer, addContainerFile } from './containers.ts'
import type { Container, Objects } from './objects.ts'
import type { Item } from './page.ts'
import { asksToCompact } from './said.ts'
import { searchResults } from './vector-stores.ts'

/** What OpenAI's own tools did before the answer was given, and what of it the answer cites. */
export type HostedCalls = {
  items: Item[]
  annotations: Record<string, unknown>[]
  images: number
  /** The items are all there is: nothing is said. */
  silent: boolean
}

/** Every hosted tool of a request is used once, so that what it hands out (containers, their files, items) can be looked at. */
export function callHostedTools(
  objects: Objects,
  project: string,
  body: Record<string, unknown>,
  question: string,
): HostedCalls {
  const calls: HostedCalls = { items: [], annotations: [], images: 0, silent: false }
  if (asksToCompact(body.input)) {
    return { ...calls, items: [compactionItem()], silent: true }
  }
  if (!Array.isArray(body.tools) || body.tool_choice === 'none') return calls
  for (const tool of body.tools as (Record<string, unknown> | null)[]) {
    switch (tool?.type) {
      case 'code_interpreter': {
        const container = containerOf(objects, project, tool.container)
        const { object } = addContainerFile(container, 'chart.txt', Buffer.from(`chart of ${question}`), 'assistant')
        const container_id = container.object.id
        const code = 'print("simulated")'
        calls.items.push({ ...done('ci', 'code_interpreter_call'), code, container_id, outputs: null })
        const place = { start_index: 0, end_index: 1, filename: 'chart.txt' }
        calls.annotations.push({ type: 'container_file_citation', container_id, file_id: object.id, ...place })
        break
      }
      case 'shell': {
        const { object } = containerOf(objects, project, tool.environment)
        const environment = { type: 'container_reference', container_id: object.id }
        const action = { commands: ['true'], timeout_ms: null, max_output_length: null }
        calls.items.push({ ...done('sh', 'shell_call'), call_id: newId('call'), action, environment })
        break
      }
      case 'file_search': {
        const ids: unknown[] = Array.isArray(tool.vector_store_ids) ? tool.vector_store_ids : []
        const stores = ids.map((id) => objects.vectorStores.get(project, String(id)))
        const results = stores.flatMap((store) => searchResults(objects, project, store))
        const wanted = Array.isArray(body.include) && body.include.includes('file_search_call.results')
        const shown = wanted ? results.map(({ content, ...rest }) => ({ ...rest, text: textOf(content) })) : null
        calls.items.push({ ...done('fs', 'file_search_call'), queries: [question], results: shown })
        for (const { file_id, filename } of results) {
          calls.annotations.push({ type: 'file_citation', index: 0, file_id, filename })
        }
        break
      }
      case 'image_generation':
        calls.images++
        calls.items.push({ ...done('ig', 'image_generation_call'), result: Buffer.from(question).toString('base64') })
        break
      case 'mcp':
        if (tool.require_approval === 'never') break
        calls.items.push({
          ...done('mcpr', 'mcp_approval_request'),
          server_label: tool.server_label,
          name: 'look',
          arguments: '{}',
        })
    }
  }
  return calls
}

export function compactionItem(): Item {
  return { id: newId('cmp'), type: 'compaction', encrypted_content: 'c2ltdWxhdGVk' }
}

function done(kind: string, type: string): Item {
  return { id: newId(kind), type, status: 'completed' }
}

function textOf(content: unknown): unknown {
  return (content as { text?: unknown }[])[0]?.text
}

/** The container named, or a new one with the files that a `container_auto` asks for. */
function containerOf(objects: Objects, project: string, asked: unknown): Container {
  if (typeof asked === 'string') return objects.containers.get(project, asked)
  const { container_id, file_ids } = (asked ?? {}) as { container_id?: unknown; file_ids?: unknown[] }
  if (container_id !== undefined) return objects.containers.get(project, String(container_id))
  return addContainer(objects, project, 'auto', file_ids?.map(String) ?? [])
}
