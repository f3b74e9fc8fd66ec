// Texts held to a grammar on the embedded engines: schemas, forced calls, and a loop of tools with OpenAI's client.
import type OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { type Any, eventsOf, PROMPT } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

const CHAT =
  '{% for m in messages %}<|{{ m.role }}|>{% if m.tool_calls %}{{ m.tool_calls[0].function | tojson }}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}<|assistant|>{% endif %}';
const { serve } = toyServers(() => makeToy(CHAT));

const schema = {
  type: 'object',
  properties: { side: { enum: ['left', 'right'] }, count: { type: 'integer' } },
  required: ['side', 'count'],
  additionalProperties: false,
};
const response_format = { type: 'json_schema' as const, json_schema: { name: 'a', schema } };
const user = { role: 'user' as const, content: 'Which way?' };

function expectFits(text: unknown): void {
  const value = JSON.parse(String(text));
  expect(Object.keys(value)).toEqual(['side', 'count']);
  expect(['left', 'right']).toContain(value.side);
  expect(Number.isInteger(value.count)).toBe(true);
}

describe('response_format', () => {
  test('each text fits its schema, whole and streamed, freely drawn or greedy', async () => {
    const { client, post, engine } = await serve();
    for (const temperature of [0, 1.5]) {
      const ask = { model: 'toy', prompt: PROMPT, max_tokens: 400, temperature, seed: 3, n: 3 };
      const whole = await client.completions.create({ ...ask, response_format } as Any);
      for (const choice of whole.choices) {
        expectFits(choice.text);
        expect(choice.finish_reason).toBe('stop');
      }
      const { events, done } = await eventsOf(
        await post('/v1/completions', { ...ask, response_format, stream: true }),
      );
      const texts = ['', '', ''];
      for (const { index, text } of events.flatMap((event) => event.choices)) texts[index] += text;
      expect([texts, done]).toEqual([whole.choices.map(({ text }) => text), true]);
    }
    expect(engine.sessions).toBe(0);
  });

  test('in a chat and in a response; log-probabilities are the model’s own', async () => {
    const { client } = await serve();
    const chat = await client.chat.completions.create({
      model: 'toy',
      messages: [user],
      max_tokens: 400,
      response_format,
      logprobs: true,
      top_logprobs: 2,
    });
    expectFits(chat.choices[0]?.message.content);
    const content = chat.choices[0]?.logprobs?.content ?? [];
    expect(content.length).toBeGreaterThan(15);
    for (const { logprob, top_logprobs } of content) {
      // The model's favourites, which the grammar may not allow.
      expect(logprob).toBeLessThanOrEqual((top_logprobs[0]?.logprob ?? 0) + 1e-6);
    }
    const response = await client.responses.create({
      model: 'toy',
      input: 'Which way?',
      max_output_tokens: 400,
      text: { format: { type: 'json_schema', name: 'a', schema } },
    });
    expectFits(response.output_text);
  });

  test('a text that is cut off says so, and is the beginning of one', async () => {
    const { client } = await serve();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 6, temperature: 0, response_format };
    const { choices } = await client.completions.create(ask as Any);
    expect(choices[0]?.finish_reason).toBe('length');
    expect(choices[0]?.text).toMatch(/^\{\s*"?s?i?d?e?/);
  });

  test.each([
    [
      { json_schema: { name: 'a', schema: { type: 'string', pattern: 'a' } } },
      {},
      'LS_FORM_SCHEMA',
    ],
    [{}, { ignore_eos: true }, 'LS_FORM_OPTIONS'],
    [{}, { min_tokens: 2 }, 'LS_FORM_OPTIONS'],
  ])('%j with %j is refused before it runs', async (format, more, code) => {
    const { post, engine } = await serve();
    const body = {
      prompt: 'a',
      max_tokens: 20,
      response_format: { ...response_format, ...format },
    };
    const response = await post('/v1/completions', { ...body, ...more });
    const { error } = (await response.json()) as Any;
    expect([response.status, error.code]).toEqual([400, code]);
    expect(engine.steps).toBe(0);
  });
});

describe('tools that must be called', () => {
  const city = {
    type: 'object',
    properties: { city: { $ref: '#/$defs/city' } },
    required: ['city'],
  };
  const tools: OpenAI.ChatCompletionTool[] = [
    {
      type: 'function',
      function: {
        name: 'weather',
        parameters: {
          ...city,
          additionalProperties: false,
          $defs: { city: { enum: ['Rome', 'Paris'] } },
        },
      },
    },
    {
      type: 'function',
      function: {
        name: 'time',
        parameters: { type: 'object', properties: {}, additionalProperties: false },
      },
    },
  ];
  const ask = { model: 'toy', messages: [user], tools, max_tokens: 400, seed: 1, temperature: 0.7 };

  test.each([
    ['required', 'required' as const, ['weather', 'time']],
    ['by name', { type: 'function' as const, function: { name: 'weather' } }, ['weather']],
  ])('%s: a loop with OpenAI’s client, whole and streamed', async (_, tool_choice, names) => {
    const { client } = await serve();
    const first = await client.chat.completions.create({
      ...ask,
      tool_choice,
      parallel_tool_calls: false,
    });
    const [choice] = first.choices;
    const calls = choice?.message.tool_calls ?? [];
    expect(calls).toHaveLength(1);
    const call = calls[0] as OpenAI.ChatCompletionMessageFunctionToolCall;
    expect(names).toContain(call.function.name);
    const given = JSON.parse(call.function.arguments);
    if (call.function.name === 'weather') expect(['Rome', 'Paris']).toContain(given.city);
    else expect(given).toEqual({});

    const stream = client.chat.completions.stream({
      ...ask,
      tool_choice,
      parallel_tool_calls: false,
    });
    const streamed = (await stream.finalChatCompletion()).choices[0]?.message
      .tool_calls?.[0] as Any;
    expect(streamed.function.name).toBe(call.function.name);
    expect(JSON.parse(streamed.function.arguments)).toEqual(given);

    const answer = await client.chat.completions.create({
      ...ask,
      max_tokens: 12,
      tool_choice: 'none',
      messages: [
        user,
        choice?.message as OpenAI.ChatCompletionMessageParam,
        { role: 'tool', tool_call_id: call.id, content: '21 °C' },
      ],
    });
    expect(answer.choices[0]?.message.content).toBeTypeOf('string');
    expect(answer.choices[0]?.message.tool_calls ?? []).toEqual([]);
  });
});
