// What an operator relies on, with the real vLLM behind `lockstep serve`: keys, the environment that vLLM gets,
// health after vLLM was killed, and a drain that a balancer sees.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { packageRoot } from '../../src/paths.ts';
import { environmentOf } from '../processes.ts';
import { type Any, eventsOf, until } from '../server-client.ts';
import { below, type Serving, servers, TEXT } from './serving.ts';

const SECRET = 'a-secret-of-the-front';
vi.stubEnv('FRONT_SECRET', SECRET);
const vllm = servers();
let folder: string;
let key: string;
let server: Serving;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-access-'));
  const file = path.join(folder, 'keys.json');
  const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
  const add = ['keys', 'add', file, 'alice', '--requests', '600', '--metrics', '--json'];
  key = JSON.parse(execFileSync(process.execPath, [main, ...add], { encoding: 'utf8' })).key;
  server = await vllm.start([], ['--keys', file, '--pre-drain', '8', '--drain', '120']);
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

/** A completion, with the key or another. */
const ask = (body: object, bearer = key) =>
  server.post(
    '/v1/completions',
    { prompt: TEXT, ...body },
    { headers: { 'content-type': 'application/json', authorization: `Bearer ${bearer}` } },
  );

async function ready(): Promise<[number, string]> {
  const response = await fetch(`${server.url}/health/ready`);
  return [response.status, ((await response.json()) as Any).status];
}

test('the key is let in; none, another, and a field of vLLM’s own are not', async () => {
  expect((await ask({ max_tokens: 3 })).status).toBe(200);
  expect((await ask({ max_tokens: 3 }, `${key}x`)).status).toBe(401);
  expect((await fetch(`${server.url}/v1/models`)).status).toBe(401);
  const field = await ask({ max_tokens: 3, prompt_logprobs: 5 });
  const { error } = (await field.json()) as Any;
  expect([field.status, error.code, error.param]).toEqual([
    400,
    'unknown_parameter',
    'prompt_logprobs',
  ]);
  for (const route of ['/v1/load_lora_adapter', '/reset_prefix_cache', '/sleep', '/invocations']) {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const response = await fetch(server.url + route, { method: 'POST', headers, body: '{}' });
    expect([route, response.status]).toEqual([route, 404]);
  }
});

test('tokens count for the key, and vLLM’s metrics stand beside ours', async () => {
  const headers = { authorization: `Bearer ${key}` };
  const text = await (await fetch(`${server.url}/metrics`, { headers })).text();
  expect(text).toMatch(/^lockstep_caller_tokens_total\{.*caller="alice".*\} [1-9]/m);
  expect(text).toMatch(/^vllm:prompt_tokens_total\{.*\} [1-9]/m);
  expect(text).not.toContain(key);
});

test('vLLM’s processes get no secret of the front', () => {
  const python = below(server.child.pid as number).filter(({ name }) => /python|vllm/i.test(name));
  expect(python.length).toBeGreaterThan(1);
  expect(Object.values(environmentOf(server.child.pid as number))).toContain(SECRET);
  for (const { pid, name } of python) {
    expect([name, Object.values(environmentOf(pid)).includes(SECRET)]).toEqual([name, false]);
  }
});

test('after its engine process was killed, ready says so, and later that it is back', async () => {
  expect(await ready()).toEqual([200, 'ready']);
  const engine = below(server.child.pid as number).find(({ name }) => /EngineCore/.test(name));
  process.kill((engine as { pid: number }).pid, 'SIGKILL');
  await until(async () => (await ready())[0] === 503, 60);
  const [, status] = await ready();
  expect(status).not.toBe('ready');
  expect((await fetch(`${server.url}/health/live`)).status).toBe(200);
  await until(async () => (await ready())[0] === 200, 200);
  expect((await ask({ max_tokens: 3 })).status).toBe(200);
});

test('at SIGTERM a balancer sees it closing, late requests are served, and no stream is cut', async () => {
  const stream = () =>
    ask({ max_tokens: 300, ignore_eos: true, stream: true }).then(async (response) => {
      expect(response.status).toBe(200);
      return eventsOf(response);
    });
  const early = Array.from({ length: 4 }, stream);
  const headers = { authorization: `Bearer ${key}` };
  await until(async () => {
    const response = await fetch(`${server.url}/lockstep/engine`, { headers });
    return ((await response.json()) as Any).sessions === 4;
  }, 60);
  const closed = once(server.child, 'close');
  server.child.kill('SIGTERM');
  await until(async () => (await ready())[0] === 503);
  expect((await ready())[1]).toBe('closing');
  const late = [stream(), stream()];
  for (const { events, done } of await Promise.all([...early, ...late])) {
    expect(done, JSON.stringify(events.at(-1))).toBe(true);
    expect(events.at(-1).choices[0].finish_reason).toBe('length');
  }
  expect((await closed)[0]).toBe(0);
});
