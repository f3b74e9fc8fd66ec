// docs/openapi.json says what the server does: its routes, its fields, its answers.
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { batchRequest } from '../src/server/batches/request.ts';
import { BatchStore } from '../src/server/index.ts';
import {
  chatRequest,
  completionRequest,
  detokenizeRequest,
  planRequest,
  tokenizeRequest,
} from '../src/server/requests/completions.ts';
import { REFUSED } from '../src/server/requests/parse.ts';
import { responseRequest } from '../src/server/requests/responses.ts';
import { create, ended, line } from './batches-client.ts';
import { problems, readOpenApi, type Sample } from './malformed/openapi.ts';
import { type Any, eventsOf, PROMPT } from './server-client.ts';
import { toyServers } from './server-fixture.ts';

const document = readOpenApi();
const servers = toyServers();
const { serve } = servers;

const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-openapi-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Layer {
  route?: { path: string; methods: Record<string, boolean> };
  handle: { stack?: Layer[] };
}

/** `GET /path` of every route that answers, as Express holds them; `:name` written `{name}`. */
function routesOf(stack: readonly Layer[]): string[] {
  return stack.flatMap((layer): string[] => {
    if (layer.route === undefined) return routesOf(layer.handle.stack ?? []);
    const { path, methods } = layer.route;
    // `app.all` refuses the other methods.
    if (typeof path !== 'string' || methods['put'] || methods['_all']) return [];
    return Object.keys(methods).map(
      (method) => `${method.toUpperCase()} ${path.replaceAll(/:(\w+)/g, '{$1}')}`,
    );
  });
}

describe('docs/openapi.json', () => {
  test('has the routes of the server, and no others', async () => {
    const { server } = await serve();
    const { stack } = (server.app as unknown as { router: { stack: Layer[] } }).router;
    const described = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(routesOf(stack).sort()).toEqual(described.sort());
    expect(described.length).toBeGreaterThan(12);
  });

  test.each([
    ['CompletionRequest', completionRequest],
    ['ChatRequest', chatRequest],
    ['ResponseRequest', responseRequest],
    ['TokenizeRequest', tokenizeRequest],
    ['DetokenizeRequest', detokenizeRequest],
    ['PlanRequest', planRequest],
    ['BatchRequest', batchRequest],
  ])('%s has the fields that the server takes', (name, schema) => {
    const { properties = {}, required = [] } = document.components.schemas[name] as Any;
    const own = Object.keys(schema.shape);
    const neutral = Object.keys(REFUSED).filter((key) => !own.includes(key));
    const generates = !/^(Tokenize|Detokenize|Plan|Batch)/.test(name);
    const expected = generates ? [...own, ...neutral] : own;
    expect(Object.keys(properties).sort()).toEqual(expected.sort());
    for (const key of required) expect(own).toContain(key);
  });

  test('refers to nothing that is not there, and holds nothing that nobody refers to', () => {
    const named = new Set(
      [...JSON.stringify(document).matchAll(/"#\/components\/(\w+)\/(\w+)"/g)].map(
        ([, kind, name]) => `${kind} ${name}`,
      ),
    );
    const { securitySchemes: _, ...components } = document.components as unknown as Any;
    const there = Object.entries(components as Record<string, object>).flatMap(([kind, all]) =>
      Object.keys(all).map((name) => `${kind} ${name}`),
    );
    expect([...named].sort()).toEqual(there.sort());
  });

  test('says which headers and kinds of text an answer has', async () => {
    const { url, post } = await serve({ delayMs: 50 }, { requestsPerMinute: 6 });
    const idOf = async (id: string) => {
      const response = await fetch(`${url}/health`, { headers: { 'x-request-id': id } });
      return response.headers.get('x-request-id');
    };
    const { RequestId, RequestTimeout } = (document.components as Any).parameters;
    for (const id of ['mine-1', 'not mine', 'x'.repeat(129)]) {
      const fits = new RegExp(RequestId.schema.pattern).test(id);
      expect((await idOf(id)) === id, id).toBe(fits);
    }
    const late = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', [RequestTimeout.name]: '0.2' },
      body: JSON.stringify({ prompt: PROMPT, max_tokens: 50 }),
    });
    const code = async (response: Response) => ((await response.json()) as Any).error.code;
    expect([late.status, await code(late)]).toEqual([504, 'deadline_exceeded']);
    const other = await fetch(`${url}/v1/models`, { method: 'PUT' });
    expect([other.status, other.headers.get('allow')]).toEqual([405, 'GET']);
    expect(other.headers.get('x-request-id')).toBeTruthy();
    const metrics = document.paths['/metrics'] as Any;
    const kinds = Object.keys(metrics.get.responses['200'].content);
    for (const kind of kinds) {
      const response = await fetch(`${url}/metrics`, { headers: { accept: kind } });
      expect(response.headers.get('content-type')?.split(';')[0]).toBe(kind);
    }
    const refused: Response[] = [];
    while (refused.length < 8) refused.push(await post('/tokenize', { text: 'a' }));
    const last = refused.at(-1) as Response;
    expect([last.status, await code(last)]).toEqual([429, 'too_many_requests']);
    expect(last.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
  });

  test('is served as it stands', async () => {
    const { url } = await serve({}, { apiKey: 'sk-1' });
    const response = await fetch(`${url}/openapi.json`);
    expect([response.status, await response.json()]).toEqual([200, document]);
  });

  test('answers and errors fit its schemas', { timeout: 300_000 }, async () => {
    const batches = await BatchStore.open(folder);
    const { url, post, client } = await serve({}, { batches });
    const samples: Sample[] = [];
    const get = async (where: string, schema: string) => {
      const response = await fetch(`${url}${where}`);
      expect(response.status).toBe(200);
      samples.push({ schema, value: await response.json() });
    };
    await get('/health', 'Health');
    await get('/health/live', 'Live');
    await get('/health/ready', 'Ready');
    await get('/v1/models', 'ModelList');
    await get('/v1/models/toy', 'Model');
    await get('/lockstep/contract', 'Contract');
    await get('/lockstep/engine', 'Engine');
    const ask = async (where: string, body: Any, schema: string, chunk?: string) => {
      const response = await post(where, body);
      const value = (await response.json()) as Any;
      expect([where, response.status, value.error ?? undefined]).toEqual([where, 200, undefined]);
      samples.push({ schema, value });
      if (chunk === undefined) return;
      const { events } = await eventsOf(await post(where, { ...body, stream: true }));
      expect(events.length).toBeGreaterThan(2);
      samples.push(...events.map((value) => ({ schema: chunk, value })));
    };
    const prompt = PROMPT.repeat(2);
    const lockstep = { sources: true };
    const completion = ['/v1/completions', 'Completion', 'CompletionChunk'] as const;
    for (const body of [
      { prompt, max_tokens: 20 },
      {
        prompt: [[65, 66], [67]],
        n: 2,
        logprobs: 3,
        max_tokens: 4,
      },
      { prompt, echo: true, logprobs: 1, max_tokens: 3 },
      { prompt, max_tokens: 40, lockstep },
    ]) {
      await ask(completion[0], body, completion[1], completion[2]);
    }
    await ask(completion[0], { prompt, max_tokens: 9, lockstep: { segments: true } }, 'Completion');
    const traced = {
      stream_options: { include_usage: true },
      prompt,
      max_tokens: 40,
      stream: true,
      lockstep: { trace: true, sources: true },
    };
    const { events } = await eventsOf(await post(completion[0], traced));
    samples.push(...events.map((value) => ({ schema: 'CompletionChunk', value })));
    const messages = [{ role: 'user', content: PROMPT }];
    await ask(
      '/v1/chat/completions',
      { messages, max_tokens: 8, logprobs: true, top_logprobs: 2 },
      'ChatCompletion',
      'ChatCompletionChunk',
    );
    await ask(
      '/v1/responses',
      { input: PROMPT, max_output_tokens: 8 },
      'Response',
      'ResponseEvent',
    );
    await ask('/tokenize', { text: PROMPT }, 'Tokens');
    await ask('/detokenize', { tokens: [72, 105] }, 'Text');
    await ask('/lockstep/plan', { text: PROMPT }, 'Plan');
    const made = await create({ client }, [line('a'), line('b', { more: 1 })]);
    const failed = await create({ client }, ['{']);
    samples.push({ schema: 'Batch', value: made });
    samples.push({ schema: 'Batch', value: await ended({ client }, failed.id) });
    const batch = await ended({ client }, made.id);
    await get(`/v1/batches/${batch.id}`, 'Batch');
    await get('/v1/batches', 'BatchList');
    await get('/v1/files', 'FileList');
    await get(`/v1/files/${batch.error_file_id}`, 'File');
    const deleted = await client.files.delete(batch.error_file_id);
    samples.push({ schema: 'FileDeleted', value: deleted });
    const gone = await fetch(`${url}/v1/files/${batch.error_file_id}/content`);
    samples.push({ schema: 'Error', value: await gone.json() });
    for (const body of ['{', {}, { prompt: 'a', none: 1 }, { prompt: 'a', best_of: 2 }]) {
      const response = await post('/v1/completions', body);
      expect(response.status).toBe(400);
      samples.push({ schema: 'Error', value: await response.json() });
    }
    expect(samples.length).toBeGreaterThan(150);
    expect(await problems(samples)).toEqual([]);
    // A schema that takes everything would not find this.
    const [first] = samples.filter(({ schema }) => schema === 'Completion');
    const more = { ...(first?.value as object), more: 1 };
    expect(await problems([{ schema: 'Completion', value: more }])).toHaveLength(1);
    const other = { error: { message: '', type: 'server_error', param: null, code: 'oops' } };
    expect(await problems([{ schema: 'Error', value: other }])).toHaveLength(1);
  });
});
