// Batches on the toy engine: OpenAI's interface, files, what is refused.
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { answers, create, ended, line } from './batches-client.ts';
import { batchServers } from './batches-fixture.ts';
import { type Any, PROMPT, until } from './server-client.ts';

const { serve } = batchServers();

describe('a batch', () => {
  test('is uploaded, answered and read by the JavaScript client', async () => {
    const served = await serve();
    const { client } = served;
    const lines = [
      line('a'),
      line('b', { max_tokens: 0, echo: true }),
      line('c', { prompt: '' }),
      line('d', { nonsense: 1 }),
      line('e', { n: 2, model: 'toy' }),
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
      request_counts: { total: 0, completed: 0, failed: 0 },
    });
    expect((made.expires_at ?? 0) - made.created_at).toBe(24 * 3600);
    const batch = await ended(served, made.id);
    expect(batch).toMatchObject({
      status: 'completed',
      request_counts: { total: 5, completed: 3, failed: 2 },
    });
    const good = await answers(served, batch.output_file_id);
    const bad = await answers(served, batch.error_file_id);
    expect(good.map(({ custom_id }) => custom_id).sort()).toEqual(['a', 'b', 'e']);
    const codes = bad.map(({ custom_id, response: { status_code, body } }) => [
      custom_id,
      status_code,
      body.error.code,
    ]);
    expect(codes).toEqual([
      ['c', 400, 'invalid_value'],
      ['d', 400, 'unknown_parameter'],
    ]);
    const [first] = good;
    expect(first).toMatchObject({ error: null, response: { status_code: 200 } });
    expect(first.id).toMatch(/^batch_req_[0-9a-f]{24}$/);
    expect(first.response.request_id).toMatch(/^[0-9a-f-]{36}$/);
    // The same answer as over HTTP.
    const direct = (await (await served.post('/v1/completions', lines[0]?.body)).json()) as Any;
    const { choices, usage } = first.response.body;
    expect([choices, usage.total_tokens]).toEqual([direct.choices, direct.usage.total_tokens]);
    const listed = (await client.files.list()).data;
    const purposes = listed.map(({ purpose }) => purpose).sort();
    expect(purposes).toEqual(['batch', 'batch_output', 'batch_output']);
    expect((await client.batches.list()).data.map(({ id }) => id)).toEqual([batch.id]);
    for (const { id } of listed) {
      expect((await client.files.retrieve(id)).id).toBe(id);
      expect(await client.files.delete(id)).toEqual({ id, object: 'file', deleted: true });
    }
    expect((await client.files.list()).data).toEqual([]);
    await expect(client.files.retrieve(listed[0]?.id ?? '')).rejects.toMatchObject({ status: 404 });
  });

  test('of chats and of responses; large bodies are read by a thread', async () => {
    const served = await serve({}, { maxTokens: 100_000 });
    const url = '/v1/chat/completions';
    const messages = [{ role: 'user', content: PROMPT.repeat(400) }];
    const chats = [
      line('large', {}, { url, body: { messages, max_tokens: 3 } }),
      line('small', {}, { url, body: { messages: [{ role: 'user', content: 'Hi.' }] } }),
      line('tools', {}, { url, body: { messages: [], tools: 7 } }),
    ];
    const chat = await ended(served, (await create(served, chats, { endpoint: url })).id);
    expect(chat.request_counts).toEqual({ total: 3, completed: 2, failed: 1 });
    const good = await answers(served, chat.output_file_id);
    const large = good.find(({ custom_id }) => custom_id === 'large').response.body;
    expect(large.object).toBe('chat.completion');
    expect(large.usage.prompt_tokens).toBeGreaterThan(16_384);
    const to = '/v1/responses';
    const responses = [line('r', {}, { url: to, body: { input: 'Hi.', max_output_tokens: 3 } })];
    const batch = await ended(served, (await create(served, responses, { endpoint: to })).id);
    const [answer] = await answers(served, batch.output_file_id);
    expect(answer.response.body).toMatchObject({ object: 'response', status: 'incomplete' });
    expect(batch.error_file_id).toBeNull();
  });

  test('is cancelled: what was answered stays, the rest never runs', async () => {
    const served = await serve({ delayMs: 5 });
    const lines = Array.from({ length: 30 }, (_, i) => line(String(i), { max_tokens: 8 }));
    const { id } = await create(served, lines);
    await until(async () => {
      const { request_counts: counts } = await served.client.batches.retrieve(id);
      return (counts?.completed ?? 0) >= 2;
    });
    const asked = await served.client.batches.cancel(id);
    expect(['cancelling', 'cancelled']).toContain(asked.status);
    const batch = await ended(served, id);
    const { completed, total } = batch.request_counts;
    expect([batch.status, batch.error_file_id, total]).toEqual(['cancelled', null, 30]);
    expect(completed).toBeLessThan(30);
    expect(await answers(served, batch.output_file_id)).toHaveLength(completed);
    await until(() => served.engine.sessions === 0);
    expect((await served.client.batches.cancel(id)).status).toBe('cancelled');
    const done = await ended(served, (await create(served, [line('x')])).id);
    await expect(served.client.batches.cancel(done.id)).rejects.toMatchObject({
      status: 400,
      code: 'batch_not_cancellable',
    });
  });

  test('expires: lines without an answer are told so', async () => {
    const served = await serve({ delayMs: 20 });
    const lines = Array.from({ length: 40 }, (_, i) => line(String(i), { max_tokens: 8 }));
    const { id } = await create(served, lines, { completion_window: '2s' });
    const batch = await ended(served, id);
    const { completed, failed } = batch.request_counts;
    expect([batch.status, completed + failed]).toEqual(['expired', 40]);
    expect(completed).toBeGreaterThan(0);
    const late = await answers(served, batch.error_file_id);
    expect(late).toHaveLength(failed);
    expect(late[0]).toMatchObject({ response: null, error: { code: 'batch_expired' } });
    const ids = [...(await answers(served, batch.output_file_id)), ...late];
    expect(new Set(ids.map(({ custom_id }) => custom_id)).size).toBe(40);
  });

  test('tries a line again that failed for a reason that may pass, and no more than 3 times', async () => {
    const served = await serve({ failAt: 20, failCode: 'LS_VLLM_FAILED' });
    const { id } = await create(served, [
      line('long', { max_tokens: 30 }),
      line('s', { max_tokens: 1 }),
    ]);
    const batch = await ended(served, id);
    expect(batch.request_counts).toEqual({ total: 2, completed: 1, failed: 1 });
    const [failed] = await answers(served, batch.error_file_id);
    expect(failed.response).toMatchObject({
      status_code: 502,
      body: { error: { code: 'LS_VLLM_FAILED' } },
    });
    const metrics = await (await fetch(`${served.url}/metrics`)).text();
    expect(metrics).toContain('lockstep_batch_lines_put_back_total{reason="LS_VLLM_FAILED"} 2');
    expect(metrics).toContain('lockstep_batch_lines_total{outcome="completed"} 1');
    expect(metrics).toContain('lockstep_batch_lines_total{outcome="failed"} 1');
    expect(metrics).toContain('lockstep_batch_lines_waiting 0');
  });

  test('keeps its files to the user of the server', async () => {
    const served = await serve();
    await ended(served, (await create(served, [line('a')])).id);
    let names: string[] = [];
    await until(async () => {
      names = await readdir(served.folder, { recursive: true });
      return !names.some((name) => /spare|(output|error)\.jsonl/.test(name));
    });
    expect(names.length).toBeGreaterThan(5);
    for (const name of ['', ...names]) {
      const found = await stat(path.join(served.folder, name));
      if (found.isSocket()) continue;
      expect([name, found.mode & 0o777]).toEqual([name, found.isDirectory() ? 0o700 : 0o600]);
    }
    expect(names.filter((name) => /part|tmp/.test(name))).toEqual([]);
  });
});
