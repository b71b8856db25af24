/** What to try next against the running demo, ready to paste. */
export function pasteableLines(demo: {
  url: string
  syntheticKey: string
  token: string
  psqlCommand: string | undefined
}): string[] {
  const { url, syntheticKey, token, psqlCommand } = demo
  const body = `"model": "gpt-4o-mini", "input": "What is the capital of France?"`
  return [
    ...title('curl'),
    `curl ${url}/v1/responses \\`,
    `  -H 'Authorization: Bearer ${syntheticKey}' \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d '{${body}}'`,
    ...title('curl, streaming'),
    `curl -N ${url}/v1/responses \\`,
    `  -H 'Authorization: Bearer ${syntheticKey}' \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d '{${body}, "stream": true}'`,
    ...title('curl, with the token of the organization, for any user'),
    `curl ${url}/v1/responses \\`,
    `  -H 'Authorization: Bearer ${token}' \\`,
    `  -H 'X-User-ID: demo-user' \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d '{${body}}'`,
    ...title("OpenAI's SDK, JavaScript"),
    `import OpenAI from 'openai'`,
    `const client = new OpenAI({ baseURL: '${url}/v1', apiKey: '${syntheticKey}' })`,
    `const response = await client.responses.create({ model: 'gpt-4o-mini', input: 'What is the capital of France?' })`,
    'console.log(response.output_text)',
    ...title("OpenAI's SDK, Python"),
    'from openai import OpenAI',
    `client = OpenAI(base_url="${url}/v1", api_key="${syntheticKey}")`,
    `response = client.responses.create(model="gpt-4o-mini", input="What is the capital of France?")`,
    'print(response.output_text)',
    ...(psqlCommand === undefined
      ? []
      : [
          ...title('The records, in SQL (needs psql, which comes with any Postgres client)'),
          `${psqlCommand} -c "${RECORDS}"`,
        ]),
    ...title('Health, and the API'),
    `curl ${url}/readyz`,
    `${url}/docs`,
    '',
  ]
}

/** The user of the embedded database is its superuser, for whom row security does not hold. */
const RECORDS =
  'select opened_at, request_id, model_used, status, input_tokens, output_tokens, round(cost_nano_usd / 1e9, 9) as cost_usd from attempts order by opened_at desc limit 5'

function title(text: string): string[] {
  return ['', `--- ${text}`, '']
}
