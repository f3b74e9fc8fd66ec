// Several models behind one server: who is asked, who answers, who is ready, and models that come and go.
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import {
  changeKeys,
  createServer,
  KeyRing,
  type LockstepServer,
  newKey,
  type ServerOptions,
} from '../src/server/index.ts';
import { type Any, clientOf, eventsOf, PROMPT, until } from './server-client.ts';
import { makeToy, type Toy, ToyEngine, type ToyFaults } from './server-toy.ts';

vi.setConfig({ testTimeout: 120_000 });

/** Two checkpoints of other ids for special tokens, so of other contracts. */
let toys: Toy[];
const open: LockstepServer[] = [];
beforeAll(async () => {
  toys = [await makeToy(null), await makeToy(null, ['<|more|>'])];
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});
afterAll(() => Promise.all(toys.map(({ dir }) => rm(dir, { recursive: true, force: true }))));

function partsOf(i: number, name: string, faults: ToyFaults = {}) {
  const toy = toys[i] as Toy;
  const engine = new ToyEngine(toy, faults);
  return { name, engine, tokenizer: toy.tokenizer, contract: toy.files };
}

const digest = (i: number) => (toys[i] as Toy).files.contract.digest;

async function serve(faults: ToyFaults[] = [], options: ServerOptions = {}) {
  const [one, two] = [partsOf(0, 'one', faults[0]), partsOf(1, 'two', faults[1])];
  const models = [
    { ...one, aliases: ['first', 'default'] },
    { ...two, maxTokens: 500 },
  ];
  const server = createServer({ models, options: { drainMs: 500, ...options } });
  open.push(server);
  const { url, port } = await server.listen(0);
  const get = async (where: string) => {
    const response = await fetch(`${url}${where}`);
    return [response.status, (await response.json()) as Any] as const;
  };
  return { server, engines: [one.engine, two.engine] as const, get, ...clientOf(url, port) };
}

const fingerprint = (i: number) => `lockstep-${digest(i).slice(0, 16)}`;

describe('two models', () => {
  test('a request is answered by the model that it names, by its name or an alias', async () => {
    const { post, engines } = await serve();
    for (const [asked, name, i] of [
      ['one', 'one', 0],
      ['default', 'one', 0],
      ['two', 'two', 1],
    ] as const) {
      const before = engines.map(({ steps }) => steps);
      const body = { model: asked, prompt: PROMPT, max_tokens: 3 };
      const answer = (await (await post('/v1/completions', body)).json()) as Any;
      expect([answer.model, answer.system_fingerprint]).toEqual([name, fingerprint(i)]);
      const [ran, other] = [engines[i], engines[1 - i]] as [ToyEngine, ToyEngine];
      expect(ran.steps).toBeGreaterThan(before[i] as number);
      expect(other.steps).toBe(before[1 - i]);
    }
  });

  test('an unknown name is 404 in every route, no name is 400, and nothing runs', async () => {
    const { post, engines, get } = await serve();
    const bodies: [string, Any][] = [
      ['/v1/completions', { prompt: PROMPT }],
      ['/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi.' }] }],
      ['/v1/responses', { input: 'Hi.' }],
      ['/tokenize', { text: PROMPT }],
      ['/tokenize', { text: PROMPT.repeat(400) }],
      ['/detokenize', { tokens: [65] }],
    ];
    for (const [where, body] of bodies) {
      const unknown = await post(where, { ...body, model: 'three' });
      expect([where, unknown.status, await unknown.json()]).toEqual([
        where,
        404,
        {
          error: {
            message: 'The model `three` is not served here; `one` and `two` are.',
            type: 'invalid_request_error',
            param: 'model',
            code: 'model_not_found',
          },
        },
      ]);
      const none = await post(where, body);
      const { error } = (await none.json()) as Any;
      expect([where, none.status, error.code]).toEqual([where, 400, 'missing_parameter']);
    }
    expect((await get('/v1/models/three'))[0]).toBe(404);
    expect((await get('/lockstep/contract?model=three'))[0]).toBe(404);
    expect((await post('/lockstep/plan?model=three', { text: PROMPT })).status).toBe(404);
    expect(engines.map(({ steps }) => steps)).toEqual([0, 0]);
  });

  test('lists, cards, contracts and plans are those of each model', async () => {
    const { get, post } = await serve();
    const [, { data }] = await get('/v1/models');
    expect(data.map(({ id, lockstep }: Any) => [id, lockstep.digest, lockstep.aliases])).toEqual([
      ['one', digest(0), ['first', 'default']],
      ['two', digest(1), []],
    ]);
    expect(await get('/v1/models/default')).toEqual([200, data[0]]);
    expect(await get('/v1/models/two')).toEqual([200, data[1]]);
    expect((await get('/lockstep/contract'))[1].digest).toBe(digest(0));
    expect((await get('/lockstep/contract?model=two'))[1]).toMatchObject({
      name: 'two',
      digest: digest(1),
      limits: { tokens: 500 },
    });
    expect((await get('/lockstep/engine?model=two'))[0]).toBe(200);
    expect((await get('/lockstep/engine?model=one&model=two'))[0]).toBe(400);
    for (const text of [PROMPT, 'A word. '.repeat(55)]) {
      const plan = (await (await post('/lockstep/plan?model=two', { text })).json()) as Any;
      expect(plan.digest).toBe(digest(1));
    }
  });

  test('large requests reach their model: its tokenizer and its limit', async () => {
    const { post } = await serve();
    const large = `${'A word. '.repeat(2500)}<|more|>`;
    const ids = async (model: string) =>
      ((await (await post('/tokenize', { model, text: large })).json()) as Any).tokens;
    // The second checkpoint has one more special token.
    expect((await ids('two')).at(-1)).toBe(260);
    expect((await ids('one')).at(-1)).toBe('>'.charCodeAt(0));
    const long = { prompt: 'A word. '.repeat(2500), max_tokens: 2 };
    expect((await post('/v1/completions', { ...long, model: 'one' })).status).toBe(200);
    const refused = await post('/v1/completions', { ...long, model: 'two' });
    expect(((await refused.json()) as Any).error.code).toBe('context_length_exceeded');
    const tooMany = { model: 'two', prompt: Array(600).fill(65), max_tokens: 2 };
    expect((await post('/v1/completions', tooMany)).status).toBe(400);
  });

  test('each model has slots of its own', async () => {
    const models = [
      { ...partsOf(0, 'one', { delayMs: 5 }), maxSessions: 1 },
      { ...partsOf(1, 'two'), maxSessions: 1 },
    ];
    const server = createServer({ models, options: { maxQueue: 0, drainMs: 500 } });
    open.push(server);
    const { url, port } = await server.listen(0);
    const { post } = clientOf(url, port);
    const leave = new AbortController();
    const long = { model: 'one', prompt: PROMPT, max_tokens: 3000, ignore_eos: true, stream: true };
    await post('/v1/completions', long, { signal: leave.signal });
    await until(() => models[0]?.engine.sessions === 1);
    const ask = (model: string) =>
      post('/v1/completions', { model, prompt: PROMPT, max_tokens: 2 });
    expect([(await ask('one')).status, (await ask('two')).status]).toEqual([429, 200]);
    leave.abort();
  });

  test('limits of a key count over all models', async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-models-'));
    const file = path.join(folder, 'keys.json');
    const { key, id, hash } = await newKey();
    const limits = { sessions: 1, tokensPerMinute: 1000 };
    const entry = { name: 'alice', id, hash, created: new Date().toISOString(), limits };
    await changeKeys(file, (all) => [...all, entry]);
    const { post, engines } = await serve([{ delayMs: 5 }], { keys: await KeyRing.open(file) });
    await rm(folder, { recursive: true });
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
    const prompt = PROMPT.repeat(4);
    const ask = async (model: string) => {
      const body = { model, prompt, max_tokens: 1 };
      const response = await post('/v1/completions', body, { headers });
      return [response.status, ((await response.json()) as Any).error?.code];
    };
    const leave = new AbortController();
    const long = { model: 'one', prompt, max_tokens: 400, stream: true };
    await post('/v1/completions', long, { headers, signal: leave.signal });
    await until(() => engines[0].sessions === 1);
    expect(await ask('two')).toEqual([429, 'too_many_sessions']);
    leave.abort();
    await until(() => engines[0].sessions === 0);
    // 300 of the 1000 tokens are taken: two prompts fit at most, whatever model they are for.
    const answers: unknown[] = [];
    for (const model of ['two', 'one', 'two', 'one']) answers.push((await ask(model))[1]);
    expect(answers.slice(2)).toEqual(['too_many_tokens', 'too_many_tokens']);
    expect(answers.every((code) => code === undefined || code === 'too_many_tokens')).toBe(true);
  });

  test('metrics count by model', async () => {
    const { post, url } = await serve();
    for (const model of ['one', 'two', 'first']) {
      await (await post('/v1/completions', { model, prompt: PROMPT, max_tokens: 4 })).text();
    }
    const text = await (await fetch(`${url}/metrics`)).text();
    for (const line of [
      'lockstep_tokens_total{model="one",kind="completion"} 8',
      'lockstep_tokens_total{model="two",kind="completion"} 4',
      'lockstep_time_to_first_token_seconds_count{model="one"} 2',
      'lockstep_model_ready{model="two"} 1',
      'lockstep_sessions{model="two"} 0',
    ]) {
      expect(text).toContain(line);
    }
    expect(text).toMatch(new RegExp(`^lockstep_info\\{model="two",.*digest="${digest(1)}"`, 'm'));
  });

  test('one whose engine has died: the other serves on, and readiness says which', async () => {
    const lost = { failAt: 80, failCode: 'LS_ENGINE_CRASHED' } as const;
    const { post, get, url } = await serve([{}, lost]);
    expect((await get('/health/ready'))[0]).toBe(200);
    const body = { prompt: PROMPT, max_tokens: 20 };
    expect((await post('/v1/completions', { ...body, model: 'two' })).status).toBe(503);
    const [status, ready] = await get('/health/ready');
    expect([status, ready.model, ready.status, ready.error.code]).toEqual([
      503,
      'two',
      'engine lost',
      'LS_ENGINE_CRASHED',
    ]);
    expect(ready.models.map(({ model, status }: Any) => [model, status])).toEqual([
      ['one', 'ready'],
      ['two', 'engine lost'],
    ]);
    expect((await get('/health'))[0]).toBe(503);
    expect((await post('/v1/completions', { ...body, model: 'one' })).status).toBe(200);
    const text = await (await fetch(`${url}/metrics`)).text();
    expect(text).toContain('lockstep_model_ready{model="two"} 0');
  });
});

describe('models that come and go', () => {
  test('one that is left out takes no new request, ends what runs, then is closed', async () => {
    const { server, post, engines, get } = await serve([{}, { delayMs: 3 }]);
    const long = {
      model: 'two',
      prompt: PROMPT,
      max_tokens: 200,
      ignore_eos: true,
      stream: true,
    };
    let begun = false;
    const streamed = eventsOf(await post('/v1/completions', long), () => {
      begun = true;
    });
    await until(() => begun);
    const gone = server.serve(server.models.slice(0, 1));
    const refused = await post('/v1/completions', { model: 'two', prompt: PROMPT });
    expect([refused.status, ((await refused.json()) as Any).error.code]).toEqual([
      404,
      'model_not_found',
    ]);
    expect((await get('/v1/models'))[1].data).toHaveLength(1);
    expect(engines[1].closed).toBe(false);
    const { events, done } = await streamed;
    expect([done, events.at(-1).choices[0].finish_reason]).toEqual([true, 'length']);
    await gone;
    expect([engines[0].closed, engines[1].closed]).toEqual([false, true]);
    // One model is left: it needs no name.
    expect((await post('/v1/completions', { prompt: PROMPT, max_tokens: 2 })).status).toBe(200);
  });

  test('another under the same name: its requests go there, what ran before ends before', async () => {
    const { server, post, engines } = await serve([{ delayMs: 3 }]);
    const ask = { model: 'one', prompt: PROMPT, max_tokens: 100, stream: true };
    const before = await post('/v1/completions', ask);
    await until(() => engines[0].sessions === 1);
    const parts = partsOf(1, 'one');
    const model = await server.prepare(parts);
    const [, two] = server.models;
    const gone = server.serve([{ model, aliases: ['newer'] }, ...(two ? [two] : [])]);
    const after = await (
      await post('/v1/completions', { ...ask, stream: false, model: 'newer' })
    ).json();
    expect((after as Any).system_fingerprint).toBe(fingerprint(1));
    const { events, done } = await eventsOf(before);
    expect(done).toBe(true);
    expect(new Set(events.map((event) => event.system_fingerprint))).toEqual(
      new Set([fingerprint(0)]),
    );
    await gone;
    expect([engines[0].closed, parts.engine.closed]).toEqual([true, false]);
  });

  test('the end of the server waits for models that are leaving, too', async () => {
    const { server, post, engines } = await serve([{}, { delayMs: 3 }], { drainMs: 30_000 });
    const long = { model: 'two', prompt: PROMPT, max_tokens: 100, stream: true };
    const stream = await post('/v1/completions', long);
    await until(() => engines[1].sessions === 1);
    void server.serve(server.models.slice(0, 1));
    const closed = server.close();
    expect((await eventsOf(stream)).done).toBe(true);
    await closed;
    expect(engines.map((engine) => engine.closed)).toEqual([true, true]);
  });
});
