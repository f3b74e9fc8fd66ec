// Messages as clients send them: what is neutral is taken, what a template looks at reaches it.
import { rmSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { createServer } from '../src/server/index.ts';
import { type Any, clientOf, eventsOf } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy, type Toy, ToyEngine } from './server-toy.ts';

/** Writes out whatever it is shown, so that the prompt's text tells. */
const SHOWS =
  '{% for m in messages %}<{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}>{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% endif %}{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{% endfor %}{% if enable_thinking is defined and not enable_thinking %}<no thinking>{% endif %}{% if tools %}<{{ tools[0].function.name }}>{% endif %}';
const KNOWS_DEVELOPERS = `{# developer #}${SHOWS}`;

const servers = toyServers();
const toys: Toy[] = [];
afterAll(() => {
  for (const { dir } of toys) rmSync(dir, { recursive: true, force: true });
});

/** A server whose chat template shows what it is given, and what a request made of it. */
async function serveShowing(template = SHOWS) {
  const toy = await makeToy(template);
  toys.push(toy);
  const { tokenizer, files: contract } = toy;
  const prompts: string[] = [];
  const engine = new ToyEngine(toy);
  const open = engine.open.bind(engine);
  engine.open = async () => {
    const session = await open();
    const step = session.step.bind(session);
    let text = '';
    session.step = async (tokens, options) => {
      text += tokenizer.decode(tokens, { skipSpecial: false });
      if (options.rows === 'last') prompts.push(text);
      return step(tokens, options);
    };
    return session;
  };
  const server = servers.own(
    createServer({ engine, tokenizer, contract, options: { model: 'toy', maxTokens: 4096 } }),
  );
  const { url, port } = await server.listen(0);
  return { prompts, ...clientOf(url, port) };
}

const user = { role: 'user' as const, content: 'Hi' };
const ask = { model: 'toy', max_tokens: 1, temperature: 0 };

describe('a replayed answer', () => {
  test('of the openai client goes back as it came', async () => {
    const { client, prompts } = await serveShowing();
    const first = await client.chat.completions.create({ ...ask, messages: [user] });
    const answer = first.choices[0]?.message as Any;
    await client.chat.completions.create({ ...ask, messages: [user, answer, user] });
    expect(prompts.at(-1)).toBe(`<user>Hi<assistant>${answer.content}<user>Hi`);
  });

  test('as the Python client writes it out: what was not in it is null', async () => {
    const { client, prompts } = await serveShowing();
    const dumped: Any = {
      content: 'Yes.',
      refusal: null,
      role: 'assistant',
      annotations: null,
      audio: null,
      function_call: null,
      tool_calls: null,
    };
    for (const more of [{}, { tool_calls: [] }, { annotations: [] }, { name: null }]) {
      const messages = [user, { ...dumped, ...more }, user];
      await client.chat.completions.create({ ...ask, messages });
      expect(prompts.at(-1)).toBe('<user>Hi<assistant>Yes.<user>Hi');
    }
  });

  test('with a call, its result in text parts, and what the model thought', async () => {
    const { client, prompts } = await serveShowing();
    const call = { id: 'a', type: 'function', function: { name: 'look', arguments: '{}' } };
    const parts = [
      { type: 'text', text: 'dry', cache_control: { type: 'ephemeral' } },
      { type: 'text', text: ' and warm' },
    ];
    const messages: Any = [
      user,
      { role: 'assistant', content: null, tool_calls: [call], reasoning_content: 'hm' },
      { role: 'tool', tool_call_id: 'a', content: parts },
    ];
    await client.chat.completions.create({ ...ask, messages });
    expect(prompts.at(-1)).toBe('<user>Hi<assistant>look(hm)<tool>dry and warm');
  });
});

describe('who speaks', () => {
  test('names reach the template', async () => {
    const { client, prompts } = await serveShowing();
    await client.chat.completions.create({ ...ask, messages: [{ ...user, name: 'Ada' }] });
    expect(prompts.at(-1)).toBe('<user Ada>Hi');
  });

  test('a developer is the system to a template that knows none', async () => {
    const messages = [{ role: 'developer' as const, content: 'Be brief.' }, user];
    for (const [template, role] of [
      [SHOWS, 'system'],
      [KNOWS_DEVELOPERS, 'developer'],
    ] as const) {
      const { client, prompts } = await serveShowing(template);
      await client.chat.completions.create({ ...ask, messages });
      expect(prompts.at(-1)).toBe(`<${role}>Be brief.<user>Hi`);
    }
  });
});

describe('fields that ask for nothing, and fields for the template', () => {
  test.each([
    { tool_choice: 'auto' },
    { tool_choice: 'none' },
    { parallel_tool_calls: true },
    { tools: [] },
    { prompt_cache_key: 'a', safety_identifier: 'b', user: 'c' },
    { function_call: 'auto' },
    { response_format: { type: 'text' } },
    { logit_bias: {} },
    { stream: false, stream_options: null },
  ])('%o', async (field) => {
    const { post, prompts } = await serveShowing();
    const body = { ...ask, messages: [user], ...field };
    const response = await post('/v1/chat/completions', body);
    expect([response.status, prompts.at(-1)]).toEqual([200, '<user>Hi']);
  });

  test('a stream without padding, whatever is said of it', async () => {
    const { post } = await serveShowing();
    for (const include_obfuscation of [true, false]) {
      const response = await post('/v1/chat/completions', {
        ...ask,
        messages: [user],
        stream: true,
        stream_options: { include_obfuscation, include_usage: true },
      });
      const { events, done } = await eventsOf(response);
      expect([response.status, done]).toEqual([200, true]);
      expect(events.at(-1).usage.completion_tokens).toBe(1);
      expect(events.some((event) => 'obfuscation' in event)).toBe(false);
    }
  });

  test('chat_template_kwargs are variables of the template', async () => {
    const { post, prompts } = await serveShowing();
    for (const [thinking, shown] of [
      [false, '<user>Hi<no thinking>'],
      [true, '<user>Hi'],
    ] as const) {
      const response = await post('/v1/chat/completions', {
        ...ask,
        messages: [user],
        chat_template_kwargs: { enable_thinking: thinking, other: { a: [1] } },
      });
      expect([response.status, prompts.at(-1)]).toEqual([200, shown]);
    }
  });

  test('tools are shown to the template, and an answer without a call is a text', async () => {
    const { client, prompts } = await serveShowing();
    const tools = [{ type: 'function' as const, function: { name: 'look' } }];
    const answer = await client.chat.completions.create({ ...ask, messages: [user], tools });
    expect(prompts.at(-1)).toBe('<user>Hi<look>');
    expect(answer.choices[0]?.finish_reason).toBe('length');
  });
});

describe('what the template is shown of tools and kwargs', () => {
  const SHOWS_TOOLS =
    '{{ tools | tojson }}{{ limit }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}';
  // JavaScript would read 1.0 as 1, round the long number, and put the key 2 first.
  const parameters =
    '{"type":"object","properties":{"b":{"maximum":1.0},"2":{"const":2512292042121000001}}}';
  const kwargs = '"chat_template_kwargs":{"limit":2.50}';
  const shown =
    '[{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"b": {"maximum": 1.0}, "2": {"const": 2512292042121000001}}}}}]2.5';
  const chat = (messages: string) =>
    `{"messages":${messages},"max_tokens":1,"temperature":0,${kwargs},"tools":[{"type":"function","function":{"name":"look","parameters":${parameters}}}],"lockstep":{"sources":true}}`;

  test('is exact, in chat and in responses alike', async () => {
    const { post, prompts } = await serveShowing(SHOWS_TOOLS);
    const response = `{"input":"Hi","max_output_tokens":1,"temperature":0,${kwargs},"tools":[{"type":"function","name":"look","parameters":${parameters}}]}`;
    for (const [path, body] of [
      ['/v1/chat/completions', chat('[{"role":"user","content":"Hi"}]')],
      ['/v1/responses', response],
    ] as const) {
      const answer = await post(path, body);
      expect([answer.status, prompts.at(-1)]).toEqual([200, `${shown}<user>Hi</>`]);
    }
  });

  test('variables that the server sets are no kwargs of responses either', async () => {
    const { post } = await serveShowing();
    const chat_template_kwargs = { tools: [] };
    const answer = await post('/v1/responses', { input: 'Hi', chat_template_kwargs });
    const { error } = (await answer.json()) as Any;
    expect([answer.status, error.param]).toEqual([400, 'chat_template_kwargs.tools']);
  });
});

test('logprobs hold the token that was drawn, be it the best or not', async () => {
  const { client } = await serveShowing();
  const { choices } = await client.completions.create({
    model: 'toy',
    prompt: 'It was a dark and stormy night.',
    max_tokens: 60,
    temperature: 2,
    seed: 3,
    logprobs: 1,
  });
  const { tokens, token_logprobs: own, top_logprobs: top } = (choices[0] as Any).logprobs;
  let others = 0;
  tokens.forEach((token: string, i: number) => {
    expect(top[i][token]).toBe(own[i]);
    if (Object.keys(top[i]).length === 2) others += 1;
  });
  expect(others).toBeGreaterThan(0);
});
