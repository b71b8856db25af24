import { ApiError } from './api-error.ts'
import { type Call, newId, sendJson } from './call.ts'
import { addFile } from './files.ts'
import { fileOf } from './form.ts'
import { json, param, type Routes } from './handler.ts'
import { now, type Objects, type Upload } from './objects.ts'

const AN_HOUR = 3600

/** @see https://platform.openai.com/docs/api-reference/uploads */
export const uploadRoutes: Routes = {
  'POST /uploads': json(({ objects }, call) => {
    const { bytes, filename, purpose } = call.body
    for (const field of ['bytes', 'filename', 'mime_type', 'purpose']) {
      if (call.body[field] !== undefined) continue
      throw new ApiError(400, `Missing required parameter: '${field}'.`, {
        param: field,
        code: 'missing_required_parameter',
      })
    }
    const id = newId('upload')
    const object = {
      id,
      object: 'upload',
      bytes: Number(bytes),
      created_at: now(),
      expires_at: now() + AN_HOUR,
      filename: String(filename),
      purpose: String(purpose),
      status: 'pending',
    }
    objects.uploads.save(call.project, id, { object, parts: new Map() })
    return sendJson(call, 200, object)
  }),

  'POST /uploads/{upload}/parts': ({ objects }, call) => {
    const upload = pendingUpload(objects, call)
    const id = newId('part')
    upload.parts.set(id, fileOf(call, 'data').content)
    return sendJson(call, 200, { id, object: 'upload.part', created_at: now(), upload_id: upload.object.id })
  },

  'POST /uploads/{upload}/complete': json(({ objects }, call) => {
    const upload = pendingUpload(objects, call)
    const ids: unknown[] = Array.isArray(call.body.part_ids) ? call.body.part_ids : []
    const content = Buffer.concat(
      ids.map((id) => {
        const part = upload.parts.get(String(id))
        if (!part) throw new ApiError(400, `Part '${id}' not found.`, { param: 'part_ids' })
        return part
      }),
    )
    if (content.length !== upload.object.bytes) {
      throw new ApiError(400, `Expected ${upload.object.bytes} bytes, but the parts have ${content.length}.`)
    }
    const { filename, purpose } = upload.object
    const file = addFile(objects, call.project, String(filename), String(purpose), content).object
    upload.object = { ...upload.object, status: 'completed', file }
    return sendJson(call, 200, upload.object)
  }),

  'POST /uploads/{upload}/cancel': ({ objects }, call) => {
    const upload = pendingUpload(objects, call)
    upload.object = { ...upload.object, status: 'cancelled' }
    return sendJson(call, 200, upload.object)
  },
}

function pendingUpload(objects: Objects, call: Call): Upload {
  const upload = objects.uploads.get(call.project, param(call, 'upload'))
  if (upload.object.status === 'pending') return upload
  throw new ApiError(400, `Upload '${upload.object.id}' is ${upload.object.status}.`)
}
