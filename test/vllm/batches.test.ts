// Batches with the real vLLM: lines have the answers of HTTP, run together, and give their slots to requests.
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { answers, create, ended, line } from '../batches-client.ts';
import { type Any, until } from '../server-client.ts';
import { type Serving, servers, TEXT } from './serving.ts';

const vllm = servers();
let folder: string;
let server: Serving;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'ls-batch-'));
  server = await vllm.start([], ['--batches', folder, '--max-sessions', '4', '--max-queue', '0']);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('lines have the answers of HTTP, whatever runs beside them', async () => {
  const lines = Array.from({ length: 24 }, (_, i) =>
    line(String(i), { prompt: `${i}. ${TEXT}`, max_tokens: 20 + i, ignore_eos: true }),
  );
  const batch = await ended(server, (await create(server, lines)).id, 240);
  expect(batch.request_counts).toEqual({ total: 24, completed: 24, failed: 0 });
  const all = await answers(server, batch.output_file_id);
  expect(new Set(all.map(({ custom_id }) => custom_id)).size).toBe(24);
  for (const { custom_id, response } of all) {
    const { prompt, max_tokens } = (lines[Number(custom_id)] as (typeof lines)[number]).body as Any;
    expect(response.body.usage.completion_tokens).toBe(max_tokens);
    const direct = await server.post('/v1/completions', {
      prompt,
      max_tokens,
      temperature: 0,
      ignore_eos: true,
    });
    const { choices } = (await direct.json()) as Any;
    expect(response.body.choices[0].text).toBe(choices[0].text);
  }
});

test('requests get all slots that they ask for; the batch goes on after them', async () => {
  const lines = Array.from({ length: 12 }, (_, i) =>
    line(String(i), { max_tokens: 300, ignore_eos: true }),
  );
  const { id } = await create(server, lines);
  await until(async () => (await server.engine()).sessions === 3, 60);
  // Four slots, no queue: one is free, three are held by lines.
  const ask = () => server.post('/v1/completions', { prompt: TEXT, max_tokens: 60 });
  const asked = await Promise.all([ask(), ask(), ask(), ask()]);
  expect(asked.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  const batch = await ended(server, id, 240);
  expect(batch.request_counts).toEqual({ total: 12, completed: 12, failed: 0 });
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const gave = /^lockstep_batch_lines_put_back_total\{reason="gave_way"\} (\d+)/m.exec(metrics);
  expect(Number(gave?.[1])).toBeGreaterThanOrEqual(3);
  await until(async () => (await server.engine()).requests.running === 0);
});
