// Calls of tools through the relay, in the way of Mistral's models: a call is made of special tokens,
// and the template looks at the ids of earlier ones.
import type OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { type Any, eventsOf } from './server-client.ts';
import { makeToy, SPECIALS } from './server-toy.ts';
import { fakeVllms } from './vllm-fixture.ts';

const CHAT = `{%- for message in messages -%}
{%- if message.role == 'user' -%}
  {%- if tools and loop.last -%}{{ '[AVAILABLE_TOOLS] ' + tools|tojson }}{%- endif -%}
  {{ '[INST] ' + message.content }}
{%- elif message.tool_calls is defined and message.tool_calls is not none -%}
  {%- for call in message.tool_calls -%}
    {%- if call.id|length != 9 -%}{{ raise_exception('an id has 9 characters') }}{%- endif -%}
    {%- set out = call.function|tojson -%}
    {{ '[TOOL_CALLS] [' + out[:-1] + ', "id": "' + call.id + '"}]' + eos_token }}
  {%- endfor -%}
{%- elif message.role == 'tool' -%}
  {{ '[TOOL_RESULTS] {"content": ' + message.content|string + ', "call_id": "' + message.tool_call_id + '"}' }}
{%- endif -%}
{%- endfor -%}`;
const MORE = ['[TOOL_CALLS]', '[ARGS]', '[INST]'];
const ID = Object.fromEntries(MORE.map((text, i) => [text, 256 + SPECIALS.length + i]));

const tools: OpenAI.ChatCompletionTool[] = [
  { type: 'function', function: { name: 'weather', parameters: { type: 'object' } } },
];
const user = { role: 'user' as const, content: 'Rain?' };

const mistral = fakeVllms(() => makeToy(CHAT, MORE));
const plain = fakeVllms();
const { served } = mistral;

/** Let the model write this, and nothing else; special tokens are written by their names. */
function writes(text: string): object {
  const pieces = text.split(/(\[[A-Z_]+\])/).filter(Boolean);
  const token_ids = pieces.flatMap((piece) => ID[piece] ?? [...Buffer.from(piece)]);
  return { kind: 'tokens', token_ids };
}

describe('calls in the way of Mistral', () => {
  test.each([
    ['a list', '[TOOL_CALLS] [{"name": "weather", "arguments": {"city":"Rome"}}]'],
    ['name and arguments', '[TOOL_CALLS]weather[ARGS]{"city":"Rome"}'],
  ])('%s, whole and streamed', async (_, text) => {
    const { client, post, fake } = await served();
    await fake.fault(writes(text));
    const ask = { model: 'toy', messages: [user], tools };
    const { choices } = await client.chat.completions.create(ask);
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: {
        content: null,
        tool_calls: [{ function: { name: 'weather', arguments: '{"city":"Rome"}' } }],
      },
    });
    await fake.fault(writes(text));
    const response = await post('/v1/chat/completions', { ...ask, stream: true });
    const { events, done } = await eventsOf(response);
    expect(done).toBe(true);
    const deltas = events.map((event) => event.choices[0].delta);
    expect(deltas.map((delta) => delta.content ?? '').join('')).toBe('');
    expect(deltas.flatMap((delta) => delta.tool_calls ?? [])).toMatchObject([
      { index: 0, function: { name: 'weather', arguments: '{"city":"Rome"}' } },
    ]);
    expect(events.at(-1).choices[0].finish_reason).toBe('tool_calls');
  });

  test('a call goes back into the conversation as the template wants it', async () => {
    const { client, fake } = await served();
    await fake.fault(writes('[TOOL_CALLS]weather[ARGS]{"city":"Rome"}'));
    const ask = { model: 'toy', messages: [user], tools };
    const { message } = (await client.chat.completions.create(ask)).choices[0] as Any;
    const result = {
      role: 'tool' as const,
      content: '"dry"',
      tool_call_id: message.tool_calls[0].id,
    };
    await fake.fault(writes('It is dry.'));
    const second = await client.chat.completions.create({
      ...ask,
      messages: [user, message, result],
    });
    expect(second.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: 'It is dry.' },
    });
    const shown = mistral.toy.tokenizer.decode((await fake.seen()).bodies[1].prompt, {
      skipSpecial: false,
    });
    const { id } = message.tool_calls[0];
    expect(shown).toContain(
      `[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}, "id": "${id}"}]<|end|>`,
    );
    expect(shown).toContain(`{"content": "dry", "call_id": "${id}"}`);
  });

  test('an id that the template refuses is a 400 with its words', async () => {
    const { post } = await served();
    const call = { id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{}' } };
    const messages = [user, { role: 'assistant', tool_calls: [call] }];
    const response = await post('/v1/chat/completions', { messages, tools });
    const { error } = (await response.json()) as Any;
    expect([response.status, error.param]).toEqual([400, 'messages']);
    expect(error.message).toContain('an id has 9 characters');
  });

  test('/v1/responses: a loop of two turns, whole and streamed', async () => {
    const { client, fake } = await served();
    const functions: OpenAI.Responses.FunctionTool[] = [
      { type: 'function', name: 'weather', parameters: { type: 'object' }, strict: null },
    ];
    const ask = { model: 'toy', tools: functions };
    const input: Any[] = [{ role: 'user', content: 'Rain?' }];
    const text = 'Let me see.[TOOL_CALLS]weather[ARGS]{"city":"Rome"}';
    await fake.fault(writes(text));
    const whole = await client.responses.create({ ...ask, input });
    await fake.fault(writes(text));
    const streamed = await client.responses.stream({ ...ask, input }).finalResponse();
    for (const { status, output } of [whole, streamed]) {
      expect(status).toBe('completed');
      expect(output).toMatchObject([
        { type: 'message', content: [{ type: 'output_text', text: 'Let me see.' }] },
        { type: 'function_call', name: 'weather', arguments: '{"city":"Rome"}' },
      ]);
    }
    const call = whole.output[1] as OpenAI.Responses.ResponseFunctionToolCall;
    const result = { type: 'function_call_output', call_id: call.call_id, output: '"dry"' };
    await fake.fault(writes('It is dry.'));
    const second = await client.responses.create({
      ...ask,
      input: [...input, ...whole.output, result],
    });
    expect(second.output_text).toBe('It is dry.');
    const prompt = (await fake.seen()).bodies[2].prompt;
    const shown = mistral.toy.tokenizer.decode(prompt, { skipSpecial: false });
    expect(shown).toContain(`"arguments": {"city": "Rome"}, "id": "${call.call_id}"}]<|end|>`);
    expect(shown).toContain(`{"content": "dry", "call_id": "${call.call_id}"}`);
  });

  test('no more than one call where no more may come', async () => {
    const { client, fake } = await served();
    await fake.fault(writes('[TOOL_CALLS]weather[ARGS]{}[TOOL_CALLS]weather[ARGS]{}'));
    const ask = { model: 'toy', messages: [user], tools, parallel_tool_calls: false };
    const { choices } = await client.chat.completions.create(ask);
    expect(choices[0]?.message.tool_calls).toHaveLength(1);
  });

  test.each([{ tool_choice: 'required' }, { parallel_tool_calls: false }])(
    '%o without tools is a 400',
    async (field) => {
      const { post } = await served();
      const response = await post('/v1/chat/completions', { messages: [user], ...field });
      const { error } = (await response.json()) as Any;
      expect([response.status, error.param]).toEqual([400, Object.keys(field)[0]]);
    },
  );

  test('without tools, special tokens stay out of the text', async () => {
    const { client, fake } = await served();
    await fake.fault(writes('a[TOOL_CALLS]b'));
    const { choices } = await client.chat.completions.create({ model: 'toy', messages: [user] });
    expect(choices[0]?.message.content).toBe('ab');
  });
});

test('a template that shows no tools is no place for them', async () => {
  const { post, fake } = await plain.served();
  const response = await post('/v1/chat/completions', { messages: [user], tools });
  const { error } = (await response.json()) as Any;
  expect([response.status, error.param, error.code]).toEqual([400, 'tools', 'invalid_value']);
  expect((await fake.seen()).paths['/v1/completions']).toBeUndefined();
});
