// What the reports sent, and what every engine makes of it: ids, ends, texts.
import { expect } from 'vitest';
import { reference } from '../clients/checks.ts';
import { type Any, eventsOf, type TestClient } from '../server-client.ts';
import { ends } from './checkpoint.ts';
import { templates } from './templates.ts';

interface Request {
  path: '/v1/chat/completions' | '/v1/completions';
  body: Any;
}

export interface Outcome {
  /** Of the prompt, as the engine was given them. */
  ids: number[];
  text: string;
  finish: string;
  /** Tokens of the answer. */
  tokens: number;
}

const LINE = 'The harbour was quiet that morning, and the boats lay still. ';
const user = { role: 'user', content: 'Which way is it?' };
const dumped = {
  content: 'Left.',
  refusal: null,
  role: 'assistant',
  annotations: null,
  audio: null,
  function_call: null,
  tool_calls: null,
};
const call = { id: 'a', type: 'function', function: { name: 'look', arguments: '{"far": 1}' } };
const tools = [{ type: 'function', function: { name: 'look', parameters: { type: 'object' } } }];

const text = (prompt: string, more: object = {}): Request => ({
  path: '/v1/completions',
  body: { prompt, max_tokens: 8, temperature: 0, ...more },
});
const chat = (messages: readonly object[], more: object = {}): Request => ({
  path: '/v1/chat/completions',
  body: { messages, max_tokens: 8, temperature: 0, ...more },
});

/** By the words of the reports' README. */
export const requests: Readonly<Record<string, Request>> = {
  'truncation: a long text': text(LINE.repeat(4)),
  'padding: a short text': text('Hi'),
  'an end of tokenizer_config alone': text(LINE, { logit_bias: { [ends.tokenizer]: 100 } }),
  'the end of config and generation_config': text(LINE, { logit_bias: { [ends.config]: 100 } }),
  'BOS of a chat': chat([user]),
  ...Object.fromEntries(
    Object.keys(templates).map((which) => [
      `template ${which}`,
      chat([user], { chat_template_kwargs: { which } }),
    ]),
  ),
  'the template tool_use': chat([user], { tools }),
  'a replayed answer': chat([user, dumped, user]),
  'tool_calls: []': chat([user, { ...dumped, tool_calls: [] }, user]),
  'role: tool with text parts': chat([
    user,
    { ...dumped, content: null, tool_calls: [call] },
    { role: 'tool', tool_call_id: 'a', content: [{ type: 'text', text: 'dry' }] },
  ]),
  'messages[].name': chat([{ ...user, name: 'Ada' }]),
  'role developer': chat([{ role: 'developer', content: 'Be brief.' }, user]),
  cache_control: chat([
    { role: 'user', content: [{ type: 'text', text: 'a', cache_control: { type: 'ephemeral' } }] },
  ]),
  'stream_options.include_obfuscation': chat([user], {
    stream_options: { include_obfuscation: true },
  }),
  'tool_choice: auto without tools': chat([user], { tool_choice: 'auto' }),
  'parallel_tool_calls: true without tools': chat([user], { parallel_tool_calls: true }),
  chat_template_kwargs: chat([user], { chat_template_kwargs: { enable_thinking: false } }),
};

/** Every request, through one server. */
export async function outcomes(server: TestClient): Promise<Record<string, Outcome>> {
  const all: Record<string, Outcome> = {};
  for (const [name, { path, body }] of Object.entries(requests)) {
    const response = await server.post(path, {
      ...body,
      stream: true,
      stream_options: { ...body.stream_options, include_usage: true },
      lockstep: { trace: true },
    });
    const { events, done } = await eventsOf(response.clone());
    expect([response.status, done], `${name}: ${await response.text()}`).toEqual([200, true]);
    const { prompt_tokens, completion_tokens } = events.at(-1).usage;
    const choices = events.flatMap(({ choices }) => choices);
    const ran = events.flatMap(({ lockstep }) => lockstep?.tokens.map(({ id }: Any) => id) ?? []);
    all[name] = {
      ids: ran.slice(0, prompt_tokens),
      text: choices.map((one) => one.text ?? one.delta.content ?? '').join(''),
      finish: choices.flatMap((one) => one.finish_reason ?? []).join(),
      tokens: completion_tokens,
    };
  }
  return all;
}

/** The ids are transformers', and the answers end where they should. */
export async function checkOutcomes(dir: string, all: Record<string, Outcome>): Promise<void> {
  const names = Object.keys(requests);
  expect(Object.keys(all)).toEqual(names);
  const asked = names.map((name) => ({ body: requests[name]?.body, message: {} }));
  const expected = await reference(dir, asked);
  for (const [i, name] of names.entries()) expect(all[name]?.ids, name).toEqual(expected[i]?.ids);
  expect(all['truncation: a long text']?.ids.length).toBeGreaterThan(200);
  expect(all['padding: a short text']?.ids).toHaveLength(3);
  for (const name of [
    'an end of tokenizer_config alone',
    'the end of config and generation_config',
  ]) {
    expect(all[name], name).toMatchObject({ text: '', finish: 'stop', tokens: 1 });
  }
  for (const name of ['truncation: a long text', 'BOS of a chat']) {
    expect(
      all[name]?.ids.filter((id) => id === ends.config),
      name,
    ).toEqual([ends.config]);
  }
}

/** `logprobs: 1` holds the token that was drawn, be it the best or not. */
export async function checkDrawn(server: TestClient): Promise<void> {
  const response = await server.post('/v1/completions', {
    prompt: LINE,
    max_tokens: 40,
    temperature: 2,
    seed: 3,
    logprobs: 1,
    ignore_eos: true,
  });
  const { choices } = (await response.json()) as Any;
  const { tokens, token_logprobs: drawn, top_logprobs: top } = choices[0].logprobs;
  expect(tokens).toHaveLength(40);
  for (const [i, token] of tokens.entries()) expect(top[i][token]).toBe(drawn[i]);
  expect(top.some((one: object) => Object.keys(one).length === 2)).toBe(true);
}
