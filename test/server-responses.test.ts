// `/v1/responses` with the official client: texts whole and streamed, conversations that come whole.
import { describe, expect, test } from 'vitest';
import { type Any, eventsOf, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';

const servers = toyServers();
const { serve } = servers;
const ask = { model: 'toy', input: 'Tell me of the sea.', max_output_tokens: 30, temperature: 0 };

describe('a response', () => {
  test('is the chat’s text, whole and streamed', async () => {
    const { client } = await serve();
    const whole = await client.responses.create({
      ...ask,
      instructions: 'Be brief.',
      metadata: { who: 'me' },
    });
    const chat = await client.chat.completions.create({
      model: 'toy',
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: ask.input },
      ],
      max_completion_tokens: 30,
      temperature: 0,
    });
    expect(whole.output_text).toBe(chat.choices[0]?.message.content);
    expect(whole).toMatchObject({
      object: 'response',
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      instructions: 'Be brief.',
      metadata: { who: 'me' },
      store: false,
      usage: {
        input_tokens: chat.usage?.prompt_tokens,
        output_tokens: 30,
        total_tokens: chat.usage?.total_tokens,
      },
    });
    const seen: Any[] = [];
    const stream = client.responses.stream({ ...ask, instructions: 'Be brief.' });
    for await (const event of stream) seen.push(event);
    const last = await stream.finalResponse();
    expect(last.output_text).toBe(whole.output_text);
    expect(last.usage).toEqual(whole.usage);
    expect(seen.map(({ sequence_number }) => sequence_number)).toEqual(seen.map((_, i) => i));
    const types = seen.map(({ type }) => type).filter((type, i, all) => type !== all[i - 1]);
    expect(types).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.incomplete',
    ]);
  });

  test('that ends by itself is completed', async () => {
    const { client } = await serve({ endAt: 60 });
    const answer = await client.responses.create({ ...ask, max_output_tokens: 60 });
    expect(answer).toMatchObject({ status: 'completed', incomplete_details: null });
  });

  test('goes back as it came, with calls and their results', async () => {
    const { client, post } = await serve();
    const first = await client.responses.create(ask);
    const input: Any[] = [
      { role: 'developer', content: [{ type: 'input_text', text: 'Be brief.' }] },
      { role: 'user', content: ask.input },
      ...first.output,
      { type: 'message', role: 'user', content: 'Go on.' },
    ];
    const second = await client.responses.create({ ...ask, input });
    const text = `<|system|>Be brief.<|end|><|user|>${ask.input}<|end|><|assistant|>${first.output_text}<|end|><|user|>Go on.<|end|><|assistant|>`;
    const { count } = (await (await post('/tokenize', { text })).json()) as Any;
    expect(second.usage?.input_tokens).toBe(count);
  });

  test('a step that fails in a stream is an error event, and nothing follows', async () => {
    const { post, engine } = await serve({ failAt: 40 });
    const response = await post('/v1/responses', { ...ask, stream: true });
    const { events, done } = await eventsOf(response);
    expect(events.at(-1)).toMatchObject({ type: 'error', code: 'LS_ENGINE_STEP' });
    expect(events.some(({ type }) => type === 'response.incomplete')).toBe(false);
    expect(done).toBe(false);
    await until(() => engine.sessions === 0);
  });
});

const pairs = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`key-${i}`, 'a']));

test('fields that are not supported are refused by name', async () => {
  const { post } = await serve();
  const cases: [body: object, param: string, code: string][] = [
    [{}, 'input', 'missing_parameter'],
    [{ input: [] }, 'input', 'invalid_value'],
    [{ input: [{ type: 'item_reference', id: 'a' }] }, 'input[0].type', 'invalid_value'],
    [{ input: [{ role: 'user', content: 5 }] }, 'input[0].content', 'invalid_value'],
    [
      { input: [{ role: 'user', content: [{ type: 'input_image' }] }] },
      'input[0].content[0].type',
      'invalid_value',
    ],
    [{ input: 'a', store: true }, 'store', 'invalid_value'],
    [{ input: 'a', previous_response_id: 'resp_1' }, 'previous_response_id', 'invalid_value'],
    [{ input: 'a', tools: [{ type: 'web_search' }] }, 'tools[0].type', 'invalid_value'],
    [{ input: 'a', reasoning: { effort: 'high' } }, 'reasoning.effort', 'invalid_type'],
    [{ input: 'a', max_output_tokens: 900 }, 'max_output_tokens', 'context_length_exceeded'],
    [{ input: 'a', beams: 2 }, 'beams', 'unknown_parameter'],
    [{ input: 'a', metadata: { a: 'x'.repeat(513) } }, 'metadata.a', 'invalid_value'],
    [{ input: 'a', metadata: { ['k'.repeat(65)]: 'a' } }, 'metadata', 'invalid_value'],
    [{ input: 'a', metadata: pairs(17) }, 'metadata', 'invalid_value'],
  ];
  const small = await serve({}, { maxTokens: 256 });
  for (const [body, param, code] of cases) {
    const response = await small.post('/v1/responses', body);
    const { error } = (await response.json()) as Any;
    expect([response.status, error.param, error.code], error.message).toEqual([400, param, code]);
  }
  const most = {
    input: 'a',
    max_output_tokens: 1,
    metadata: { ...pairs(15), ['k'.repeat(64)]: 'x'.repeat(512) },
  };
  expect((await post('/v1/responses', most)).status).toBe(200);
  const nothing = { input: 'a', max_output_tokens: 1, store: false, truncation: 'disabled' };
  const neutral = { ...nothing, include: [], previous_response_id: null, reasoning: {}, tools: [] };
  expect((await post('/v1/responses', neutral)).status).toBe(200);
});
