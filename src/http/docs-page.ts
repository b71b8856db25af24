/** The parts of an OpenAPI document that the page shows. */
interface Document {
  info: { title: string; version: string; description?: string }
  paths?: Record<string, unknown>
}

interface Operation {
  summary?: string
  tags?: string[]
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema?: unknown }[]
  requestBody?: { content?: Record<string, { schema?: unknown }> }
  responses?: Record<string, { description?: string; content?: Record<string, { schema?: unknown }> }>
  security?: unknown[]
}

/** The OpenAPI document as one page of plain HTML: nothing to load, nothing to run. */
export function docsPage(document: Document): string {
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, Operation>).map(([method, operation]) => ({ path, method, operation })),
  )
  const tags = [...new Set(operations.map(({ operation }) => operation.tags?.[0] ?? 'other'))]
  const sections = tags.map((tag) => {
    const own = operations.filter(({ operation }) => (operation.tags?.[0] ?? 'other') === tag)
    return `<h2 id="${escapeHtml(tag)}">${escapeHtml(tag.replace('_', ' '))}</h2>${own.map(operationHtml).join('')}`
  })
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(document.info.title)}</title><style>${STYLE}</style></head><body><main>
<h1>${escapeHtml(document.info.title)} <small>${escapeHtml(document.info.version)}</small></h1>
<p>${inlineCode(document.info.description ?? '')} The same as a document for tools: <a href="/openapi.json">openapi.json</a>.</p>
<nav>${tags.map((tag) => `<a href="#${escapeHtml(tag)}">${escapeHtml(tag.replace('_', ' '))}</a>`).join(' ')}</nav>
${sections.join('\n')}
</main></body></html>`
}

function operationHtml({ path, method, operation }: { path: string; method: string; operation: Operation }): string {
  const parameters = (operation.parameters ?? []).map(
    ({ name, in: place, required, description }) =>
      `<tr><td><code>${escapeHtml(name)}</code></td><td>${escapeHtml(place)}${required ? ', required' : ''}</td><td>${escapeHtml(description ?? '')}</td></tr>`,
  )
  const body = operation.requestBody?.content?.['application/json']?.schema
  const responses = Object.entries(operation.responses ?? {}).map(([status, response]) => {
    const schema = response.content?.['application/json']?.schema
    const shape = schema === undefined || Number(status) >= 400 ? '' : `<pre>${escapeHtml(shapeOf(schema))}</pre>`
    return `<tr><td><code>${escapeHtml(status)}</code></td><td>${escapeHtml(response.description ?? '')}${shape}</td></tr>`
  })
  return `<details><summary><b class="${escapeHtml(method)}">${escapeHtml(method.toUpperCase())}</b> <code>${escapeHtml(path)}</code>
<span>${escapeHtml(operation.summary ?? '')}</span></summary>
<p>${operation.security ? 'Needs <code>Authorization: Bearer ...</code>.' : 'Needs no credential.'}</p>
${parameters.length > 0 ? `<table>${parameters.join('')}</table>` : ''}
${body === undefined ? '' : `<h3>Body</h3><pre>${escapeHtml(shapeOf(body))}</pre>`}
<h3>Answers</h3><table>${responses.join('')}</table></details>`
}

/** A schema as the JSON it describes, which is easier to read than the schema. */
function shapeOf(schema: unknown): string {
  const { $ref, properties, required } = schema as {
    $ref?: string
    properties?: Record<string, unknown>
    required?: string[]
  }
  if ($ref !== undefined) return $ref.replace('#/components/schemas/', '')
  if (!properties) return JSON.stringify(schema, null, 2)
  const lines = Object.entries(properties).map(
    ([name, property]) => `  "${name}"${required?.includes(name) ? '' : '?'}: ${typeOf(property)}`,
  )
  return `{\n${lines.join('\n')}\n}`
}

function typeOf(schema: unknown): string {
  const { type, format, items, $ref, anyOf, enum: choices } = schema as Record<string, unknown>
  const constant = (schema as { const?: unknown }).const
  if (constant !== undefined) return JSON.stringify(constant)
  if (typeof $ref === 'string') return $ref.replace('#/components/schemas/', '')
  if (Array.isArray(choices)) return choices.map((choice) => JSON.stringify(choice)).join(' | ')
  if (Array.isArray(anyOf)) return anyOf.map(typeOf).join(' | ')
  if (type === 'array') return `${typeOf(items ?? {})}[]`
  const name = Array.isArray(type) ? type.join(' | ') : String(type ?? 'any')
  return typeof format === 'string' ? `${name} (${format})` : name
}

function inlineCode(text: string): string {
  return escapeHtml(text).replace(/`([^`]+)`/g, '<code>$1</code>')
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881 }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 6rem }
h1 small { font-weight: normal; opacity: .6 } h2 { margin-top: 2.5rem; text-transform: capitalize } h3 { margin: 1rem 0 .25rem; font-size: 1rem }
nav a { margin-right: 1rem; text-transform: capitalize }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; padding: .5rem .75rem }
summary { cursor: pointer } summary span { opacity: .7; margin-left: .5rem }
b { display: inline-block; min-width: 4.5rem } .get { color: #2a7 } .post { color: #38d } .put { color: #c80 } .delete { color: #d44 }
code, pre { font: .9em/1.45 ui-monospace, monospace } pre { background: var(--soft); padding: .5rem .75rem; border-radius: .4rem; overflow-x: auto; margin: .25rem 0 }
table { border-collapse: collapse; width: 100% } td { border-top: 1px solid var(--line); padding: .3rem .6rem .3rem 0; vertical-align: top }
`
