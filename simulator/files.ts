import { ApiError } from './api-error.ts'
import { type Call, newId, sendBytes, sendJson } from './call.ts'
import { fileOf } from './form.ts'
import { param, type Routes } from './handler.ts'
import { deleted, now, type Objects, type StoredFile } from './objects.ts'
import { pageOf } from './page.ts'

/** @see https://platform.openai.com/docs/api-reference/files */
export const fileRoutes: Routes = {
  'POST /files': ({ objects }, call) => {
    const { name, content } = fileOf(call, 'file')
    const { purpose } = call.body
    if (typeof purpose !== 'string') {
      throw new ApiError(400, "'purpose' is a required property", {
        param: 'purpose',
        code: 'missing_required_parameter',
      })
    }
    return sendJson(call, 200, addFile(objects, call.project, name, purpose, content).object)
  },

  'GET /files': ({ objects }, call) => {
    const purpose = new URLSearchParams(call.query).get('purpose')
    const files = objects.files.list(call.project).map(({ object }) => object)
    const wanted = purpose === null ? files : files.filter((file) => file.purpose === purpose)
    return sendJson(call, 200, pageOf(wanted, call.query))
  },

  'GET /files/{file}': ({ objects }, call) => sendJson(call, 200, fileAsked(objects, call).object),

  'DELETE /files/{file}': ({ objects }, call) => {
    const { object } = objects.files.remove(call.project, param(call, 'file'))
    return sendJson(call, 200, deleted(object.id, 'file'))
  },

  'GET /files/{file}/content': ({ objects }, call) => {
    const { object, content } = fileAsked(objects, call)
    return sendBytes(call, 'application/octet-stream', content, {
      'content-disposition': `attachment; filename="${encodeURIComponent(object.filename)}"`,
    })
  },
}

export function addFile(
  objects: Objects,
  project: string,
  filename: string,
  purpose: string,
  content: Buffer,
): StoredFile {
  const object = {
    id: newId('file'),
    object: 'file',
    bytes: content.length,
    created_at: now(),
    expires_at: null,
    filename,
    purpose,
    status: 'processed',
    status_details: null,
  }
  const file = { object, content }
  objects.files.save(project, object.id, file)
  return file
}

function fileAsked(objects: Objects, call: Call): StoredFile {
  return objects.files.get(call.project, param(call, 'file'))
}
