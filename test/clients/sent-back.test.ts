// Answers as client libraries write them out: what is null or parsed says nothing, anything else is refused.
import { describe, expect, test } from 'vitest';
import type { Any } from '../server-client.ts';
import { toyServers } from '../server-fixture.ts';
import { makeToy } from '../server-toy.ts';

const CHAT =
  '{% for m in messages %}<{{ m }}>{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}';
const { serve } = toyServers(() => makeToy(CHAT));

const user = { role: 'user', content: 'Hi' };
const said = { role: 'assistant', content: 'Yes.' };
const calls = (more: object, own: object = {}) => [
  { id: 'a', type: 'function', function: { name: 'f', arguments: '{}', ...own }, ...more },
];
const called = (more: object = {}, own: object = {}) => ({
  role: 'assistant',
  content: null,
  tool_calls: calls(more, own),
});
const item = { type: 'function_call', call_id: 'a', name: 'f', arguments: '{}' };
const message = { type: 'message', role: 'assistant', content: 'Yes.' };

describe('chat', () => {
  const ask = async (answer: object): Promise<Any> => {
    const { post } = await serve();
    const body = { messages: [user, answer, user], max_tokens: 1, temperature: 0 };
    const response = await post('/v1/chat/completions', body);
    return response.json();
  };

  test.each([
    [said, { ...said, parsed: null, refusal: null, of_a_later_version: null }],
    [said, { ...said, parsed: { answer: 'Yes.' } }],
    [called(), called({ index: 0, later: null }, { parsed_arguments: null, later: null })],
    [called(), called({}, { parsed_arguments: { far: 1 } })],
  ])('%j is the prompt of %j', async (plain, written) => {
    const [expected, got] = [await ask(plain), await ask(written)];
    expect(expected.usage.prompt_tokens).toBeGreaterThan(20);
    expect(got.usage).toEqual(expected.usage);
    expect(got.choices[0].message).toEqual(expected.choices[0].message);
  });

  test.each([
    [{ ...said, of_a_later_version: 1 }, 'messages[1].of_a_later_version'],
    [{ ...said, refusal: 'No.' }, 'messages[1].refusal'],
    [{ ...said, content: null }, 'messages[1].content'],
    [called({ later: 1 }), 'messages[1].tool_calls[0].later'],
    [called({}, { later: 1 }), 'messages[1].tool_calls[0].function.later'],
    [called({}, { name: null }), 'messages[1].tool_calls[0].function.name'],
    [{ ...user, later: null }, 'messages[1].later'],
  ])('%j is refused by name', async (answer, param) => {
    const { error } = await ask(answer);
    expect(error?.param).toBe(param);
  });
});

describe('responses', () => {
  const ask = async (answer: object): Promise<Any> => {
    const { post } = await serve();
    const input = [user, answer, user];
    const body = { input, max_output_tokens: 1, temperature: 0 };
    const response = await post('/v1/responses', body);
    return response.json();
  };

  test.each([
    [message, { ...message, id: 'msg_1', status: 'completed', phase: null }],
    [item, { ...item, id: 'fc_1', status: null, async_: null, caller: null, namespace: null }],
    [item, { ...item, parsed_arguments: { far: 1 } }],
  ])('%j is the prompt of %j', async (plain, written) => {
    const [expected, got] = [await ask(plain), await ask(written)];
    expect(expected.usage.input_tokens).toBeGreaterThan(20);
    expect(got.usage).toEqual(expected.usage);
  });

  test.each([
    [{ ...message, phase: 'commentary' }, 'input[1].phase'],
    [{ ...item, namespace: 'b' }, 'input[1].namespace'],
  ])('%j is refused by name', async (answer, param) => {
    const { error } = await ask(answer);
    expect(error?.param).toBe(param);
  });
});
