/** The plainest value a JSON Schema allows: the first choice everywhere, one element per array. Not for every schema there is. */
export function sampleFromSchema(schema: unknown, root: unknown = schema, depth = 0): unknown {
  if (!isObject(schema) || depth > 16) return null
  if (typeof schema.$ref === 'string') return sampleFromSchema(resolve(schema.$ref, root), root, depth + 1)
  if ('const' in schema) return schema.const
  if (Array.isArray(schema.enum)) return schema.enum[0]
  const choices = schema.anyOf ?? schema.oneOf
  if (Array.isArray(choices)) return sampleFromSchema(choices[0], root, depth + 1)
  switch (Array.isArray(schema.type) ? schema.type[0] : schema.type) {
    case 'object':
      return Object.fromEntries(
        Object.entries(isObject(schema.properties) ? schema.properties : {}).map(([name, property]) => [
          name,
          sampleFromSchema(property, root, depth + 1),
        ]),
      )
    case 'array':
      return schema.maxItems === 0 ? [] : [sampleFromSchema(schema.items, root, depth + 1)]
    case 'string':
      return 'sample'
    case 'number':
    case 'integer':
      return typeof schema.minimum === 'number' ? schema.minimum : 1
    case 'boolean':
      return true
    default:
      return null
  }
}

/** Follows `#/$defs/Name` and the like. */
function resolve(reference: string, root: unknown): unknown {
  let found = root
  for (const step of reference.split('/').slice(1)) found = isObject(found) ? found[step] : undefined
  return found
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
