/** The clients that applications really use, with a base URL and a key changed and nothing else. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOpenAI } from '@ai-sdk/openai'
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai'
import {
  Agent,
  tool as agentTool,
  OpenAIConversationsSession,
  OpenAIProvider,
  Runner,
  setTracingDisabled,
} from '@openai/agents'
import { tool as aiTool, embed, generateText, isStepCount, Output, streamText } from 'ai'
import { z } from 'zod'
import { startSystem } from './harness.ts'

// Their traces would go to OpenAI whatever the base URL.
setTracingDisabled(true)
const system = await startSystem()
const organization = await system.organization()
const apiKey = organization.syntheticKey
const baseURL = `${system.url}/v1`
/** Calls the first tool until its output has come. */
const TOOL_MODEL = 'sim-tool'
const MODEL = 'gpt-5'

const weather = { description: 'The weather in a city.', schema: z.object({ city: z.string() }) }

test('@openai/agents: a tool, a stream, and a conversation that is remembered', async () => {
  const { description, schema } = weather
  const tool = agentTool({
    name: 'weather',
    description,
    parameters: schema,
    execute: async ({ city }) => `sun, ${city}`,
  })
  const agent = new Agent({ name: 'Assistant', instructions: 'Be brief.', model: TOOL_MODEL, tools: [tool] })
  const runner = new Runner({ modelProvider: new OpenAIProvider({ apiKey, baseURL, useResponses: true }) })
  const whole = await runner.run(agent, 'How is the weather?')
  const streamed = await runner.run(agent, 'How is the weather?', { stream: true })
  await streamed.completed
  const session = new OpenAIConversationsSession({ client: organization.client({ apiKey }) })
  await runner.run(agent, 'My colour is teal.', { session })
  const items = await session.getItems()

  assert.match(String(whole.finalOutput), /You said: sun, sample/)
  assert.equal(streamed.finalOutput, whole.finalOutput)
  assert.deepEqual(
    items.map(({ type }) => type),
    ['message', 'function_call', 'function_call_result', 'message'],
  )
})

test('@openai/agents over chat completions', async () => {
  const modelProvider = new OpenAIProvider({ apiKey, baseURL, useResponses: false })

  const { finalOutput } = await new Runner({ modelProvider }).run(
    new Agent({ name: 'Assistant', model: MODEL }),
    'ping',
  )

  assert.equal(finalOutput, 'You said: ping')
})

test('the AI SDK: responses and chat, whole and streamed, with tools, objects and embeddings', async () => {
  const openai = createOpenAI({ apiKey, baseURL })
  const { description, schema } = weather
  const tools = { weather: aiTool({ description, inputSchema: schema, execute: async ({ city }) => `sun, ${city}` }) }
  for (const modelOf of [openai.responses, openai.chat]) {
    const whole = await generateText({ model: modelOf(MODEL), system: 'Be brief.', prompt: 'ping' })
    const streamed = streamText({ model: modelOf(MODEL), prompt: 'ping' })
    const called = await generateText({ model: modelOf(TOOL_MODEL), prompt: 'How?', tools, stopWhen: isStepCount(2) })
    const { output } = await generateText({
      model: modelOf(MODEL),
      prompt: 'Where?',
      output: Output.object({ schema }),
    })

    assert.equal(whole.text, 'You said: ping')
    assert.equal((await Array.fromAsync(streamed.textStream)).join(''), 'You said: ping')
    assert.equal((await streamed.usage).outputTokens, 3)
    assert.match(called.text, /sun, sample/)
    assert.deepEqual(output, { city: 'sample' })
  }
  const { embedding } = await embed({ model: openai.embedding('text-embedding-3-small'), value: 'ping' })
  assert.equal(embedding.length, 1536)
})

test('LangChain: responses and chat, whole and streamed, with tools, and embeddings', async () => {
  const { description, schema } = weather
  const tools = [{ type: 'function', function: { name: 'weather', description, parameters: z.toJSONSchema(schema) } }]
  for (const useResponsesApi of [true, false]) {
    const chat = (model: string) => new ChatOpenAI({ model, apiKey, useResponsesApi, configuration: { baseURL } })
    const { text, usage_metadata } = await chat(MODEL).invoke('ping')
    const chunks = await Array.fromAsync(await chat(MODEL).stream('ping'))
    const called = await chat(TOOL_MODEL).bindTools(tools).invoke('How?')

    assert.equal(text, 'You said: ping')
    assert.partialDeepStrictEqual(usage_metadata, { output_tokens: 3 })
    assert.equal(chunks.map(({ text }) => text).join(''), 'You said: ping')
    assert.partialDeepStrictEqual(called.tool_calls?.[0], { name: 'weather', args: { city: 'sample' } })
  }
  const embeddings = new OpenAIEmbeddings({ model: 'text-embedding-3-small', apiKey, configuration: { baseURL } })
  assert.equal((await embeddings.embedQuery('ping')).length, 1536)
})

test('every call of every client is a row, with the tokens that were served', async () => {
  const served = system.simulator.ledger.entries().filter(({ usage }) => usage !== null)
  const rows = await system.query<{ input: string; output: string }>(
    'select input_tokens as input, output_tokens as output from attempts where organization_id = $1',
    [organization.id],
  )

  const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0)
  assert.equal(rows.length, served.length)
  assert.equal(sum(rows.map(({ input }) => Number(input))), sum(served.map(({ usage }) => usage?.input_tokens ?? 0)))
  assert.equal(sum(rows.map(({ output }) => Number(output))), sum(served.map(({ usage }) => usage?.output_tokens ?? 0)))
})
