import { ApiError } from './api-error.ts'
import { type Call, newId, sendBytes, sendJson } from './call.ts'
import { json, param, type Routes } from './handler.ts'
import { type Container, type ContainerFile, deleted, now, type Objects } from './objects.ts'
import { pageOf } from './page.ts'

/** @see https://platform.openai.com/docs/api-reference/containers */
export const containerRoutes: Routes = {
  'POST /containers': json(({ objects }, call) => {
    const { name, file_ids, expires_after, memory_limit } = call.body
    if (typeof name !== 'string') {
      throw new ApiError(400, "Missing required parameter: 'name'.", {
        param: 'name',
        code: 'missing_required_parameter',
      })
    }
    const fileIds = Array.isArray(file_ids) ? file_ids.map(String) : []
    const container = addContainer(objects, call.project, name, fileIds, {
      expires_after: expires_after ?? { anchor: 'last_active_at', minutes: 20 },
      memory_limit: memory_limit ?? '1g',
    })
    return sendJson(call, 200, container.object)
  }),

  'GET /containers': ({ objects }, call) => {
    const name = new URLSearchParams(call.query).get('name')
    const containers = objects.containers.list(call.project).map(({ object }) => object)
    const wanted = name === null ? containers : containers.filter((container) => container.name === name)
    return sendJson(call, 200, pageOf(wanted, call.query))
  },

  'GET /containers/{container}': ({ objects }, call) => sendJson(call, 200, containerAsked(objects, call).object),

  'DELETE /containers/{container}': ({ objects }, call) => {
    const { object } = objects.containers.remove(call.project, param(call, 'container'))
    return sendJson(call, 200, deleted(object.id, 'container.deleted'))
  },

  'POST /containers/{container}/files': ({ objects }, call) => {
    const container = containerAsked(objects, call)
    const uploaded = call.form?.files.file?.[0]
    if (uploaded)
      return sendJson(call, 200, addContainerFile(container, uploaded.name, uploaded.content, 'user').object)
    const { object, content } = objects.files.get(call.project, String(call.body.file_id))
    return sendJson(call, 200, addContainerFile(container, object.filename, content, 'user').object)
  },

  'GET /containers/{container}/files': ({ objects }, call) => {
    const files = [...containerAsked(objects, call).files.values()]
    return sendJson(
      call,
      200,
      pageOf(
        files.map(({ object }) => object),
        call.query,
      ),
    )
  },

  'GET /containers/{container}/files/{file}': ({ objects }, call) =>
    sendJson(call, 200, containerFileAsked(objects, call).object),

  'GET /containers/{container}/files/{file}/content': ({ objects }, call) =>
    sendBytes(call, 'application/octet-stream', containerFileAsked(objects, call).content),

  'DELETE /containers/{container}/files/{file}': ({ objects }, call) => {
    const { object } = containerFileAsked(objects, call)
    containerAsked(objects, call).files.delete(object.id)
    return sendJson(call, 200, deleted(object.id, 'container.file.deleted'))
  },
}

/** @throws ApiError 404 for a file that is not in the project. */
export function addContainer(
  objects: Objects,
  project: string,
  name: string,
  fileIds: string[],
  fields: Record<string, unknown> = {},
): Container {
  const sources = fileIds.map((id) => objects.files.get(project, id))
  const id = newId('cntr')
  const object = {
    id,
    object: 'container',
    created_at: now(),
    last_active_at: now(),
    name,
    status: 'running',
    ...fields,
  }
  const container: Container = { object, files: new Map() }
  for (const { object, content } of sources) addContainerFile(container, object.filename, content, 'user')
  objects.containers.save(project, id, container)
  return container
}

export function addContainerFile(
  container: Container,
  name: string,
  content: Buffer,
  source: 'user' | 'assistant',
): ContainerFile {
  const object = {
    id: newId('cfile'),
    object: 'container.file',
    bytes: content.length,
    container_id: container.object.id,
    created_at: now(),
    path: `/mnt/data/${name}`,
    source,
  }
  const file = { object, content }
  container.files.set(object.id, file)
  return file
}

function containerAsked(objects: Objects, call: Call): Container {
  return objects.containers.get(call.project, param(call, 'container'))
}

function containerFileAsked(objects: Objects, call: Call): ContainerFile {
  const file = containerAsked(objects, call).files.get(param(call, 'file'))
  if (!file) throw new ApiError(404, `Container file with id '${param(call, 'file')}' not found.`)
  return file
}
