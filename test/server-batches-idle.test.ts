// Batches use what others leave: slots, steps, tokens of a key. Who has which key sees which batch.
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { AuditLog, changeKeys, KeyRing, newKey } from '../src/server/index.ts';
import { answers, create, ended, line } from './batches-client.ts';
import { batchServers } from './batches-fixture.ts';
import { type Any, PROMPT, until } from './server-client.ts';
import { makeToy, type ToyEngine } from './server-toy.ts';

const { serve, newFolder } = batchServers(() => makeToy(null));

const many = (count: number, body: object) =>
  Array.from({ length: count }, (_, i) => line(String(i), body));

const metric = async (url: string, name: string): Promise<number> => {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^${name}(?:\\{.*\\})? (.*)$`, 'm').exec(text)?.[1] ?? 0);
};

/** Every step from now on: whose it is, and of how many tokens. */
function stepsOf(engine: ToyEngine): { id: string | undefined; tokens: number }[] {
  const log: { id: string | undefined; tokens: number }[] = [];
  const open = engine.open.bind(engine);
  engine.open = async () => {
    const session = await open();
    const step = session.step.bind(session);
    session.step = (tokens, options) => {
      log.push({ id: session.id, tokens: tokens.length });
      return step(tokens, options);
    };
    return session;
  };
  return log;
}

describe('idle capacity', () => {
  test('a request takes the slot of a line at once, and the line runs again', async () => {
    const served = await serve({ delayMs: 5 }, { maxSessions: 2, maxQueue: 0, batchSlots: 2 });
    const { id } = await create(served, many(4, { max_tokens: 300 }));
    await until(() => served.engine.sessions === 2);
    // Both slots are held by lines, and nobody may queue: each request has a slot all the same.
    const ask = () => served.post('/v1/completions', { prompt: PROMPT, max_tokens: 10 });
    const asked = await Promise.all([ask(), ask()]);
    expect(asked.map(({ status }) => status)).toEqual([200, 200]);
    const batch = await ended(served, id);
    expect(batch.request_counts).toEqual({ total: 4, completed: 4, failed: 0 });
    const reason = 'lockstep_batch_lines_put_back_total{reason="gave_way"}';
    expect(await metric(served.url, reason.replace(/[{}]/g, '\\$&'))).toBeGreaterThanOrEqual(1);
    const ids = (await answers(served, batch.output_file_id)).map(({ custom_id }) => custom_id);
    expect(ids.sort()).toEqual(['0', '1', '2', '3']);
  });

  test('no step of a line runs while an answer is written', async () => {
    const served = await serve({ delayMs: 3 }, { maxSessions: 4, batchSlots: 3 });
    const log = stepsOf(served.engine);
    const { id } = await create(served, many(12, { max_tokens: 40 }));
    await until(() => served.engine.sessions === 3);
    const answer = await served.post('/v1/completions', { prompt: 'abc', max_tokens: 30 });
    const { usage } = (await answer.json()) as Any;
    expect(usage.completion_tokens).toBe(30);
    // Whose step ran when, from the first to the last one of the answer.
    const own = log.find(({ tokens }) => tokens === 3)?.id;
    const ids = log.map(({ id }) => id);
    const during = ids.slice(ids.indexOf(own), ids.lastIndexOf(own) + 1);
    expect(during.filter((one) => one === own)).toHaveLength(30);
    // The step that ran when the request came may end after its first one has been asked for.
    expect(during.filter((one) => one !== own).length).toBeLessThanOrEqual(1);
    expect(served.engine.sessions).toBeGreaterThan(0);
    expect((await ended(served, id, 60)).request_counts.completed).toBe(12);
  });

  test('lines are no part of the latencies that operators watch', async () => {
    const served = await serve();
    await ended(served, (await create(served, many(3, {}))).id);
    expect(await metric(served.url, 'lockstep_queue_seconds_count')).toBe(0);
    const text = await (await fetch(`${served.url}/metrics`)).text();
    expect(text).not.toContain('route="/v1/completions"');
    expect(text).toContain('lockstep_generations_total{model="toy",outcome="length"} 3');
  });
});

describe('keys', () => {
  const keyFile = () => `${newFolder()}.keys.json`;

  async function withKeys(limits: Record<string, object>) {
    const file = keyFile();
    const keys: Record<string, { key: string; id: string }> = {};
    for (const [name, limit] of Object.entries(limits)) {
      const { key, id, hash } = await newKey();
      keys[name] = { key, id };
      const created = new Date().toISOString();
      await changeKeys(file, (all) => [
        ...all,
        { name, id, hash, created, limits: limit, metrics: name === 'ann' },
      ]);
    }
    return { file, keys };
  }

  const as = (url: string, key: string) => ({
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 }),
  });

  test('another key gets 404; the audit log has ids and counts, and no text', async () => {
    const { file, keys } = await withKeys({ ann: {}, bob: {} });
    const log = `${newFolder()}.audit`;
    const audit = new AuditLog(log, () => {});
    const served = await serve({}, { keys: await KeyRing.open(file), audit });
    const ann = as(served.url, keys['ann']?.key ?? '');
    const bob = as(served.url, keys['bob']?.key ?? '');
    const made = await create(ann, [line('secret-id', { prompt: 'secret prompt' })]);
    const batch = await ended(ann, made.id);
    expect(batch.request_counts.completed).toBe(1);
    for (const asked of [
      () => bob.client.batches.retrieve(batch.id),
      () => bob.client.batches.cancel(batch.id),
      () => bob.client.files.retrieve(batch.output_file_id),
      () => bob.client.files.content(batch.output_file_id),
      () => bob.client.files.delete(batch.input_file_id),
      () =>
        bob.client.batches.create({
          input_file_id: batch.input_file_id,
          endpoint: '/v1/completions',
          completion_window: '24h',
        }),
    ]) {
      await expect(asked()).rejects.toMatchObject({ status: 404 });
    }
    expect((await bob.client.batches.list()).data).toEqual([]);
    expect((await bob.client.files.list()).data).toEqual([]);
    const [answer] = await answers(ann, batch.output_file_id);
    const text = await readFile(log, 'utf8');
    expect(text).not.toContain('secret');
    const lines = text
      .trimEnd()
      .split('\n')
      .map((one) => JSON.parse(one));
    const own = lines.filter((one) => one.batch === batch.id);
    expect(own.map(({ event, status }) => [event, status])).toEqual([
      ['batch', 'validating'],
      ['request', 200],
      ['batch', 'completed'],
    ]);
    expect(own[1]).toMatchObject({
      caller: 'ann',
      key: keys['ann']?.id,
      route: '/v1/completions',
      requestId: answer.response.request_id,
      client: null,
      completion_tokens: 4,
    });
    expect(own[2]).toMatchObject({ total: 1, completed: 1, failed: 0 });
    audit.close();
  });

  test('tokens count: what the budget does not allow within the window fails with its code', async () => {
    // 10 tokens of a prompt and 4 of an answer each.
    const { file, keys } = await withKeys({ ann: { tokensPerDay: 30 } });
    const served = await serve({}, { keys: await KeyRing.open(file) });
    const ann = as(served.url, keys['ann']?.key ?? '');
    const lines = many(4, { prompt: '0123456789' });
    const batch = await ended(ann, (await create(ann, lines, { completion_window: '1h' })).id);
    expect(batch.request_counts).toEqual({ total: 4, completed: 2, failed: 2 });
    const refused = await answers(ann, batch.error_file_id);
    for (const { response } of refused) {
      expect([response.status_code, response.body.error.code]).toEqual([429, 'token_budget_spent']);
    }
  });

  test('a budget that is there again within the window pauses the batch, and no request of others', async () => {
    const { file, keys } = await withKeys({ ann: { tokensPerMinute: 30 }, bob: {} });
    const served = await serve({}, { keys: await KeyRing.open(file) });
    const ann = as(served.url, keys['ann']?.key ?? '');
    const bob = as(served.url, keys['bob']?.key ?? '');
    const { id } = await create(ann, many(4, { prompt: '0123456789' }));
    const paused = async () => ((await ann.client.batches.retrieve(id)) as Any).lockstep.paused;
    await until(async () => (await paused()) !== null);
    expect(await paused()).toMatchObject({ code: 'too_many_tokens' });
    const others = await ended(bob, (await create(bob, many(2, {}))).id);
    expect(others.request_counts.completed).toBe(2);
    expect((await ann.client.batches.retrieve(id)).request_counts?.completed).toBe(2);
    await ann.client.batches.cancel(id);
    expect((await ended(ann, id)).status).toBe('cancelled');
  });

  test('the slots of a key are not those of its batches', async () => {
    const { file, keys } = await withKeys({ ann: { sessions: 1 } });
    const served = await serve({ delayMs: 3 }, { keys: await KeyRing.open(file), batchSlots: 2 });
    const { key = '' } = keys['ann'] ?? {};
    const ann = as(served.url, key);
    const { id } = await create(ann, many(6, { max_tokens: 20 }));
    await until(() => served.engine.sessions === 2);
    const text = await ann.client.completions.create({ model: 'toy', prompt: 'a', max_tokens: 3 });
    expect(text.usage?.completion_tokens).toBe(3);
    expect((await ended(ann, id)).request_counts.completed).toBe(6);
  });

  test('lines of a key that is gone wait until it is back', async () => {
    const { file, keys } = await withKeys({ ann: {}, bob: {} });
    const ring = await KeyRing.open(file);
    const served = await serve({ delayMs: 5 }, { keys: ring });
    const ann = as(served.url, keys['ann']?.key ?? '');
    const { id } = await create(ann, many(5, { max_tokens: 10 }));
    await until(() => served.engine.sessions === 1);
    let gone: Any;
    await changeKeys(file, (all) => {
      gone = all.find(({ name }) => name === 'ann');
      return all.filter(({ name }) => name !== 'ann');
    });
    await ring.reload();
    await until(() => served.engine.sessions === 0);
    const steps = served.engine.steps;
    await changeKeys(file, (all) => [...all, gone]);
    expect(served.engine.steps).toBe(steps);
    await ring.reload();
    expect((await ended(ann, id)).request_counts.completed).toBe(5);
    await rm(path.join(file), { force: true });
  });
});
