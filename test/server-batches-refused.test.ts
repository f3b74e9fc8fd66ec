// Batches and files that are refused: each with a code, none with 500.
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { partsOf } from '../src/server/batches/multipart.ts';
import { create, ended, jsonl, line, upload } from './batches-client.ts';
import { batchServers } from './batches-fixture.ts';
import type { Any } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

const { serve } = batchServers(() => makeToy(null));
const plain = toyServers(() => makeToy(null));

describe('an input file is refused', () => {
  const good = line('good');
  test.each<[code: string, lines: unknown[], at: number | null, param?: string | null]>([
    ['invalid_json_line', [good, '{"custom_id":'], 2],
    ['invalid_json_line', ['[]', good], 1],
    ['invalid_json_line', ['\ufeff{}x'], 1],
    ['duplicate_custom_id', [good, line('other'), good], 3, 'custom_id'],
    ['missing_parameter', [{ ...good, custom_id: undefined }], 1, 'custom_id'],
    ['invalid_custom_id', [line('')], 1, 'custom_id'],
    ['invalid_custom_id', [line('x'.repeat(513))], 1, 'custom_id'],
    ['invalid_custom_id', [{ ...good, custom_id: 7 }], 1, 'custom_id'],
    ['invalid_method', [line('a', {}, { method: 'GET' })], 1, 'method'],
    ['invalid_url', [line('a', {}, { url: '/v1/chat/completions' })], 1, 'url'],
    ['invalid_url', [line('a', {}, { url: '/v1/completions/../../metrics' })], 1, 'url'],
    ['invalid_body', [line('a', {}, { body: [1] })], 1, 'body'],
    ['unknown_parameter', [line('a', {}, { more: 1 })], 1, 'more'],
    ['model_not_found', [line('a', { model: 'other' })], 1, 'body.model'],
    ['stream_not_supported', [line('a', { stream: true })], 1, 'body.stream'],
    ['line_too_long', [line('a', { prompt: 'x'.repeat(80_000) })], 1],
    ['empty_file', ['', '  '], null, 'input_file_id'],
  ])('%s', async (code, lines, at, param = null) => {
    const served = await serve({}, { maxBodyBytes: 65_536 });
    const batch = await ended(served, (await create(served, lines)).id);
    expect(batch.status).toBe('failed');
    expect(batch.errors).toEqual({
      object: 'list',
      data: [{ code, message: expect.stringMatching(/xpected/), param, line: at }],
    });
    expect(batch.request_counts.total).toBe(0);
    expect(served.engine.steps).toBe(0);
  });

  test('with every line that is wrong, up to 100; with more than 50,000 lines', {
    timeout: 60_000,
  }, async () => {
    const served = await serve();
    const many = Array.from({ length: 150 }, () => '{}');
    const batch = await ended(served, (await create(served, many)).id);
    expect(batch.errors.data.map((one: Any) => one.line)).toEqual(
      many.slice(0, 100).map((_, i) => i + 1),
    );
    const text = Array.from({ length: 50_001 }, (_, i) => jsonl([line(String(i))])).join('');
    const large = await served.client.batches.create({
      input_file_id: await upload(served, text),
      endpoint: '/v1/completions',
      completion_window: '24h',
    });
    const refused = await ended(served, large.id);
    expect(refused.errors.data).toMatchObject([{ code: 'too_many_lines', line: 50_001 }]);
  });
});

describe('a request is refused', () => {
  test('for a batch that cannot be made', async () => {
    const served = await serve();
    const file = await upload(served, jsonl([line('a')]));
    const good = { input_file_id: file, endpoint: '/v1/completions', completion_window: '24h' };
    const ask = async (body: unknown) => {
      const answer = await served.post('/v1/batches', body);
      const { error } = (await answer.json()) as Any;
      return [answer.status, error.code, error.param];
    };
    for (const [body, ...expected] of [
      [{ ...good, input_file_id: 'file-1' }, 404, 'file_not_found', 'input_file_id'],
      [{ ...good, input_file_id: `../files/${file}` }, 404, 'file_not_found', 'input_file_id'],
      [{ ...good, input_file_id: undefined }, 400, 'missing_parameter', 'input_file_id'],
      [{ ...good, endpoint: '/v1/embeddings' }, 400, 'invalid_value', 'endpoint'],
      [{ ...good, completion_window: 'soon' }, 400, 'invalid_value', 'completion_window'],
      [{ ...good, completion_window: '31d' }, 400, 'invalid_value', 'completion_window'],
      [{ ...good, metadata: { a: 1 } }, 400, 'invalid_type', 'metadata.a'],
      [{ ...good, output_expires_after: {} }, 400, 'unknown_parameter', 'output_expires_after'],
      ['{', 400, 'invalid_json', null],
    ] as const) {
      expect([body, ...(await ask(body))]).toEqual([body, ...expected]);
    }
    const batch = await ended(served, (await create(served, [line('a')])).id);
    const used = await ask({ ...good, input_file_id: batch.output_file_id });
    expect(used).toEqual([400, 'invalid_value', 'input_file_id']);
  });

  test('for more than 50 batches that are open, however many are asked for at once', async () => {
    const served = await serve({ delayMs: 50 });
    const file = await upload(served, jsonl([line('a', { max_tokens: 200 })]));
    const ask = { input_file_id: file, endpoint: '/v1/completions', completion_window: '24h' };
    const asked = Array.from({ length: 70 }, () => served.post('/v1/batches', ask));
    const statuses = (await Promise.all(asked)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(50);
    expect(statuses.filter((status) => status === 429)).toHaveLength(20);
  });

  test('for a file that is being deleted, and a deletion for a batch that is being made', async () => {
    const served = await serve({ delayMs: 50 });
    for (let round = 0; round < 12; round++) {
      const file = await upload(served, jsonl([line('a', { max_tokens: 1 })]));
      const ask = { input_file_id: file, endpoint: '/v1/completions', completion_window: '24h' };
      const remove = () => fetch(`${served.url}/v1/files/${file}`, { method: 'DELETE' });
      const make = () => served.post('/v1/batches', ask);
      const both = round % 2 === 0 ? [make(), remove()] : [remove(), make()].reverse();
      const [made, removed] = (await Promise.all(both)).map(({ status }) => status);
      expect([`${made} ${removed}`]).toEqual([expect.stringMatching(/^(200 400|404 200)$/)]);
    }
  });

  test('for an id that is none, and for pages that are none', async () => {
    const served = await serve();
    const ids = ['x', '..%2f..%2fetc%2fpasswd', '%2e%2e', 'file-%00', `file-${'0'.repeat(24)}`];
    for (const id of ids) {
      for (const [method, where] of [
        ['GET', `/v1/files/${id}`],
        ['GET', `/v1/files/${id}/content`],
        ['DELETE', `/v1/files/${id}`],
        ['GET', `/v1/batches/${id}`],
        ['POST', `/v1/batches/${id}/cancel`],
      ] as const) {
        // fetch would resolve the dots itself.
        const { status } = await fetch(`${served.url}${where}`, { method });
        expect([where, status]).toEqual([where, 404]);
      }
    }
    for (const query of [
      'limit=0',
      'limit=x',
      'after=none',
      'limit=1&limit=2',
      'other=1',
      'limit=101',
    ]) {
      const answer = await fetch(`${served.url}/v1/batches?${query}`);
      expect([query, answer.status]).toEqual([query, 400]);
    }
    expect((await fetch(`${served.url}/v1/files`, { method: 'PUT' })).status).toBe(405);
  });

  test('lists have pages', async () => {
    const served = await serve();
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) ids.unshift((await create(served, [line(String(i))])).id);
    const seen: string[] = [];
    for await (const { id } of served.client.batches.list({ limit: 2 })) seen.push(id);
    expect(seen).toEqual(ids);
    const page = await served.client.files.list({ limit: 2, order: 'asc', purpose: 'batch' });
    expect([page.data.length, page.has_more]).toEqual([2, true]);
    for (const id of ids) await ended(served, id);
  });
});

/** An upload as bytes of our own. */
const form = (parts: readonly [head: string, data: string][], end = '--X--\r\n') =>
  parts.map(([head, data]) => `--X\r\n${head}\r\n\r\n${data}\r\n`).join('') + end;
const named = (name: string, more = '') => `Content-Disposition: form-data; name="${name}"${more}`;
const FILE = named('file', '; filename="a.jsonl"');
const purpose: [string, string] = [named('purpose'), 'batch'];
const content: [string, string] = [FILE, jsonl([line('a')])];
const multipart = { 'content-type': 'multipart/form-data; boundary=X' };

describe('an upload is refused', () => {
  test.each<[what: string, body: string, headers: object, status: number, code: string]>([
    ['JSON', '{}', { 'content-type': 'application/json' }, 415, 'unsupported_media_type'],
    ['no boundary', 'x', { 'content-type': 'multipart/form-data' }, 400, 'invalid_value'],
    ['no form', 'x', multipart, 400, 'body_incomplete'],
    ['an end too early', form([purpose, content], ''), multipart, 400, 'body_incomplete'],
    ['a part without a name', form([['x-a: b', 'c']]), multipart, 400, 'invalid_value'],
    ['no file', form([purpose]), multipart, 400, 'missing_parameter'],
    ['no purpose', form([content]), multipart, 400, 'missing_parameter'],
    ['a text as file', form([purpose, [named('file'), 'x']]), multipart, 400, 'invalid_type'],
    [
      'another purpose',
      form([[named('purpose'), 'assistants'], content]),
      multipart,
      400,
      'invalid_value',
    ],
    ['a file twice', form([purpose, content, content]), multipart, 400, 'invalid_value'],
    ['an empty file', form([purpose, [FILE, '']]), multipart, 400, 'empty_file'],
    [
      'an unknown field',
      form([purpose, content, [named('more'), '1']]),
      multipart,
      400,
      'unknown_parameter',
    ],
    [
      'an expiry',
      form([purpose, content, [named('expires_after[seconds]'), '1']]),
      multipart,
      400,
      'unsupported_parameter',
    ],
    [
      'a large field',
      form([[named('purpose'), 'x'.repeat(5000)], content]),
      multipart,
      400,
      'invalid_value',
    ],
    [
      'a large head',
      form([[`${FILE}\r\nx: ${'y'.repeat(10_000)}`, 'x'], purpose]),
      multipart,
      400,
      'invalid_value',
    ],
    [
      'an encoding',
      form([purpose, content]),
      { ...multipart, 'content-encoding': 'gzip' },
      415,
      'unsupported_encoding',
    ],
    [
      'a foreign page',
      form([purpose, content]),
      { ...multipart, origin: 'https://example.org' },
      403,
      'foreign_origin',
    ],
    [
      'too many bytes',
      form([purpose, [FILE, 'x'.repeat(30_000)]]),
      multipart,
      413,
      'file_too_large',
    ],
    [
      'far too many bytes',
      form([purpose, [FILE, 'x'.repeat(200_000)]]),
      multipart,
      413,
      'file_too_large',
    ],
  ])('%s', async (_, body, headers, status, code) => {
    const served = await serve({}, {}, { bytes: 20_000 });
    const post = () =>
      served.post('/v1/files', body, { headers: headers as Record<string, string> });
    const answer = await post();
    const { error } = (await answer.json()) as Any;
    expect([answer.status, error.code]).toEqual([status, code]);
    // Nothing is left of it, and the next one is taken.
    const names = await readdir(path.join(served.folder, 'files'));
    expect(names).toEqual([]);
    const metrics = await (await fetch(`${served.url}/metrics`)).text();
    expect(metrics).toContain('lockstep_batch_bytes 0');
    await upload(served, jsonl([line('a')]));
  });

  test('where files have all the room; deleting one makes room', async () => {
    const served = await serve({}, {}, { bytes: 20_000 });
    const text = 'x'.repeat(9_000);
    const first = await upload(served, text);
    await upload(served, text);
    await expect(upload(served, text)).rejects.toMatchObject({ status: 507, code: 'storage_full' });
    await served.client.files.delete(first);
    await upload(served, text);
  });

  test('of every way in which its bytes may be cut, the file is the same', async () => {
    const parts: [string, string][] = [[FILE, 'a\r\n--Y\r\n--\r\n-\r\n'], purpose];
    const bytes = Buffer.from(`preamble\r\n${form(parts)}epilogue`);
    for (let size = 1; size < 40; size++) {
      async function* pieces() {
        for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
      }
      let file = '';
      let in_ = '';
      for await (const event of partsOf(pieces(), 'X')) {
        if (event.type === 'head') in_ = event.name;
        if (event.type === 'data' && in_ === 'file') file += event.bytes;
      }
      expect([size, file]).toEqual([size, 'a\r\n--Y\r\n--\r\n-\r\n']);
    }
  });
});

describe('a server without batches', () => {
  test('says so on every route', async () => {
    const { url } = await plain.serve();
    for (const [method, where] of [
      ['POST', '/v1/files'],
      ['GET', '/v1/files/x/content'],
      ['POST', '/v1/batches'],
      ['POST', '/v1/batches/x/cancel'],
    ] as const) {
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(`${url}${where}`, { method, headers });
      const { error } = (await answer.json()) as Any;
      expect([where, answer.status, error.code]).toEqual([where, 404, 'batches_off']);
    }
  });
});
