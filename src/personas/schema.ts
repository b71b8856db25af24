import { z } from '@hono/zod-openapi'
import { record, timestamp } from '../http/openapi.ts'
import type { Persona } from './service.ts'
import type { PersonaVersion } from './versions.ts'

/** What crosses the wire about personas. */
export const personaParams = z.object({
  persona_id: z.string().openapi({ description: 'The id of the persona (UUID).' }),
})

export const variablesSchema = record(z.string().nullable()).openapi({
  description: 'Each {{name}} of the content with its default; null where every call has to bring a value.',
})

const shareSchema = z.object({ version: z.number().int(), percent: z.number().int() })

export const rolloutSchema = z.object({
  sticky_by: z.enum(['session', 'user']).openapi({ description: 'What keeps to the version it once got.' }),
  versions: z.array(shareSchema),
})

export const personaSchema = z
  .object({
    id: z.uuid(),
    organization_id: z.uuid(),
    user_id: z.string().nullable().openapi({ description: 'The one user who may use it (external id); null for all.' }),
    name: z.string(),
    description: z.string().nullable(),
    content: z.string().openapi({ description: 'Of the current version.' }),
    variables: variablesSchema,
    version: z.number().int().openapi({ description: 'The version that calls get, unless there is a rollout.' }),
    rollout: rolloutSchema.nullable(),
    is_active: z.boolean(),
    metadata: z.record(z.string(), z.unknown()).nullable(),
    created_at: timestamp,
    updated_at: timestamp,
  })
  .openapi('Persona')

export const versionSchema = z
  .object({
    version: z.number().int(),
    content: z.string(),
    variables: variablesSchema,
    percent: z.number().int().openapi({ description: 'Of a hundred calls, how many get it now.' }),
    created_at: timestamp,
    created_by: z.string().openapi({ description: '`token:<id>` or `operator`' }),
  })
  .openapi('PersonaVersion')

export function personaToWire(persona: Persona) {
  const { rollout } = persona
  return {
    id: persona.id,
    organization_id: persona.organizationId,
    user_id: persona.externalUserId,
    name: persona.name,
    description: persona.description,
    content: persona.content,
    variables: { ...persona.variables },
    version: persona.version,
    rollout: rollout ? { sticky_by: rollout.stickyBy, versions: rollout.versions } : null,
    is_active: persona.isActive,
    metadata: persona.metadata,
    created_at: persona.createdAt.toISOString(),
    updated_at: persona.updatedAt.toISOString(),
  }
}

export function versionToWire(version: PersonaVersion) {
  return {
    version: version.version,
    content: version.content,
    variables: { ...version.variables },
    percent: version.percent,
    created_at: version.createdAt.toISOString(),
    created_by: version.createdBy,
  }
}
