// The queue, deadlines and the length of answers: what a client gets while it waits, and how long it may take.
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { readOpenMetrics } from './openmetrics.ts';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

// Without a chat template a server starts at once.
const { serve } = toyServers(() => makeToy(null));
const chats = toyServers();

const long = { prompt: PROMPT, max_tokens: 9000, ignore_eos: true, stream: true };
const short = { prompt: PROMPT, max_tokens: 3 };

const CALLED = 'lockstep_caller_prompt_tokens_count{caller="anonymous"}';

describe('waiting for a slot', () => {
  test('a stream in the queue has headers and a comment before it has a slot', async () => {
    const { post, engine } = await serve({ delayMs: 5 }, { maxSessions: 1 });
    const leave = new AbortController();
    await post('/v1/completions', long, { signal: leave.signal });
    await until(() => engine.sessions === 1);
    // The one slot is taken for as long as the first client stays.
    const second = await post('/v1/completions', { ...short, stream: true });
    expect(second.status).toBe(200);
    const reader = (second.body as ReadableStream<Uint8Array>).getReader();
    const first = new TextDecoder().decode((await reader.read()).value);
    expect(first).toBe(': waiting for a slot\n\n');
    expect(engine.sessions).toBe(1);
    leave.abort();
    let rest = '';
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      rest += new TextDecoder().decode(part.value);
    }
    expect(rest).toContain('"finish_reason":"length"');
    expect(rest).toContain('data: [DONE]');
  });

  test('a request that waits too long gets 503, a stream an error event', async () => {
    const { post, engine } = await serve({ delayMs: 5 }, { maxSessions: 1, queueTimeoutMs: 60 });
    const leave = new AbortController();
    await post('/v1/completions', long, { signal: leave.signal });
    await until(() => engine.sessions === 1);
    const whole = await post('/v1/completions', short);
    expect(whole.status).toBe(503);
    expect(Number(whole.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(((await whole.json()) as Any).error.code).toBe('queue_timeout');
    const { events, done } = await eventsOf(
      await post('/v1/completions', { ...short, stream: true }),
    );
    expect(done).toBe(false);
    expect(events.map((event) => event.error.code)).toEqual(['queue_timeout']);
    leave.abort();
    await until(() => engine.sessions === 0);
    expect((await post('/v1/completions', short)).status).toBe(200);
  });

  test('time in the queue is measured, and is part of the time to the first token', async () => {
    const { post, engine, url } = await serve({ delayMs: 25 }, { maxSessions: 1 });
    const leave = new AbortController();
    await post('/v1/completions', long, { signal: leave.signal });
    await until(() => engine.sessions === 1);
    const waiting = post('/v1/completions', short);
    await until(async () => (await metric(url, 'lockstep_queue_waiting{model="toy"}')) === 1);
    await sleep(150);
    leave.abort();
    await (await waiting).text();
    const read = (name: string) => metric(url, `lockstep_${name}{model="toy"}`);
    const [queue, first, prefill] = await Promise.all([
      read('queue_seconds_sum'),
      read('time_to_first_token_seconds_sum'),
      read('prefill_seconds_sum'),
    ]);
    expect(await read('queue_seconds_count')).toBe(2);
    expect(queue).toBeGreaterThan(0.14);
    // Of the two requests together: the sums differ by the queue (and by the little before it).
    expect(first - prefill).toBeGreaterThanOrEqual(queue - 0.001);
    expect(await read('decode_seconds_count')).toBe(2);
    expect(
      await metric(url, 'lockstep_caller_tokens_total{caller="anonymous",kind="prompt"}'),
    ).toBe(2 * PROMPT.length);
    expect(await read('prompt_tokens_sum')).toBe(2 * PROMPT.length);
    expect(await metric(url, 'lockstep_generation_bytes_count{model="toy",part="open"}')).toBe(2);
    expect(await read('prompt_cached_tokens_count')).toBe(2);
  });

  test('histograms have exemplars with the request’s id where OpenMetrics is asked for', async () => {
    const { post, url } = await serve();
    const headers = { 'content-type': 'application/json', 'x-request-id': 'mine-7' };
    await (await post('/v1/completions', short, { headers })).text();
    await until(async () => (await metric(url, CALLED)) === 1);
    const accept = 'application/openmetrics-text; version=1.0.0,text/plain;q=0.5';
    const asked = await fetch(`${url}/metrics`, { headers: { accept } });
    expect(asked.headers.get('content-type')).toContain('application/openmetrics-text');
    const text = await asked.text();
    expect(text).toMatch(
      /^lockstep_time_to_first_token_seconds_bucket\{le="[^"]+",model="toy"\} 1 # \{request_id="mine-7"\} \S+ \S+$/m,
    );
    expect(text).toContain('# TYPE lockstep_caller_tokens counter');
    expect(text).toContain('lockstep_caller_tokens_total{caller="anonymous",kind="completion"} 3');
    const families = readOpenMetrics(text);
    for (const name of ['http_request_seconds', 'inter_token_seconds', 'caller_prompt_tokens']) {
      expect(families.get(`lockstep_${name}`)?.samples.join('\n')).toMatch(
        /_bucket\{.*\} \d+ # \{request_id="mine-7"\} /,
      );
    }
    // The other format keeps its names, before and after.
    const plain = await (await fetch(`${url}/metrics`)).text();
    expect(plain).toContain('# TYPE lockstep_caller_tokens_total counter');
    expect(plain).not.toContain('mine-7');
  });
});

describe('how long an answer may take', () => {
  test('beyond --request-timeout it is broken off and its session freed', async () => {
    const { post, engine, url } = await serve({ delayMs: 5 }, { requestTimeoutMs: 2_000 });
    const { events, done } = await eventsOf(await post('/v1/completions', long));
    expect(done).toBe(false);
    expect(events.length).toBeGreaterThan(1);
    expect(events.at(-1).error.code).toBe('deadline_exceeded');
    expect(events.some((event) => event.choices?.[0]?.finish_reason)).toBe(false);
    const whole = await post('/v1/completions', { ...long, stream: false });
    expect(whole.status).toBe(504);
    expect(((await whole.json()) as Any).error.code).toBe('deadline_exceeded');
    await until(() => engine.sessions === 0);
    expect(await metric(url, 'lockstep_generations_total{model="toy",outcome="timeout"}')).toBe(2);
  });

  test('a client may ask for less, not for more', async () => {
    const { post } = await serve({ delayMs: 5 }, { requestTimeoutMs: 300 });
    const ask = (timeout: string) => {
      const headers = { 'content-type': 'application/json', 'x-request-timeout': timeout };
      return post('/v1/completions', { ...long, stream: false }, { headers });
    };
    const less = (await (await ask('0.1')).json()) as Any;
    expect(less.error.message).toContain('within 0.1 s');
    const more = (await (await ask('60')).json()) as Any;
    expect(more.error.message).toContain('within 0.3 s');
    const wrong = await ask('soon');
    expect(wrong.status).toBe(400);
    expect(((await wrong.json()) as Any).error.param).toBe('x-request-timeout');
  });

  test('a chat without max_tokens gets --max-completion, and nobody more', async () => {
    const { post } = await chats.serve({}, { maxCompletion: 7 });
    const messages = [{ role: 'user', content: 'Hello.' }];
    const chat = (await (await post('/v1/chat/completions', { messages })).json()) as Any;
    expect(chat.usage.completion_tokens).toBe(7);
    expect(chat.choices[0].finish_reason).toBe('length');
    const more = await post('/v1/chat/completions', { messages, max_completion_tokens: 8 });
    expect(more.status).toBe(400);
    expect(((await more.json()) as Any).error).toMatchObject({ param: 'max_completion_tokens' });
    expect((await post('/v1/completions', { ...short, max_tokens: 8 })).status).toBe(400);
    const response = (await (await post('/v1/responses', { input: 'Hello.' })).json()) as Any;
    expect(response.usage.output_tokens).toBe(7);
  });
});

/** One figure of /metrics, by its name with its labels. */
async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split('\n').find((one) => one.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
}
