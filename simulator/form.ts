import { ApiError } from './api-error.ts'
import type { Call } from './call.ts'

/** An uploaded file of a multipart form. */
export type FormFile = { name: string; type: string; content: Buffer }

/** A multipart form: its files by field, and its texts as the fields of a body. `name[]` is a list called `name`. */
export type Form = { files: Record<string, FormFile[]>; fields: Record<string, unknown> }

/** @throws ApiError 400 when the bytes are no such form. */
export async function readForm(raw: Buffer<ArrayBuffer>, contentType: string): Promise<Form> {
  const form: Form = { files: {}, fields: {} }
  let entries: FormData
  try {
    entries = await new Response(raw, { headers: { 'content-type': contentType } }).formData()
  } catch {
    throw new ApiError(400, 'Could not parse multipart form.')
  }
  for (const [field, value] of entries) {
    const name = field.replace(/\[.*$/, '')
    if (typeof value !== 'string') {
      const file = { name: value.name, type: value.type, content: Buffer.from(await value.arrayBuffer()) }
      form.files[name] = [...(form.files[name] ?? []), file]
    } else if (field.includes('[')) {
      form.fields[name] = [...((form.fields[name] as string[] | undefined) ?? []), value]
    } else form.fields[name] = value
  }
  return form
}

/** @throws ApiError 400 without one. */
export function fileOf(call: Call, field: string): FormFile {
  const file = call.form?.files[field]?.[0]
  if (file) return file
  throw new ApiError(400, `'${field}' is a required property`, { param: field, code: 'missing_required_parameter' })
}
