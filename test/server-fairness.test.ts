// Slots by key: one client cannot take them all, and who waits gets the next one in turn.
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { changeKeys, KeyRing, newKey } from '../src/server/index.ts';
import { type Any, PROMPT, until } from './server-client.ts';
import { type Served, toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

const { serve } = toyServers(() => makeToy(null));
let folder: string;
let ring: string;
const keys: Record<string, string> = {};

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-fairness-'));
  ring = path.join(folder, 'keys.json');
  for (const name of ['greedy', 'modest', 'watcher']) {
    const { key, id, hash } = await newKey();
    keys[name] = key;
    const created = new Date().toISOString();
    await changeKeys(ring, (all) => [
      ...all,
      { name, id, hash, created, metrics: name === 'watcher' },
    ]);
  }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const ask = ({ post }: Served, name: string, more: object = {}, signal?: AbortSignal) =>
  post(
    '/v1/completions',
    { prompt: PROMPT, max_tokens: 3, ...more },
    {
      headers: { 'content-type': 'application/json', authorization: `Bearer ${keys[name]}` },
      ...(signal === undefined ? {} : { signal }),
    },
  );

/** Streams of `greedy` that go on until they are left. */
async function flood(served: Served, count: number) {
  const leave = Array.from({ length: count }, () => new AbortController());
  for (const one of leave) {
    const endless = { max_tokens: 9000, ignore_eos: true, stream: true };
    void ask(served, 'greedy', endless, one.signal).catch(() => {});
  }
  return leave;
}

describe('slots by key', () => {
  test('one key cannot hold every slot: another client is served at once', async () => {
    const served = await serve({ delayMs: 5 }, { maxSessions: 4, keys: await KeyRing.open(ring) });
    const leave = await flood(served, 6);
    await until(() => served.engine.sessions === 3);
    const modest = await ask(served, 'modest');
    expect(modest.status).toBe(200);
    expect(((await modest.json()) as Any).usage.completion_tokens).toBe(3);
    // The three that wait still wait: the fourth slot is not theirs.
    expect(served.engine.sessions).toBe(3);
    for (const one of leave) one.abort();
    await until(() => served.engine.sessions === 0);
  });

  test('the next free slot goes to the key that holds none, whoever came first', async () => {
    const options = { maxSessions: 2, maxPerCaller: 2, keys: await KeyRing.open(ring) };
    const served = await serve({ delayMs: 5 }, options);
    const leave = await flood(served, 2);
    await until(() => served.engine.sessions === 2);
    const order: string[] = [];
    const later = Array.from({ length: 3 }, () =>
      ask(served, 'greedy').then(() => order.push('greedy')),
    );
    await until(async () => (await waiting(served)) === 3);
    const modest = ask(served, 'modest').then(() => order.push('modest'));
    await until(async () => (await waiting(served)) === 4);
    leave[0]?.abort();
    await Promise.all([modest, ...later]);
    expect(order[0]).toBe('modest');
    leave[1]?.abort();
    await until(() => served.engine.sessions === 0);
  });

  test('a full queue gives up a request of the key that has most in it', async () => {
    const options = { maxSessions: 1, maxQueue: 3, keys: await KeyRing.open(ring) };
    const served = await serve({ delayMs: 5 }, options);
    const leave = await flood(served, 1);
    await until(() => served.engine.sessions === 1);
    const later = Array.from({ length: 3 }, () => ask(served, 'greedy'));
    await until(async () => (await waiting(served)) === 3);
    expect((await ask(served, 'greedy')).status).toBe(429);
    const modest = ask(served, 'modest');
    // The youngest of the other key's made room.
    const refused = await Promise.race(later);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    leave[0]?.abort();
    expect((await modest).status).toBe(200);
    const statuses = (await Promise.all(later)).map(({ status }) => status).sort();
    expect(statuses).toEqual([200, 200, 429]);
  });
});

/** Requests that wait for a slot, as the key that may read /metrics sees them. */
async function waiting({ url }: Served): Promise<number> {
  const headers = { authorization: `Bearer ${keys['watcher']}` };
  const text = await (await fetch(`${url}/metrics`, { headers })).text();
  return Number(/^lockstep_queue_waiting\{model="toy"\} (\d+)/m.exec(text)?.[1]);
}
