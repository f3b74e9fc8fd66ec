// Batches on the toy engine: OpenAI's interface, what is refused, keys, idle capacity, full disks.
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BatchStore, type ServerOptions } from '../src/server/index.ts';
import { type Any, type TestClient, until } from './server-client.ts';
import { type Served, toyServers } from './server-fixture.ts';
import type { ToyFaults } from './server-toy.ts';

const { serve } = toyServers();
let root: string;
let folders = 0;

beforeAll(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'ls-batch-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const newFolder = () => path.join(root, String(folders++));

async function withBatches(
  folder = newFolder(),
  faults: ToyFaults = {},
  options: ServerOptions = {},
  bytes?: number,
): Promise<Served & { folder: string }> {
  const batches = await BatchStore.open(folder, bytes);
  return { folder, ...(await serve(faults, { ...options, batches })) };
}

const line = (id: string, body: object = {}, more: object = {}) => ({
  custom_id: id,
  method: 'POST',
  url: '/v1/completions',
  body: { model: 'toy', prompt: `${id}: hello.`, max_tokens: 4, ...body },
  ...more,
});

const jsonl = (lines: readonly unknown[]) =>
  lines.map((one) => `${typeof one === 'string' ? one : JSON.stringify(one)}\n`).join('');

const upload = async ({ client }: TestClient, text: string): Promise<string> => {
  const file = await toFile(Buffer.from(text), 'lines.jsonl');
  return (await client.files.create({ file, purpose: 'batch' })).id;
};

const create = async (served: TestClient, lines: readonly unknown[], more: object = {}) =>
  served.client.batches.create({
    input_file_id: await upload(served, jsonl(lines)),
    endpoint: '/v1/completions',
    completion_window: '24h',
    ...more,
  });

const ENDS = ['completed', 'failed', 'expired', 'cancelled'];

async function ended({ client }: TestClient, id: string, seconds = 20): Promise<Any> {
  let batch: Any;
  await until(async () => {
    batch = await client.batches.retrieve(id);
    return ENDS.includes(batch.status);
  }, seconds);
  return batch;
}

async function answers({ client }: TestClient, file: string): Promise<Any[]> {
  const text = await (await client.files.content(file)).text();
  expect(text.endsWith('\n')).toBe(true);
  return text
    .trimEnd()
    .split('\n')
    .map((one) => JSON.parse(one));
}

describe('a batch', () => {
  test('is uploaded, answered and read by the JavaScript client', async () => {
    const served = await withBatches();
    const lines = [
      line('a'),
      line('b', { max_tokens: 0, echo: true }),
      line('c', { prompt: '' }),
      line('d', { nonsense: 1 }),
      line('e', { n: 2 }),
    ];
    const made = await create(served, lines, { metadata: { for: 'a test' } });
    expect(made).toMatchObject({
      object: 'batch',
      endpoint: '/v1/completions',
      completion_window: '24h',
      status: 'validating',
      metadata: { for: 'a test' },
      errors: null,
      output_file_id: null,
    });
    const batch = await ended(served, made.id);
    expect(batch).toMatchObject({
      status: 'completed',
      request_counts: { total: 5, completed: 3, failed: 2 },
    });
    const good = await answers(served, batch.output_file_id);
    const bad = await answers(served, batch.error_file_id);
    expect(good.map(({ custom_id }) => custom_id).sort()).toEqual(['a', 'b', 'e']);
    expect(
      bad.map(({ custom_id, response }) => [
        custom_id,
        response.status_code,
        response.body.error.code,
      ]),
    ).toEqual([
      ['c', 400, 'invalid_value'],
      ['d', 400, 'unknown_parameter'],
    ]);
    const [first] = good;
    expect(first).toMatchObject({ error: null, response: { status_code: 200 } });
    expect(first.id).toMatch(/^batch_req_/);
    expect(first.response.request_id).toMatch(/^[0-9a-f-]{36}$/);
    // The same answer as over HTTP.
    const direct = (await (await served.post('/v1/completions', lines[0]?.body)).json()) as Any;
    expect(first.response.body.choices).toEqual(direct.choices);
    expect(first.response.body.usage).toEqual(direct.usage);
    const listed = await served.client.files.list();
    expect(listed.data.map(({ purpose }) => purpose).sort()).toEqual([
      'batch',
      'batch_output',
      'batch_output',
    ]);
    expect((await served.client.batches.list()).data.map(({ id }) => id)).toEqual([batch.id]);
    for (const { id } of listed.data) {
      expect((await served.client.files.retrieve(id)).id).toBe(id);
      expect(await served.client.files.delete(id)).toEqual({ id, object: 'file', deleted: true });
    }
    expect((await served.client.files.list()).data).toEqual([]);
  });
});
