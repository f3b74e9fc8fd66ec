// Large requests: a thread reads them, streams go on, and what is too much is refused by its count.

import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { changeKeys, KeyRing, newKey } from '../src/server/index.ts';
import { WorkPool } from '../src/server/large/pool.ts';
import { answerTool } from '../src/server/large/work.ts';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { type Served, toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

vi.setConfig({ testTimeout: 240_000 });

// Without a chat template a server starts at once.
const servers = toyServers(() => makeToy(null));
const chats = toyServers();

const LENGTH = 100_000;
const options = { maxTokens: LENGTH + 1000 };
const text = `${PROMPT} `.repeat(Math.ceil(LENGTH / PROMPT.length)).slice(0, LENGTH);

/** Works that threads have done, by name. */
async function done(url: string): Promise<Record<string, number>> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const lines = metrics.matchAll(/^lockstep_large_request_seconds_count\{work="(\w+)"\} (\d+)/gm);
  return Object.fromEntries([...lines].map(([, name, count]) => [name, Number(count)]));
}

/** A stream that goes on until it is left; how many tokens have come. */
async function running({ post, engine }: Served) {
  const leave = new AbortController();
  let tokens = 0;
  const body = { prompt: PROMPT, max_tokens: 30_000, stream: true };
  const stream = await post('/v1/completions', body, { signal: leave.signal });
  const read = eventsOf(stream, () => {
    tokens += 1;
  }).catch(() => {});
  await until(() => tokens > 0);
  return {
    tokens: () => tokens,
    async end() {
      leave.abort();
      await read;
      await until(() => engine.sessions === 0);
    },
  };
}

describe('eight large requests at once beside a stream', () => {
  test('plans: a thread makes them, and the stream goes on meanwhile', async () => {
    const served = await servers.serve({ delayMs: 2 }, options);
    const { post, url } = served;
    const short = text.slice(0, 60_000);
    const body = JSON.stringify({ text: short });
    const { tokenizer, files } = servers.toy;
    const facts = { tokens: options.maxTokens, vocabulary: 260 };
    const plan = (await answerTool(
      'plan',
      { text: short },
      { tokenizer, source: files },
      facts,
    )) as Any;
    const json = JSON.stringify(plan);
    // The thread has started: what follows is the work alone.
    expect((await post('/lockstep/plan', body)).status).toBe(200);

    const stream = await running(served);
    const before = stream.tokens();
    const answers = await Promise.all(
      Array.from({ length: 8 }, async () => (await post('/lockstep/plan', body)).arrayBuffer()),
    );
    const meanwhile = stream.tokens() - before;
    await stream.end();

    for (const answer of answers) expect(Buffer.from(answer).equals(Buffer.from(json))).toBe(true);
    expect(await done(url)).toEqual({ plan: 9 });
    // On this thread about two a plan would come.
    expect(meanwhile).toBeGreaterThan(40);
  });

  test('ids to text, and text to ids', async () => {
    const { post, url } = await servers.serve({}, options);
    const ids = (await (await post('/tokenize', { text })).json()) as Any;
    expect(ids.count).toBe(LENGTH);
    const back = (await (await post('/detokenize', { tokens: ids.tokens })).json()) as Any;
    expect(back.text).toBe(text);
    expect(await done(url)).toEqual({ body: 2, tokenize: 1, detokenize: 1 });
  });

  test('a chat of 120,000 messages is refused by its count, and a thread has counted', async () => {
    const served = await servers.serve({ delayMs: 2 });
    const { post, url } = served;
    const messages = Array.from({ length: 120_000 }, () => ({ role: 'user', content: 'a' }));
    const body = JSON.stringify({ messages });
    expect(body.length).toBeGreaterThan(3_000_000);
    const stream = await running(served);
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => post('/v1/chat/completions', body)),
    );
    for (const answer of answers) {
      expect(answer.status).toBe(400);
      const { error } = (await answer.json()) as Any;
      expect(error).toMatchObject({ param: 'messages', code: 'too_many_messages' });
      expect(error.message).toContain('at most 4096, got a list of 120000');
    }
    await stream.end();
    expect(await done(url)).toEqual({ body: 8 });
    const input = await post('/v1/responses', JSON.stringify({ input: messages }));
    expect(((await input.json()) as Any).error).toMatchObject({ param: 'input' });
  });
});

describe('requests read by a thread equal those read by the event loop', () => {
  test('a long chat gets the answer that its short form shows', async () => {
    const { post, url } = await chats.serve({}, options);
    // Longer by a field that changes nothing.
    const ask = async (user: string) => {
      const messages = [{ role: 'user', content: 'Hello.', name: null }];
      const body = { messages, max_tokens: 5, seed: 1, temperature: 0, user };
      return ((await (await post('/v1/chat/completions', body)).json()) as Any).choices;
    };
    const short = await ask('a');
    expect(await done(url)).toEqual({});
    expect(await ask('a'.repeat(20_000))).toEqual(short);
    expect(await done(url)).toEqual({ body: 1 });
  });

  test('a long prompt is tokenized in a thread; beyond the limit only its beginning', async () => {
    const { post, url } = await servers.serve({}, { maxTokens: 20_000 });
    const fits = { prompt: text.slice(0, 18_000), max_tokens: 1 };
    const answer = (await (await post('/v1/completions', fits)).json()) as Any;
    expect(answer.usage.prompt_tokens).toBe(18_000);
    expect(await done(url)).toEqual({ body: 1, encode: 1 });
    const over = await post('/v1/completions', { prompt: text.repeat(4), max_tokens: 1 });
    const { error } = (await over.json()) as Any;
    expect(error).toMatchObject({ param: 'prompt', code: 'context_length_exceeded' });
    const read = Number(/got at least (\d+)/.exec(error.message)?.[1]);
    expect(read).toBeGreaterThanOrEqual(20_000);
    expect(read).toBeLessThan(2 * LENGTH);
  });

  test('ids beyond the limit are refused by their count', async () => {
    const { post } = await servers.serve({}, { maxTokens: 100 });
    const long = Array.from({ length: 20_000 }, () => 1e9);
    for (const [prompt, param] of [
      [long, 'prompt'],
      [[[1], long], 'prompt[1]'],
    ] as const) {
      const asked = await post('/v1/completions', { prompt });
      const { error } = (await asked.json()) as Any;
      expect(error).toMatchObject({ param, code: 'context_length_exceeded' });
    }
  });

  test('errors are the same as without a thread', async () => {
    const { post } = await servers.serve();
    const pad = 'a'.repeat(20_000);
    for (const [path, body, status, code] of [
      ['/v1/completions', `{"prompt": "${pad}"`, 400, 'invalid_json'],
      ['/v1/completions', { prompt: 'a', bad: pad }, 400, 'unknown_parameter'],
      ['/lockstep/plan', `"${pad}"`, 400, 'invalid_json'],
      ['/tokenize', { text: pad, model: 'other' }, 404, 'model_not_found'],
    ] as const) {
      const answer = await post(path, body);
      expect(answer.status).toBe(status);
      expect(((await answer.json()) as Any).error.code).toBe(code);
    }
  });

  test('requests beyond the queue of large ones get 429', async () => {
    const { post, url } = await servers.serve({}, { ...options, maxLarge: 1 });
    const body = JSON.stringify({ text });
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => post('/lockstep/plan', body)),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses[0]).toBe(200);
    expect(statuses.at(-1)).toBe(429);
    const refused = answers.find(({ status }) => status === 429);
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0);
    await Promise.all(answers.map((answer) => answer.arrayBuffer()));
    const metrics = await (await fetch(`${url}/metrics`)).text();
    const count = statuses.filter((status) => status === 429).length;
    expect(metrics).toContain(`lockstep_large_refused_total ${count}\n`);
    expect(metrics).toContain('lockstep_queue_refused_total{model="toy"} 0\n');
    expect((await post('/lockstep/plan', body)).status).toBe(200);
  });
});

describe('a request with many long prompts', () => {
  test('waits for one thread at a time, so that an idle server takes it', async () => {
    const { post, url } = await servers.serve({}, { maxTokens: 17_000 });
    const prompt = Array.from({ length: 20 }, () => text.slice(0, 16_500));
    const response = await post('/v1/completions', { prompt, max_tokens: 1 });
    const { choices, usage } = (await response.json()) as Any;
    expect(response.status).toBe(200);
    expect(choices).toHaveLength(20);
    expect(usage.prompt_tokens).toBe(20 * 16_500);
    expect(await done(url)).toEqual({ body: 1, encode: 20 });
  });

  test('tokenizes no more of them once its client has gone', async () => {
    const { post, url } = await servers.serve({}, { maxTokens: 1 << 20 });
    const leave = new AbortController();
    const prompt = Array.from({ length: 12 }, () => text.repeat(3));
    const asked = post('/v1/completions', { prompt, max_tokens: 1 }, { signal: leave.signal });
    const left = asked.catch((error: unknown) => error);
    await until(async () => ((await done(url))['encode'] ?? 0) > 0);
    leave.abort();
    await left;
    // What comes next waits behind all that the request still wanted.
    expect((await post('/tokenize', { text })).status).toBe(200);
    expect((await done(url))['encode']).toBeLessThan(12);
  });

  test('waits in the turn of its key', async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-large-'));
    const run = vi.spyOn(WorkPool.prototype, 'run');
    try {
      const file = path.join(folder, 'keys.json');
      const { key, id, hash } = await newKey();
      const created = new Date().toISOString();
      await changeKeys(file, () => [{ name: 'team', id, hash, created, metrics: false }]);
      const { post } = await chats.serve({}, { ...options, keys: await KeyRing.open(file) });
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
      const long = text.slice(0, 20_000);
      const bodies = {
        '/v1/completions': { prompt: long, max_tokens: 1 },
        '/v1/chat/completions': { messages: [{ role: 'user', content: long }], max_tokens: 1 },
        '/v1/responses': { input: long, max_output_tokens: 1 },
      };
      for (const [route, body] of Object.entries(bodies)) {
        expect((await post(route, body, { headers })).status).toBe(200);
      }
      const works = run.mock.calls.map(([work, , ticket]) => [work.kind, ticket?.caller]);
      expect(works).toEqual(
        Object.keys(bodies).flatMap(() => [
          ['body', 'team'],
          ['encode', 'team'],
        ]),
      );
    } finally {
      run.mockRestore();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
