// Keys, logs, metrics, headers, and how the server closes.
import OpenAI from 'openai';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { createServer } from '../src/server/index.ts';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { ToyEngine } from './server-toy.ts';

const servers = toyServers();
const { serve } = servers;

describe('keys, logs, metrics, the end', () => {
  test('an API key is asked for, except by health and the page', async () => {
    const { url, post } = await serve({}, { apiKey: 's3cret' });
    expect((await fetch(`${url}/v1/models`)).status).toBe(401);
    const wrong = await fetch(`${url}/v1/models`, { headers: { authorization: 'Bearer s3cre' } });
    expect(wrong.status).toBe(401);
    expect(((await wrong.json()) as Any).error.code).toBe('invalid_api_key');
    expect((await post('/v1/completions', { prompt: 'a' })).status).toBe(401);
    expect((await fetch(`${url}/metrics`)).status).toBe(401);
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 's3cret' });
    expect((await client.models.list()).data[0]?.id).toBe('toy');
    expect((await client.models.retrieve('toy')).owned_by).toBe('lockstep');
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    expect((await fetch(`${url}/`)).status).toBe(200);
  });

  test('logs tell of requests, never of texts or keys', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
    const { post } = await serve({ failAt: 300 }, { log, apiKey: 'k3y' });
    const headers = {
      'content-type': 'application/json',
      authorization: 'Bearer k3y',
      'x-request-id': 'mine-1',
    };
    await (
      await post('/v1/completions', { prompt: 'My diary: zanzibar.', max_tokens: 3 }, { headers })
    ).text();
    await (await post('/v1/completions', { prompt: 'zanzibar '.repeat(40) }, { headers })).text();
    await (
      await post('/v1/completions', { prompt: 'zanzibar', bad: 'zanzibar' }, { headers })
    ).text();
    // Each request's line is written once its answer has left.
    await until(() => lines.filter((line) => line.includes('"status":')).length >= 3);
    const all = lines.join('');
    expect(all).toContain('"requestId":"mine-1"');
    expect(all).toContain('"caller":"key"');
    expect(all).toContain('"prompt_tokens":19');
    expect(all).toContain('LS_ENGINE_STEP');
    expect(all).not.toContain('zanzibar');
    expect(all).not.toContain('k3y');
  });

  test('metrics count requests, tokens, segments and latencies', async () => {
    const { post, url } = await serve();
    await (await post('/v1/completions', { prompt: PROMPT.repeat(2), max_tokens: 50 })).text();
    await (await post('/v1/completions', { prompt: 5 })).text();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    for (const line of [
      'lockstep_http_requests_total{route="/v1/completions",method="POST",status="200"} 1',
      'lockstep_http_requests_total{route="/v1/completions",method="POST",status="400"} 1',
      `lockstep_tokens_total{model="toy",kind="prompt"} ${PROMPT.length * 2}`,
      'lockstep_tokens_total{model="toy",kind="completion"} 50',
      'lockstep_time_to_first_token_seconds_count{model="toy"} 1',
      'lockstep_inter_token_seconds_count{model="toy"} 49',
      'lockstep_generations_total{model="toy",outcome="length"} 1',
      'lockstep_session_bytes{model="toy",part="pool"} 0',
      'lockstep_queue_waiting{model="toy"} 0',
    ]) {
      expect(metrics).toContain(line);
    }
    expect(
      Number(/lockstep_segments_closed_total\{model="toy"\} (\d+)/.exec(metrics)?.[1]),
    ).toBeGreaterThan(2);
    expect(metrics).toContain(`digest="${servers.toy.files.contract.digest}"`);
  });

  test('a wrong method is counted under its own route, whatever its path', async () => {
    const { url } = await serve();
    for (const where of [
      '/v1/completions',
      '/tokenize',
      '/metrics',
      '/v1/files',
      '/v1/batches/b1',
    ]) {
      expect((await fetch(`${url}${where}`, { method: 'PUT' })).status).toBe(405);
    }
    const metrics = await (await fetch(`${url}/metrics`)).text();
    const labels = [...metrics.matchAll(/requests_total\{route="([^"]*)",method="PUT"/g)];
    expect(labels.map(([, route]) => route)).toEqual([
      '/v1/completions',
      '/tokenize',
      '/metrics',
      '/v1/files',
      '/v1/batches/:batch_id',
    ]);
  });

  test('memory by part is seen while a generation runs', async () => {
    const { post, url, engine } = await serve({ delayMs: 10 });
    const asked = post('/v1/completions', { prompt: PROMPT.repeat(3), max_tokens: 40 });
    await until(() => engine.steps > 6);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    const bytes = (part: string) =>
      Number(
        new RegExp(`lockstep_session_bytes\\{model="toy",part="${part}"\\} (\\d+)`).exec(
          metrics,
        )?.[1],
      );
    expect(bytes('pool')).toBeGreaterThan(0);
    expect(bytes('sinks')).toBeGreaterThan(0);
    await asked;
  });

  test('security headers, and a page without a foreign source', async () => {
    const { url } = await serve();
    const response = await fetch(`${url}/`);
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('x-powered-by')).toBeNull();
    expect(await response.text()).not.toMatch(/https?:\/\//);
  });

  test('closing lets a running stream end, refuses newcomers and closes the engine', async () => {
    const { post, server, engine, url } = await serve({ delayMs: 5 }, { drainMs: 5_000 });
    const response = await post('/v1/completions', {
      prompt: PROMPT,
      max_tokens: 30,
      stream: true,
    });
    const reading = eventsOf(response);
    await until(() => engine.sessions === 1);
    const closed = server.close();
    const { events, done } = await reading;
    expect(done).toBe(true);
    expect(events.at(-1).choices[0].finish_reason).toBe('length');
    await closed;
    expect(engine.closed).toBe(true);
    await expect(fetch(`${url}/health/live`)).rejects.toThrow();
  });

  test('closing breaks off what does not end in time, and says so', async () => {
    const { post, server, engine } = await serve({ delayMs: 5 }, { drainMs: 50 });
    const response = await post('/v1/completions', {
      prompt: PROMPT,
      max_tokens: 9000,
      stream: true,
    });
    const reading = eventsOf(response);
    await until(() => engine.sessions === 1);
    await server.close();
    const { events, done } = await reading;
    expect(done).toBe(false);
    expect(events.at(-1).error.code).toBe('shutting_down');
    expect(engine.sessions).toBe(0);
  });

  test('idle connections outlive those that proxies keep', async () => {
    const { url } = await serve();
    const answer = await fetch(`${url}/health/live`);
    expect(answer.headers.get('keep-alive')).toBe('timeout=75');
  });

  test('a port in use is named, with a fix', async () => {
    const { port } = await serve();
    const engine = new ToyEngine(servers.toy);
    const second = createServer({
      engine,
      tokenizer: servers.toy.tokenizer,
      contract: servers.toy.files,
    });
    await expect(second.listen(port)).rejects.toMatchObject({
      code: 'LS_SERVE_PORT',
      fix: expect.stringContaining('--port'),
    });
    await second.close();
    expect(engine.closed).toBe(true);
  });

  test('an engine of another contract is refused', () => {
    const engine = new ToyEngine(servers.toy);
    Object.defineProperty(engine, 'contract', {
      value: { ...engine.contract, digest: '0'.repeat(64) },
    });
    expect(() =>
      createServer({ engine, tokenizer: servers.toy.tokenizer, contract: servers.toy.files }),
    ).toThrow(expect.objectContaining({ code: 'LS_SERVE_DIGEST' }));
  });
});
