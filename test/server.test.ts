// The HTTP interface over real sockets, in front of a toy engine that can be made to fail.
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import OpenAI from 'openai';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createServer, type LockstepServer, type ServerOptions } from '../src/server/index.ts';
import { makeToy, type Toy, ToyEngine, type ToyFaults } from './server-toy.ts';

let toy: Toy;
const open: LockstepServer[] = [];

beforeAll(async () => {
  toy = await makeToy();
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});
afterAll(async () => {
  await rm(toy.dir, { recursive: true, force: true });
});

async function serve(faults: ToyFaults = {}, options: ServerOptions = {}) {
  const engine = new ToyEngine(toy, faults);
  const server = createServer({
    engine,
    tokenizer: toy.tokenizer,
    contract: toy.files,
    options: { model: 'toy', drainMs: 500, ...options },
  });
  open.push(server);
  const { url, port } = await server.listen(0);
  const post = (path: string, body: unknown, init: RequestInit = {}) =>
    fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...init,
    });
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  return { engine, server, url, port, post, client };
}

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely here
type Any = any;

/** All events of a stream, as a real SSE parser reads them. */
async function eventsOf(response: Response): Promise<{ events: Any[]; done: boolean }> {
  const events: Any[] = [];
  let done = false;
  const parser = createParser({
    onEvent: ({ data }: EventSourceMessage) => {
      if (data === '[DONE]') done = true;
      else events.push(JSON.parse(data));
    },
  });
  const decoder = new TextDecoder();
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    parser.feed(decoder.decode(chunk, { stream: true }));
  }
  return { events, done };
}

async function until(test: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !test(); i++) await sleep(10);
  expect(test()).toBe(true);
}

const PROMPT = 'It was a dark and stormy night. The rain fell in torrents, except at times.';

describe('completions', () => {
  test('the openai client gets the same text whole and streamed', async () => {
    const { client, engine } = await serve();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 100, temperature: 0 };
    const whole = await client.completions.create(ask);
    let text = '';
    let usage: Any = null;
    let finish: Any = null;
    const stream = await client.completions.create({
      ...ask,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(whole.choices[0]?.text);
    expect(text).toHaveLength(100);
    expect(finish).toBe('length');
    expect(usage).toEqual(whole.usage);
    expect(usage).toEqual({
      prompt_tokens: PROMPT.length,
      completion_tokens: 100,
      total_tokens: PROMPT.length + 100,
    });
    expect(whole.object).toBe('text_completion');
    expect(engine.sessions).toBe(0);
  });

  test('token ids give what their text gives', async () => {
    const { client, post } = await serve();
    const { tokens } = (await (await post('/tokenize', { text: PROMPT })).json()) as Any;
    const ask = { model: 'toy', max_tokens: 20, temperature: 0 };
    const text = await client.completions.create({ ...ask, prompt: PROMPT });
    const ids = await client.completions.create({ ...ask, prompt: tokens });
    const listed = await client.completions.create({ ...ask, prompt: [tokens] as Any });
    expect(ids.choices[0]?.text).toBe(text.choices[0]?.text);
    expect(listed.choices[0]?.text).toBe(text.choices[0]?.text);
  });

  test('a seed repeats itself, another differs', async () => {
    const { client } = await serve();
    const ask = (seed: number) =>
      client.completions
        .create({ model: 'toy', prompt: PROMPT, max_tokens: 60, temperature: 1.5, seed })
        .then((answer) => answer.choices[0]?.text);
    expect(await ask(7)).toBe(await ask(7));
    expect(await ask(7)).not.toBe(await ask(8));
  });

  test('a stop string ends the text before itself, in a stream too', async () => {
    const { client } = await serve();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 60, temperature: 0 };
    const all = (await client.completions.create(ask)).choices[0]?.text as string;
    const stop = all.slice(20, 23);
    const cut = all.slice(0, all.indexOf(stop));
    const whole = await client.completions.create({ ...ask, stop });
    expect(whole.choices[0]).toMatchObject({ text: cut, finish_reason: 'stop' });
    let text = '';
    for await (const chunk of await client.completions.create({
      ...ask,
      stop: ['~', stop],
      stream: true,
    })) {
      text += chunk.choices[0]?.text ?? '';
    }
    expect(text).toBe(cut);
  });

  test('logprobs are logarithms of probabilities, the best first', async () => {
    const { client } = await serve();
    const answer = await client.completions.create({
      model: 'toy',
      prompt: PROMPT,
      max_tokens: 5,
      temperature: 0,
      logprobs: 3,
    });
    const logprobs = answer.choices[0]?.logprobs as Any;
    expect(logprobs.tokens).toHaveLength(5);
    expect(logprobs.tokens.join('')).toBe(answer.choices[0]?.text);
    expect(logprobs.text_offset).toEqual([0, 1, 2, 3, 4]);
    logprobs.top_logprobs.forEach((top: Record<string, number>, i: number) => {
      expect(Object.keys(top)).toHaveLength(3);
      expect(Object.values(top)[0]).toBe(logprobs.token_logprobs[i]);
      expect(Object.values(top).reduce((sum, value) => sum + Math.exp(value), 0)).toBeLessThan(1);
      expect(logprobs.token_logprobs[i]).toBeLessThan(0);
    });
  });
});

describe('chat', () => {
  const messages = [{ role: 'user' as const, content: 'Tell me of the sea.' }];

  test('the openai client gets role, deltas, finish reason, usage and logprobs', async () => {
    const { client } = await serve({ endAt: 60 });
    const ask = {
      model: 'toy',
      messages,
      temperature: 0,
      logprobs: true,
      top_logprobs: 2,
      max_completion_tokens: 100,
    };
    const whole = await client.chat.completions.create(ask);
    const message = whole.choices[0]?.message;
    expect(message?.role).toBe('assistant');
    expect(whole.choices[0]?.finish_reason).toBe('stop');
    expect(message?.content).not.toContain('<|end|>');
    const content = whole.choices[0]?.logprobs?.content ?? [];
    expect(content).toHaveLength(whole.usage?.completion_tokens ?? 0);
    expect(content[0]?.top_logprobs).toHaveLength(2);
    expect(content[0]?.bytes).toEqual([...Buffer.from(content[0]?.token ?? '')]);

    const seen: Any[] = [];
    const stream = await client.chat.completions.create({
      ...ask,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) seen.push(chunk);
    expect(seen[0].choices[0].delta).toMatchObject({ role: 'assistant', content: '' });
    expect(seen.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(
      message?.content,
    );
    expect(seen.at(-2).choices[0].finish_reason).toBe('stop');
    expect(seen.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
    expect(new Set(seen.map((chunk) => chunk.id)).size).toBe(1);
    expect(seen.every((chunk) => chunk.object === 'chat.completion.chunk')).toBe(true);
  });

  test("the prompt is the model's own template", async () => {
    const { client, post } = await serve();
    const answer = await client.chat.completions.create({ model: 'toy', messages, max_tokens: 1 });
    const text = '<|user|>Tell me of the sea.<|end|><|assistant|>';
    const { count } = (await (await post('/tokenize', { text })).json()) as Any;
    expect(answer.usage?.prompt_tokens).toBe(count);
  });

  test('without a template it says so and names the field', async () => {
    const engine = new ToyEngine(toy);
    const tokenizer = Object.create(toy.tokenizer, {
      chatTemplate: { value: null },
    }) as Toy['tokenizer'];
    const server = createServer({ engine, tokenizer, contract: toy.files });
    open.push(server);
    const { url } = await server.listen(0);
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
    const error = await client.chat.completions
      .create({ model: 'lockstep', messages })
      .catch((caught) => caught);
    expect(error.status).toBe(400);
    expect(error.code).toBe('chat_template_missing');
    expect(error.param).toBe('messages');
  });
});

describe('traces and plans', () => {
  test('a traced stream tells the cuts that the plan of the same tokens has', async () => {
    const { post } = await serve();
    const response = await post('/v1/completions', {
      prompt: PROMPT.repeat(3),
      max_tokens: 80,
      temperature: 0,
      stream: true,
      lockstep: { trace: true },
    });
    const { events, done } = await eventsOf(response);
    expect(done).toBe(true);
    const traces = events.map((event) => event.lockstep).filter(Boolean);
    const text = traces.flatMap((trace) => trace.tokens.map((token: Any) => token.text)).join('');
    const cuts = traces.map((trace) => trace.cut).filter((cut) => cut !== null);
    const plan = (await (await post('/lockstep/plan', { text })).json()) as Any;
    expect(cuts).toEqual(plan.boundaries);
    expect(cuts.length).toBeGreaterThan(3);
    expect(traces.at(-1).position).toBe(plan.tokens.length);
    const boundary = traces.find((trace) => trace.cut !== null && trace.cut > 60);
    expect(boundary.retrieved.map((one: Any) => one.layer)).toEqual([1, 2]);
    for (const { heads } of boundary.retrieved) {
      for (const { head, spans } of heads) {
        expect(head).toBe(1);
        let rows = 0;
        for (const [from, to] of spans) {
          expect(from).toBeGreaterThanOrEqual(4);
          expect(to).toBeLessThanOrEqual(boundary.cut);
          rows += to - from;
        }
        expect(rows).toBe(8);
      }
    }
    expect(boundary.memory.total).toBeLessThan(boundary.memory.fullAttention);
    // Chunks that carry a trace alone have no choices; the text is that of the choices.
    const written = events.map((event) => event.choices[0]?.text ?? '').join('');
    expect((PROMPT.repeat(3) + written).startsWith(text)).toBe(true);
  });

  test('a plan tiles the text exactly, whatever it is', async () => {
    const { post } = await serve();
    for (const text of [
      '',
      'a',
      PROMPT,
      'été ☃ 𝒳. '.repeat(20),
      '<|user|>hi.<|end|>',
      '\u0000\r\n',
    ]) {
      const plan = (await (await post('/lockstep/plan', { text })).json()) as Any;
      expect(plan.texts.join('')).toBe(text);
      expect(plan.segments.map((segment: Any) => segment.text).join('')).toBe(text);
      expect(
        plan.segments.filter((segment: Any) => segment.closed).map((segment: Any) => segment.end),
      ).toEqual(plan.boundaries);
      const { text: back } = (await (
        await post('/detokenize', { tokens: plan.tokens })
      ).json()) as Any;
      expect(back).toBe(text);
    }
  });

  test('the contract in short, without its tables', async () => {
    const { url } = await serve();
    const summary = (await (await fetch(`${url}/lockstep/contract`)).json()) as Any;
    expect(summary).toMatchObject({
      name: 'toy',
      digest: toy.files.contract.digest,
      segment: { min: 16, max: 64 },
      carry: { size: 24, sinks: 4 },
      trained: null,
    });
    expect(summary.tables).toBeUndefined();
    expect(summary.golden).toBeUndefined();
  });
});

describe('bad requests', () => {
  const hi = [{ role: 'user', content: 'a' }];
  /** By endpoint: a body, the field to be named, the code. Texts are sent as they stand. */
  const cases: Record<string, [body: unknown, param: string | null, code: string][]> = {
    '/v1/completions': [
      [{}, 'prompt', 'missing_parameter'],
      [{ prompt: null }, 'prompt', 'invalid_value'],
      [{ prompt: '' }, 'prompt', 'invalid_value'],
      [{ prompt: ['a', 'b'] }, 'prompt', 'invalid_value'],
      [{ prompt: [1, 'x'] }, 'prompt[1]', 'invalid_value'],
      [{ prompt: [1, 2, 999] }, 'prompt[2]', 'invalid_value'],
      [{ prompt: [-1] }, 'prompt[0]', 'invalid_value'],
      ['{"prompt":"\\ud83d"}', 'prompt', 'invalid_value'],
      [{ prompt: 'a', beams: 4 }, 'beams', 'unknown_parameter'],
      ['{"prompt":"a","__proto__":{"n":2}}', '__proto__', 'unknown_parameter'],
      [{ prompt: 'a', temperature: 3 }, 'temperature', 'invalid_value'],
      ['{"prompt":"a","temperature":1e999}', 'temperature', 'invalid_type'],
      [{ prompt: 'a', top_p: '1' }, 'top_p', 'invalid_type'],
      [{ prompt: 'a', top_p: 0 }, 'top_p', 'invalid_value'],
      [{ prompt: 'a', max_tokens: 0 }, 'max_tokens', 'invalid_value'],
      [{ prompt: 'a', max_tokens: 1.5 }, 'max_tokens', 'invalid_type'],
      [{ prompt: 'a', stop: ['1', '2', '3', '4', '5'] }, 'stop', 'invalid_value'],
      [{ prompt: 'a', stop: [''] }, 'stop', 'invalid_value'],
      [{ prompt: 'a', seed: 'x' }, 'seed', 'invalid_type'],
      [{ prompt: 'a', logprobs: 21 }, 'logprobs', 'invalid_value'],
      [{ prompt: 'a', n: 2 }, 'n', 'unsupported_parameter'],
      [{ prompt: 'a', echo: true }, 'echo', 'unsupported_parameter'],
      [{ prompt: 'a', suffix: 'b' }, 'suffix', 'unsupported_parameter'],
      [{ prompt: 'a', logit_bias: { 5: 1 } }, 'logit_bias', 'unsupported_parameter'],
      [{ prompt: 'a', presence_penalty: 1 }, 'presence_penalty', 'unsupported_parameter'],
      [{ prompt: 'a', model: 'gpt-9' }, 'model', 'model_not_found'],
      [{ prompt: 'a', stream_options: {} }, 'stream_options', 'invalid_value'],
      [{ prompt: 'a', lockstep: { trace: true } }, 'lockstep.trace', 'invalid_value'],
      [{ prompt: 'a', lockstep: { x: 1 } }, 'lockstep.x', 'unknown_parameter'],
      [{ prompt: 'a'.repeat(300) }, 'prompt', 'context_length_exceeded'],
      [{ prompt: 'a', max_tokens: 300 }, 'max_tokens', 'context_length_exceeded'],
      ['{"prompt": "a"', null, 'invalid_json'],
      ['"a"', null, 'invalid_json'],
      ['[]', null, 'invalid_type'],
      ['', 'prompt', 'missing_parameter'],
    ],
    '/v1/chat/completions': [
      [{}, 'messages', 'missing_parameter'],
      [{ messages: [] }, 'messages', 'invalid_value'],
      [{ messages: [{ role: 'tool', content: 'a' }] }, 'messages[0].role', 'invalid_value'],
      [{ messages: [{ role: 'user' }] }, 'messages[0].content', 'missing_parameter'],
      [{ messages: [...hi, { role: 'user', content: 5 }] }, 'messages[1].content', 'invalid_value'],
      [
        { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
        'messages[0].content[0].type',
        'invalid_value',
      ],
      [
        { messages: [{ role: 'user', content: 'a', name: 'b' }] },
        'messages[0].name',
        'unknown_parameter',
      ],
      [{ messages: hi, tools: [{ type: 'function' }] }, 'tools', 'unsupported_parameter'],
      [
        { messages: hi, response_format: { type: 'json_object' } },
        'response_format',
        'unsupported_parameter',
      ],
      [{ messages: hi, top_logprobs: 1 }, 'top_logprobs', 'invalid_value'],
      [{ messages: hi, max_tokens: 1, max_completion_tokens: 2 }, 'max_tokens', 'invalid_value'],
      [
        { messages: hi, max_completion_tokens: 900 },
        'max_completion_tokens',
        'context_length_exceeded',
      ],
    ],
    '/lockstep/plan': [[{ text: 5 }, 'text', 'invalid_type']],
    '/tokenize': [
      [{ text: 'a'.repeat(5000) }, null, 'body_too_large'],
      [{ text: 'a', add: true }, 'add', 'unknown_parameter'],
    ],
    '/detokenize': [[{ tokens: [5000] }, 'tokens[0]', 'invalid_value']],
  };
  const statuses: Record<string, number> = { body_too_large: 413, model_not_found: 404 };

  test('each is refused in OpenAI’s words with the field’s name', async () => {
    const { post, engine } = await serve({}, { maxTokens: 256, maxBodyBytes: 4096 });
    const all = Object.entries(cases).flatMap(([path, list]) =>
      list.map((one) => [path, ...one] as const),
    );
    for (const [path, body, param, code] of all) {
      const response = await post(path, body);
      const answer = (await response.json()) as Any;
      const got = [response.status, answer.error.param, answer.error.code];
      const what = `${JSON.stringify(body).slice(0, 80)}: ${answer.error.message}`;
      expect(got, what).toEqual([statuses[code] ?? 400, param, code]);
      expect(Object.keys(answer.error).sort()).toEqual(['code', 'message', 'param', 'type']);
      expect(answer.error.type).toBe('invalid_request_error');
      expect(response.headers.get('x-request-id')).toBeTruthy();
    }
    expect(engine.steps).toBe(0);
  });

  test('values that ask for nothing are taken', async () => {
    const { post } = await serve();
    const response = await post('/v1/chat/completions', {
      model: 'toy',
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
        { role: 'assistant', content: 'Hello', refusal: null },
        { role: 'user', content: 'Go on' },
      ],
      max_tokens: 1,
      n: 1,
      presence_penalty: 0,
      frequency_penalty: 0,
      response_format: { type: 'text' },
      tools: [],
      stop: null,
      seed: null,
      user: 'someone',
    });
    expect(response.status).toBe(200);
  });

  test('other media types, paths and verbs', async () => {
    const { url, post } = await serve();
    const text = await fetch(`${url}/v1/completions`, { method: 'POST', body: '{"prompt":"a"}' });
    expect(text.status).toBe(415);
    const form = await post('/v1/completions', 'prompt=a', {
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    expect(form.status).toBe(415);
    expect((await fetch(`${url}/v2/nothing`)).status).toBe(404);
    const get = await fetch(`${url}/v1/completions`);
    expect([get.status, get.headers.get('allow')]).toEqual([405, 'POST']);
    expect((await fetch(`${url}/page/..%2f..%2fserver.ts`)).status).toBe(404);
    expect((await fetch(`${url}/v1/models/other`)).status).toBe(404);
  });

  test('a foreign host name is refused on loopback', async () => {
    const { port } = await serve();
    const request = http.get({
      port,
      host: '127.0.0.1',
      path: '/v1/models',
      headers: { host: 'evil.example' },
    });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    response.resume();
    expect(response.statusCode).toBe(403);
  });

  test('a body that ends early does not hold the server', async () => {
    const { port, engine, url } = await serve();
    const socket = net.connect(port, '127.0.0.1');
    socket.write(
      'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"prompt":',
    );
    await sleep(50);
    socket.destroy();
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
    expect(engine.sessions).toBe(0);
  });
});

describe('clients that leave, engines that fail', () => {
  test('leaving a stream stops the generation and frees its session', async () => {
    const { post, engine, url } = await serve({ delayMs: 5 });
    const leave = new AbortController();
    const response = await post(
      '/v1/completions',
      { prompt: PROMPT, max_tokens: 5000, stream: true },
      { signal: leave.signal },
    );
    const reader = (response.body as ReadableStream).getReader();
    for (let i = 0; i < 3; i++) await reader.read();
    expect(engine.sessions).toBe(1);
    leave.abort();
    await until(() => engine.sessions === 0);
    const { steps } = engine;
    await sleep(60);
    expect(engine.steps).toBe(steps);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain('lockstep_generations_total{outcome="cancelled"} 1');
    expect(metrics).toContain('lockstep_sessions 0');
  });

  test('leaving while the prompt runs, and while waiting for the whole answer', async () => {
    const { post, engine } = await serve({ delayMs: 20 });
    for (const stream of [true, false]) {
      const leave = new AbortController();
      const asked = post(
        '/v1/completions',
        { prompt: PROMPT.repeat(60), max_tokens: 100, stream },
        { signal: leave.signal },
      ).catch((error) => error);
      await until(() => engine.sessions === 1);
      leave.abort();
      await until(() => engine.sessions === 0);
      await asked;
    }
  });

  test('leaving the queue gives the place to the next', async () => {
    const { post, engine } = await serve({ delayMs: 10 }, { maxSessions: 1, maxQueue: 4 });
    const ask = { prompt: PROMPT, max_tokens: 30 };
    const first = post('/v1/completions', ask);
    await until(() => engine.sessions === 1);
    const leave = new AbortController();
    const second = post('/v1/completions', ask, { signal: leave.signal }).catch((error) => error);
    const third = post('/v1/completions', ask);
    await sleep(30);
    leave.abort();
    expect((await first).status).toBe(200);
    expect((await third).status).toBe(200);
    expect((await second).name).toBe('AbortError');
    await until(() => engine.sessions === 0);
  });

  test('an engine that fails midway ends the stream with an error, not with [DONE]', async () => {
    const { post, engine, client } = await serve({ failAt: PROMPT.length + 10 });
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 50, stream: true as const };
    const { events, done } = await eventsOf(await post('/v1/completions', ask));
    expect(done).toBe(false);
    expect(events.at(-1).error).toMatchObject({ type: 'server_error', code: 'LS_ENGINE_STEP' });
    expect(events.some((event) => event.choices?.[0]?.finish_reason)).toBe(false);
    expect(engine.sessions).toBe(0);
    const stream = await client.completions.create(ask);
    await expect(
      (async () => {
        for await (const _ of stream);
      })(),
    ).rejects.toThrow(/finite logits/);
  });

  test('an engine that fails before the answer is a status', async () => {
    const { post, engine } = await serve({ failAt: 10 });
    const response = await post('/v1/completions', { prompt: PROMPT });
    const answer = (await response.json()) as Any;
    expect([response.status, answer.error.code]).toEqual([500, 'LS_ENGINE_STEP']);
    expect(answer.error.message).toContain('Export the model again.');
    expect(engine.sessions).toBe(0);
    engine.faults = {};
    expect((await post('/v1/completions', { prompt: PROMPT })).status).toBe(200);
  });

  test('logits that are not numbers end the stream with an error', async () => {
    const { post, engine } = await serve({ nanAt: PROMPT.length + 5 });
    const ask = { prompt: PROMPT, max_tokens: 50, stream: true };
    const { events, done } = await eventsOf(await post('/v1/completions', ask));
    expect(done).toBe(false);
    expect(events.at(-1).error.code).toBe('LS_ENGINE_LOGITS');
    expect(events.at(-1).error.message).toContain(`after token ${PROMPT.length + 4}`);
    expect(engine.sessions).toBe(0);
  });

  test('an engine that is gone makes the server not ready', async () => {
    const { post, url } = await serve({ failAt: 100, failCode: 'LS_ENGINE_CRASHED' });
    expect((await post('/v1/completions', { prompt: 'a', max_tokens: 2 })).status).toBe(200);
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    const response = await post('/v1/completions', { prompt: PROMPT, max_tokens: 60 });
    expect([response.status, ((await response.json()) as Any).error.code]).toEqual([
      503,
      'LS_ENGINE_CRASHED',
    ]);
    const ready = await fetch(`${url}/health/ready`);
    expect([ready.status, ((await ready.json()) as Any).status]).toEqual([503, 'engine lost']);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
  });

  test('an engine without a free session is 429', async () => {
    const { post } = await serve({ maxSessions: 0 });
    const response = await post('/v1/completions', { prompt: PROMPT, stream: true });
    expect(response.status).toBe(429);
    expect(response.headers.get('retry-after')).toBe('1');
  });

  test('a reader that stops reading is given up', async () => {
    const { port, engine } = await serve({}, { stallMs: 200, maxTokens: 2_000_000 });
    // The trace of a long prompt is more than the sockets' buffers hold.
    const body = JSON.stringify({
      prompt: PROMPT.repeat(8000),
      stream: true,
      lockstep: { trace: true },
    });
    const socket = net.connect(port, '127.0.0.1');
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    socket.pause();
    await until(() => engine.sessions === 1);
    await until(() => engine.sessions === 0);
    expect(engine.steps).toBeLessThan((PROMPT.length * 8000) / 64);
    socket.destroy();
  });
});

describe('load', () => {
  test('64 streams at once, each whole and its own', async () => {
    const { post, engine } = await serve({ delayMs: 1 }, { maxSessions: 16, maxQueue: 64 });
    const ask = (i: number, stream: boolean) =>
      post('/v1/completions', {
        prompt: `${i}: ${PROMPT}`,
        max_tokens: 40,
        temperature: 0,
        stream,
      });
    const streams = await Promise.all(
      Array.from({ length: 64 }, async (_, i) => eventsOf(await ask(i, true))),
    );
    expect(engine.sessions).toBe(0);
    for (const [i, { events, done }] of streams.entries()) {
      expect(done).toBe(true);
      if (i % 16 !== 0) continue;
      const alone = (await (await ask(i, false)).json()) as Any;
      expect(events.map((event) => event.choices[0]?.text ?? '').join('')).toBe(
        alone.choices[0].text,
      );
    }
  });

  test('past the queue it is 429 with Retry-After, and the others are served', async () => {
    const { post, url } = await serve({ delayMs: 5 }, { maxSessions: 2, maxQueue: 3 });
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => post('/v1/completions', { prompt: PROMPT, max_tokens: 20 })),
    );
    const statuses = answers.map((answer) => answer.status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(5);
    const refused = answers.filter((answer) => answer.status === 429);
    expect(refused).toHaveLength(7);
    for (const answer of refused) {
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
      expect(((await answer.json()) as Any).error.type).toBe('rate_limit_error');
    }
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
  });

  test('a silent stream is kept alive by comments', async () => {
    const { post } = await serve({ delayMs: 150 }, { keepAliveMs: 20 });
    const response = await post('/v1/completions', { prompt: PROMPT, max_tokens: 2, stream: true });
    const text = await response.text();
    expect(text).toContain(': wait\n\n');
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
  });

  test('requests a minute from one address', async () => {
    const { url } = await serve({}, { requestsPerMinute: 3 });
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++) statuses.push((await fetch(`${url}/v1/models`)).status);
    expect(statuses).toEqual([200, 200, 200, 429, 429]);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
  });
});

describe('keys, logs, metrics, the end', () => {
  test('an API key is asked for, except by health and the page', async () => {
    const { url, post } = await serve({}, { apiKey: 's3cret' });
    expect((await fetch(`${url}/v1/models`)).status).toBe(401);
    const wrong = await fetch(`${url}/v1/models`, { headers: { authorization: 'Bearer s3cre' } });
    expect(wrong.status).toBe(401);
    expect(((await wrong.json()) as Any).error.code).toBe('invalid_api_key');
    expect((await post('/v1/completions', { prompt: 'a' })).status).toBe(401);
    expect((await fetch(`${url}/metrics`)).status).toBe(401);
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 's3cret' });
    expect((await client.models.list()).data[0]?.id).toBe('toy');
    expect((await client.models.retrieve('toy')).owned_by).toBe('lockstep');
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    expect((await fetch(`${url}/`)).status).toBe(200);
  });

  test('logs tell of requests, never of texts or keys', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
    const { post } = await serve({ failAt: 300 }, { log, apiKey: 'k3y' });
    const headers = {
      'content-type': 'application/json',
      authorization: 'Bearer k3y',
      'x-request-id': 'mine-1',
    };
    await (
      await post('/v1/completions', { prompt: 'My diary: zanzibar.', max_tokens: 3 }, { headers })
    ).text();
    await (await post('/v1/completions', { prompt: 'zanzibar '.repeat(40) }, { headers })).text();
    await (
      await post('/v1/completions', { prompt: 'zanzibar', bad: 'zanzibar' }, { headers })
    ).text();
    await sleep(20);
    const all = lines.join('');
    expect(all).toContain('"requestId":"mine-1"');
    expect(all).toContain('"prompt_tokens":19');
    expect(all).toContain('LS_ENGINE_STEP');
    expect(all).not.toContain('zanzibar');
    expect(all).not.toContain('k3y');
  });

  test('metrics count requests, tokens, segments and latencies', async () => {
    const { post, url } = await serve();
    await (await post('/v1/completions', { prompt: PROMPT.repeat(2), max_tokens: 50 })).text();
    await (await post('/v1/completions', { prompt: 5 })).text();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    for (const line of [
      'lockstep_http_requests_total{route="/v1/completions",method="POST",status="200"} 1',
      'lockstep_http_requests_total{route="/v1/completions",method="POST",status="400"} 1',
      `lockstep_tokens_total{kind="prompt"} ${PROMPT.length * 2}`,
      'lockstep_tokens_total{kind="completion"} 50',
      'lockstep_time_to_first_token_seconds_count 1',
      'lockstep_inter_token_seconds_count 49',
      'lockstep_generations_total{outcome="length"} 1',
      'lockstep_session_bytes{part="pool"} 0',
      'lockstep_queue_waiting 0',
    ]) {
      expect(metrics).toContain(line);
    }
    expect(Number(/lockstep_segments_closed_total (\d+)/.exec(metrics)?.[1])).toBeGreaterThan(2);
    expect(metrics).toContain(`digest="${toy.files.contract.digest}"`);
  });

  test('memory by part is seen while a generation runs', async () => {
    const { post, url, engine } = await serve({ delayMs: 10 });
    const asked = post('/v1/completions', { prompt: PROMPT.repeat(3), max_tokens: 40 });
    await until(() => engine.steps > 6);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    const bytes = (part: string) =>
      Number(new RegExp(`lockstep_session_bytes\\{part="${part}"\\} (\\d+)`).exec(metrics)?.[1]);
    expect(bytes('pool')).toBeGreaterThan(0);
    expect(bytes('sinks')).toBeGreaterThan(0);
    await asked;
  });

  test('security headers, and a page without a foreign source', async () => {
    const { url } = await serve();
    const response = await fetch(`${url}/`);
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('x-powered-by')).toBeNull();
    expect(await response.text()).not.toMatch(/https?:\/\//);
  });

  test('closing lets a running stream end, refuses newcomers and closes the engine', async () => {
    const { post, server, engine, url } = await serve({ delayMs: 5 }, { drainMs: 5_000 });
    const response = await post('/v1/completions', {
      prompt: PROMPT,
      max_tokens: 30,
      stream: true,
    });
    const reading = eventsOf(response);
    await until(() => engine.sessions === 1);
    const closed = server.close();
    const { events, done } = await reading;
    expect(done).toBe(true);
    expect(events.at(-1).choices[0].finish_reason).toBe('length');
    await closed;
    expect(engine.closed).toBe(true);
    await expect(fetch(`${url}/health/live`)).rejects.toThrow();
  });

  test('closing breaks off what does not end in time, and says so', async () => {
    const { post, server, engine } = await serve({ delayMs: 5 }, { drainMs: 50 });
    const response = await post('/v1/completions', {
      prompt: PROMPT,
      max_tokens: 9000,
      stream: true,
    });
    const reading = eventsOf(response);
    await until(() => engine.sessions === 1);
    await server.close();
    const { events, done } = await reading;
    expect(done).toBe(false);
    expect(events.at(-1).error.code).toBe('shutting_down');
    expect(engine.sessions).toBe(0);
  });

  test('a port in use is named with its mend', async () => {
    const { port } = await serve();
    const engine = new ToyEngine(toy);
    const second = createServer({ engine, tokenizer: toy.tokenizer, contract: toy.files });
    await expect(second.listen(port)).rejects.toMatchObject({
      code: 'LS_SERVE_PORT',
      mend: expect.stringContaining('--port'),
    });
    await second.close();
    expect(engine.closed).toBe(true);
  });

  test('an engine of another contract is refused', () => {
    const engine = new ToyEngine(toy);
    Object.defineProperty(engine, 'contract', {
      value: { ...engine.contract, digest: '0'.repeat(64) },
    });
    expect(() => createServer({ engine, tokenizer: toy.tokenizer, contract: toy.files })).toThrow(
      expect.objectContaining({ code: 'LS_SERVE_DIGEST' }),
    );
  });
});
