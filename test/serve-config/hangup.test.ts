// SIGHUP to a real `lockstep serve --config`: models come, go and change; no stream is cut, no answer is another's.
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { randomIntegers } from '../helpers/random.ts';
import { descendants, isRunning } from '../processes.ts';
import { servedCheckpoint } from '../served-checkpoint.ts';
import { type Any, eventsOf, PROMPT, until } from '../server-client.ts';
import {
  type Answer,
  ask,
  configFile,
  running,
  type Serving,
  serve,
  temporary,
} from './fixture.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

let folder: string;
/** Two for onnx, of other weights and contracts, and one for torch. */
let dirs: { one: string; two: string; three: string };
let config: ReturnType<typeof configFile>;

beforeAll(async () => {
  folder = await temporary();
  config = configFile(folder);
  const checkpoint = (name: string, other: Parameters<typeof servedCheckpoint>[2]) =>
    servedCheckpoint(path.join(folder, name), undefined, other);
  dirs = {
    one: await checkpoint('one', { seed: 1 }),
    two: await checkpoint('two', { seed: 2, max: 24 }),
    three: await checkpoint('three', { seed: 3, max: 40, onnx: false }),
  };
});
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

type Name = 'one' | 'two' | 'three';
const modelOf = (name: Name, more: object = {}) => ({
  name,
  dir: dirs[name],
  threads: 1,
  ...(name === 'three' ? { engine: 'torch' as const } : {}),
  ...more,
});
const digestOf = (dir: string): string =>
  JSON.parse(readFileSync(`${dir}/lockstep.json`, 'utf8')).digest;
const fingerprintOf = (name: Name) => `lockstep-${digestOf(dirs[name]).slice(0, 16)}`;

/** The body of one of a few requests. */
const request = (i: number, max_tokens = 20) => ({
  prompt: `${i}. ${PROMPT.slice(i)}`,
  max_tokens,
  temperature: 0.8,
  seed: i,
  ignore_eos: true,
});

/** What each model answers when it is served alone, as `lockstep serve DIR` serves it. */
async function alone(name: Name, bodies: readonly object[]): Promise<string[]> {
  const engine = name === 'three' ? ['--engine', 'torch'] : [];
  const served = await serve(dirs[name], '--threads', '1', '--model', name, ...engine);
  const answers: string[] = [];
  for (const body of bodies) answers.push((await ask(served, body))?.text ?? '');
  served.child.kill('SIGTERM');
  expect(await served.ended).toBe(0);
  return answers;
}

describe('requests while SIGHUPs add and remove a model', () => {
  test('100 random requests to three models: no wrong answer, no cut stream', async () => {
    const bodies = Array.from({ length: 5 }, (_, i) => request(i));
    const references: Record<Name, string[]> = {
      one: await alone('one', bodies),
      two: await alone('two', bodies),
      three: await alone('three', bodies),
    };
    // Weights and contracts differ, so answers do.
    expect(new Set(Object.values(references).flat()).size).toBe(15);
    await config.write({ models: [modelOf('one'), modelOf('two'), modelOf('three')] });
    const served = await serve('--config', config.file);
    const random = randomIntegers(7);
    const count = { complete: 0, missing: 0, wrong: [] as string[] };
    let open = 100;
    const clients = Array.from({ length: 5 }, async () => {
      while (open > 0) {
        open -= 1;
        const name = (['one', 'two', 'three'] as const)[random(3)] as Name;
        const i = random(bodies.length);
        const body = { ...bodies[i], model: name, stream: random(2) === 0 };
        const answer = await ask(served, body).catch((error: unknown) => String(error));
        if (answer === null && name === 'two') {
          count.missing += 1;
          await sleep(20);
          continue;
        }
        const expected: Answer = {
          model: name,
          fingerprint: fingerprintOf(name),
          text: references[name][i] as string,
          finish: 'length',
        };
        if (JSON.stringify(answer) === JSON.stringify(expected)) count.complete += 1;
        else count.wrong.push(`${name} ${i}: ${JSON.stringify(answer)}`);
      }
    });
    let signals = 0;
    let there = true;
    const changes: Any[] = [];
    while (open > 0 || signals < 4) {
      there = !there;
      await config.write({
        models: [modelOf('one'), ...(there ? [modelOf('two')] : []), modelOf('three')],
      });
      changes.push(await served.hangUp());
      signals += 1;
      await sleep(random(300));
    }
    await Promise.all(clients);
    expect(count.wrong).toEqual([]);
    expect(count.complete + count.missing).toBe(100);
    expect(count.complete).toBeGreaterThan(50);
    changes.forEach(({ added, removed, replaced }, i) => {
      const [gone, come] = i % 2 === 0 ? [['two'], []] : [[], ['two']];
      expect([added, removed, replaced]).toEqual([come, gone, []]);
    });
    served.child.kill('SIGTERM');
    expect(await served.ended).toBe(0);
  });
});

/** A stream that is running; its events so far. */
async function streaming(served: Serving, body: object) {
  const events: Any[] = [];
  const response = await served.post('/v1/completions', { ...body, stream: true });
  expect(response.status).toBe(200);
  const ended = eventsOf(response, (event) => events.push(event));
  await until(() => events.length > 0, 20);
  return { events, ended };
}

const textOf = (events: readonly Any[]) =>
  events.map((event) => event.choices[0]?.text ?? '').join('');

describe('one SIGHUP', () => {
  test('a removed model ends its stream; its requests get 404, and its engine is closed', async () => {
    const long = request(3, 1000);
    const [expected] = await alone('two', [long]);
    await config.write({ models: [modelOf('one'), modelOf('two')] });
    const served = await serve('--config', config.file);
    const open = async () => {
      const text = await (await fetch(`${served.url}/metrics`)).text();
      return [...text.matchAll(/^lockstep_info\{model="(\w+)"/gm)].map(([, name]) => name);
    };
    expect(await open()).toEqual(['one', 'two']);
    const { events, ended } = await streaming(served, { ...long, model: 'two' });
    await config.write({ models: [modelOf('one')] });
    expect(await served.hangUp()).toMatchObject({ event: 'models', removed: ['two'] });
    expect(await ask(served, { ...request(1), model: 'two' })).toBeNull();
    expect(events.length).toBeLessThan(990);
    expect((await ended).done).toBe(true);
    expect(textOf(events)).toBe(expected);
    await until(async () => (await open()).join() === 'one', 20);
    expect((await served.get('/health/ready'))[1].models).toHaveLength(1);
  });

  test('a changed option or checkpoint: another beside, the stream before ends where it began', async () => {
    const long = request(2, 400);
    const [expected] = await alone('one', [long]);
    const aliases = ['chat'];
    await config.write({ models: [modelOf('one', { aliases, maxTokens: 600 })] });
    const served = await serve('--config', config.file);
    const limit = async () => (await served.get('/lockstep/contract?model=chat'))[1].limits.tokens;
    expect(await limit()).toBe(600);
    const { events, ended } = await streaming(served, { ...long, model: 'chat' });
    await config.write({ models: [modelOf('one', { aliases, maxTokens: 700 })] });
    expect(await served.hangUp()).toMatchObject({ added: [], replaced: ['one'], removed: [] });
    expect(await limit()).toBe(700);
    await config.write({ models: [modelOf('one', { aliases, dir: dirs.two })] });
    expect(await served.hangUp()).toMatchObject({ replaced: ['one'] });
    const after = await ask(served, { ...request(1), model: 'chat' });
    expect([after?.model, after?.fingerprint]).toEqual(['one', fingerprintOf('two')]);
    expect((await ended).done).toBe(true);
    expect(textOf(events)).toBe(expected);
    expect(new Set(events.map((event) => event.system_fingerprint))).toEqual(
      new Set([fingerprintOf('one')]),
    );
    // Other aliases alone need no other engine, and the same file again changes nothing.
    const aliased = { models: [modelOf('one', { aliases: ['talk'], dir: dirs.two })] };
    await config.write(aliased);
    const none = { added: [], replaced: [], removed: [] };
    expect(await served.hangUp()).toMatchObject(none);
    expect(await ask(served, { ...request(1), model: 'chat' })).toBeNull();
    expect((await ask(served, { ...request(1), model: 'talk' }))?.text).toBe(after?.text);
    expect(await served.hangUp()).toMatchObject(none);
  });

  test('a broken file, a model that does not open, another port: all stays as it is, and is told', async () => {
    const good = { models: [modelOf('one'), modelOf('two')] };
    await config.write(good);
    const served = await serve('--config', config.file);
    const list = async () => (await served.get('/v1/models'))[1].data;
    const before = await list();
    const none = { name: 'none', dir: folder };
    for (const [broken, code, words] of [
      ['{"models": [', 'LS_CONFIG_SYNTAX', 'serve.config.json'],
      [
        { models: [modelOf('one'), modelOf('two', { treads: 1 })] },
        'LS_SERVE_CONFIG',
        'models[1].treads',
      ],
      [{ models: [modelOf('one'), none] }, 'LS_CONTRACT_MISSING', 'models[1]'],
      // The first of them opens, and is closed again.
      [{ models: [modelOf('one', { maxTokens: 50 }), none] }, 'LS_CONTRACT_MISSING', 'models[1]'],
      // It has no graph.
      [{ models: [{ ...modelOf('three'), engine: 'onnx' }] }, 'LS_ENGINE_EXPORT', 'models[0]'],
    ] as const) {
      const seen = served.stderr().length;
      await config.write(broken as Any);
      served.child.kill('SIGHUP');
      await until(() => served.stderr().slice(seen).includes('stay in use'), 30);
      expect(served.stderr().slice(seen)).toContain(`${code}:`);
      expect(served.stderr().slice(seen)).toContain(words);
      expect(await list()).toEqual(before);
    }
    const metrics = async () => (await fetch(`${served.url}/metrics`)).text();
    expect(await metrics()).toContain('lockstep_reload_failed_total{what="models"} 5\n');
    expect(await metrics()).toContain('lockstep_reload_stale{what="models"} 1\n');
    await config.write({ ...good, port: 1 });
    await served.hangUp();
    await until(async () => (await metrics()).includes('lockstep_reload_stale{what="models"} 0\n'));
    expect(await metrics()).toContain('lockstep_reload_failed_total{what="models"} 5\n');
    expect(served.stderr()).toMatch(/LS_SERVE_RESTART: .*port/);
    expect(await list()).toEqual(before);
    expect((await ask(served, { ...request(1), model: 'two' }))?.finish).toBe('length');
    expect(served.stderr()).not.toMatch(/^\s+at /m);
  });

  test('a dead engine: the others serve on, readiness names it, SIGHUP starts it again', async () => {
    await config.write({ models: [modelOf('one'), modelOf('three')] });
    const served = await serve('--config', config.file);
    const [expected] = [(await ask(served, { ...request(1), model: 'three' }))?.text];
    for (const pid of descendants(served.child.pid as number)) process.kill(pid, 'SIGKILL');
    const dead = await served.post('/v1/completions', { ...request(1), model: 'three' });
    expect(dead.status).toBe(503);
    await dead.text();
    const [status, ready] = await served.get('/health/ready');
    expect([status, ready.model]).toEqual([503, 'three']);
    expect(ready.models.map((one: Any) => [one.model, one.status])).toEqual([
      ['one', 'ready'],
      ['three', 'engine lost'],
    ]);
    expect((await ask(served, { ...request(1), model: 'one' }))?.finish).toBe('length');
    expect(await served.hangUp()).toMatchObject({ replaced: ['three'] });
    expect((await served.get('/health/ready'))[0]).toBe(200);
    expect((await ask(served, { ...request(1), model: 'three' }))?.text).toBe(expected);
  });

  test('a SIGTERM while a model starts: the stream ends, the process leaves with 0 and leaves nothing', async () => {
    await config.write({ models: [modelOf('one')] });
    const served = await serve('--config', config.file);
    const { ended } = await streaming(served, { ...request(2, 400), model: 'one' });
    await config.write({ models: [modelOf('one'), modelOf('three')] });
    const pid = served.child.pid as number;
    served.child.kill('SIGHUP');
    await until(() => descendants(pid).length > 0, 20);
    const children = descendants(pid);
    served.child.kill('SIGTERM');
    expect((await ended).done).toBe(true);
    expect(await served.ended).toBe(0);
    expect(children.filter(isRunning)).toEqual([]);
  });
});
