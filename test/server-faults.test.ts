// Clients that leave, engines that fail, more load than there is room for.
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';

const servers = toyServers();
const { serve } = servers;

describe('clients that leave, engines that fail', () => {
  test('leaving a stream stops the generation and frees its session', async () => {
    const { post, engine, url } = await serve({ delayMs: 5 });
    const leave = new AbortController();
    const response = await post(
      '/v1/completions',
      { prompt: PROMPT, max_tokens: 5000, ignore_eos: true, stream: true },
      { signal: leave.signal },
    );
    const reader = (response.body as ReadableStream).getReader();
    for (let i = 0; i < 3; i++) await reader.read();
    expect(engine.sessions).toBe(1);
    leave.abort();
    await until(() => engine.sessions === 0);
    const { steps } = engine;
    await sleep(60);
    expect(engine.steps).toBe(steps);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain('lockstep_generations_total{model="toy",outcome="cancelled"} 1');
    expect(metrics).toContain('lockstep_sessions{model="toy"} 0');
  });

  test('leaving while the prompt runs, and while waiting for the whole answer', async () => {
    const { post, engine } = await serve({ delayMs: 20 });
    for (const stream of [true, false]) {
      const leave = new AbortController();
      const asked = post(
        '/v1/completions',
        { prompt: PROMPT.repeat(60), max_tokens: 100, stream },
        { signal: leave.signal },
      ).catch((error) => error);
      await until(() => engine.sessions === 1);
      leave.abort();
      await until(() => engine.sessions === 0);
      await asked;
    }
  });

  test('leaving the queue gives the slot to the next', async () => {
    const { post, engine } = await serve({ delayMs: 10 }, { maxSessions: 1, maxQueue: 4 });
    const ask = { prompt: PROMPT, max_tokens: 30 };
    const first = post('/v1/completions', ask);
    await until(() => engine.sessions === 1);
    const leave = new AbortController();
    const second = post('/v1/completions', ask, { signal: leave.signal }).catch((error) => error);
    const third = post('/v1/completions', ask);
    await sleep(30);
    leave.abort();
    expect((await first).status).toBe(200);
    expect((await third).status).toBe(200);
    expect((await second).name).toBe('AbortError');
    await until(() => engine.sessions === 0);
  });

  test('an engine that fails midway ends the stream with an error, not with [DONE]', async () => {
    const { post, engine, client } = await serve({ failAt: PROMPT.length + 10 });
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 50, stream: true as const };
    const { events, done } = await eventsOf(await post('/v1/completions', ask));
    expect(done).toBe(false);
    expect(events.at(-1).error).toMatchObject({ type: 'server_error', code: 'LS_ENGINE_STEP' });
    expect(events.some((event) => event.choices?.[0]?.finish_reason)).toBe(false);
    expect(engine.sessions).toBe(0);
    const stream = await client.completions.create(ask);
    await expect(
      (async () => {
        for await (const _ of stream);
      })(),
    ).rejects.toThrow(/finite logits/);
  });

  test('an engine that fails before the answer is a status', async () => {
    const { post, engine } = await serve({ failAt: 10 });
    const response = await post('/v1/completions', { prompt: PROMPT });
    const answer = (await response.json()) as Any;
    expect([response.status, answer.error.code]).toEqual([500, 'LS_ENGINE_STEP']);
    expect(answer.error.message).toContain('Export the model again.');
    expect(engine.sessions).toBe(0);
    engine.faults = {};
    expect((await post('/v1/completions', { prompt: PROMPT })).status).toBe(200);
  });

  test('logits that are not numbers end the stream with an error', async () => {
    const { post, engine } = await serve({ nanAt: PROMPT.length + 5 });
    const ask = { prompt: PROMPT, max_tokens: 50, stream: true };
    const { events, done } = await eventsOf(await post('/v1/completions', ask));
    expect(done).toBe(false);
    expect(events.at(-1).error.code).toBe('LS_ENGINE_LOGITS');
    expect(events.at(-1).error.message).toContain(`after token ${PROMPT.length + 4}`);
    expect(engine.sessions).toBe(0);
  });

  test('an engine that is gone makes the server not ready', async () => {
    const { post, url } = await serve({ failAt: 100, failCode: 'LS_ENGINE_CRASHED' });
    expect((await post('/v1/completions', { prompt: 'a', max_tokens: 2 })).status).toBe(200);
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    const response = await post('/v1/completions', { prompt: PROMPT, max_tokens: 60 });
    expect([response.status, ((await response.json()) as Any).error.code]).toEqual([
      503,
      'LS_ENGINE_CRASHED',
    ]);
    const ready = await fetch(`${url}/health/ready`);
    expect([ready.status, ((await ready.json()) as Any).status]).toEqual([503, 'engine lost']);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
  });

  test('an engine without a free session is 429', async () => {
    const { post } = await serve({ maxSessions: 0 });
    const response = await post('/v1/completions', { prompt: PROMPT, stream: true });
    expect(response.status).toBe(429);
    const wait = Number(response.headers.get('retry-after'));
    expect(wait).toBeGreaterThanOrEqual(1);
    expect(wait).toBeLessThanOrEqual(4);
  });

  test('a reader that stops reading is given up', async () => {
    const { port, engine } = await serve({}, { stallMs: 200, maxTokens: 2_000_000 });
    // The trace of a long prompt is more than the sockets' buffers hold.
    const body = JSON.stringify({
      prompt: PROMPT.repeat(8000),
      stream: true,
      lockstep: { trace: true },
    });
    const socket = net.connect(port, '127.0.0.1');
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    socket.pause();
    // A thread tokenizes it first.
    await until(() => engine.sessions === 1, 60);
    await until(() => engine.sessions === 0, 60);
    expect(engine.steps).toBeLessThan((PROMPT.length * 8000) / 64);
    socket.destroy();
  });
});

describe('load', () => {
  test('64 streams at once, each whole and its own', async () => {
    const { post, engine } = await serve({ delayMs: 1 }, { maxSessions: 16, maxQueue: 64 });
    const ask = (i: number, stream: boolean) =>
      post('/v1/completions', {
        prompt: `${i}: ${PROMPT}`,
        max_tokens: 40,
        temperature: 0,
        stream,
      });
    const streams = await Promise.all(
      Array.from({ length: 64 }, async (_, i) => eventsOf(await ask(i, true))),
    );
    expect(engine.sessions).toBe(0);
    for (const [i, { events, done }] of streams.entries()) {
      expect(done).toBe(true);
      if (i % 16 !== 0) continue;
      const alone = (await (await ask(i, false)).json()) as Any;
      expect(events.map((event) => event.choices[0]?.text ?? '').join('')).toBe(
        alone.choices[0].text,
      );
    }
  });

  test('past the queue it is 429 with Retry-After, and the others are served', async () => {
    const { post, url } = await serve({ delayMs: 5 }, { maxSessions: 2, maxQueue: 3 });
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => post('/v1/completions', { prompt: PROMPT, max_tokens: 20 })),
    );
    const statuses = answers.map((answer) => answer.status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(5);
    const refused = answers.filter((answer) => answer.status === 429);
    expect(refused).toHaveLength(7);
    for (const answer of refused) {
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
      expect(((await answer.json()) as Any).error.type).toBe('rate_limit_error');
    }
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain('lockstep_queue_refused_total{model="toy"} 7\n');
    expect(metrics).not.toContain('lockstep_caller_refused_total{');
  });

  test('a silent stream is kept alive by comments', async () => {
    const { post } = await serve({ delayMs: 150 }, { keepAliveMs: 20 });
    const response = await post('/v1/completions', { prompt: PROMPT, max_tokens: 2, stream: true });
    const text = await response.text();
    expect(text).toContain(': wait\n\n');
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
  });

  test('requests a minute from one address', async () => {
    const { url } = await serve({}, { requestsPerMinute: 3 });
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++) statuses.push((await fetch(`${url}/v1/models`)).status);
    expect(statuses).toEqual([200, 200, 200, 429, 429]);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
    expect(await (await fetch(`${url}/metrics`)).text()).toContain(
      'lockstep_caller_refused_total{caller="anonymous",limit="requests_per_minute"} 2\n',
    );
  });
});
