/** The kinds of objects at OpenAI that belong to whoever made them. */
export const OBJECT_KINDS = [
  'response',
  'conversation',
  'item',
  'chat_completion',
  'audio',
  'file',
  'upload',
  'upload_part',
  'vector_store',
  'file_batch',
  'batch',
  'container',
  'container_file',
  'realtime_session',
  // Made elsewhere than through this proxy: usable once an operator has adopted them.
  'prompt',
  'skill',
  'connector',
  'tunnel',
  'voice',
  'model',
] as const

export type ObjectKind = (typeof OBJECT_KINDS)[number]
