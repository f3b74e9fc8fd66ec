// OpenTelemetry traces: what a collector on a real socket gets, and that vLLM is told the trace.
import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { MOST_SEGMENTS } from '../src/server/segment-log.ts';
import { Traces } from '../src/server/traces.ts';
import { closeCollectors, collector } from './collector.ts';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';
import { fakeVllms } from './vllm-fixture.ts';

const { serve } = toyServers(() => makeToy(null));
const vllm = fakeVllms(() => makeToy(null));
afterEach(closeCollectors);

const attributesOf = (span: Any) =>
  Object.fromEntries(
    span.attributes.map(({ key, value }: Any) => [
      key,
      value.stringValue ?? value.intValue ?? value.doubleValue,
    ]),
  );

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const headers = {
  'content-type': 'application/json',
  traceparent: `00-${TRACE}-b7ad6b7169203331-01`,
};

test('a request is a span of the caller’s trace, with queue, prefill and decode below it', async () => {
  const { url, spans, text } = await collector();
  const traces = new Traces(url, pino({ level: 'silent' }));
  const { post, server } = await serve({ delayMs: 3 }, { traces });
  const ask = { prompt: 'My diary: zanzibar.', max_tokens: 20, stream: true, temperature: 0 };
  expect((await eventsOf(await post('/v1/completions', ask, { headers }))).done).toBe(true);
  await (await post('/v1/completions', { prompt: 'zanzibar', none: 1 })).text();
  await server.close();
  const [first, refused] = spans().filter(({ kind }) => kind === 2);
  expect(first).toMatchObject({
    name: 'POST /v1/completions',
    traceId: TRACE,
    parentSpanId: 'b7ad6b7169203331',
  });
  expect(attributesOf(first)).toMatchObject({
    'http.response.status_code': 200,
    'lockstep.caller': 'anonymous',
    'gen_ai.request.model': 'toy',
    'gen_ai.usage.input_tokens': 19,
    'gen_ai.usage.output_tokens': 20,
  });
  const below = spans().filter(({ parentSpanId }) => parentSpanId === first.spanId);
  expect(below.map(({ name }) => name)).toEqual(['queue', 'prefill', 'decode']);
  for (const [i, span] of below.entries()) {
    const from = i === 0 ? first.startTimeUnixNano : below[i - 1].endTimeUnixNano;
    expect(BigInt(span.startTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(from));
    expect(BigInt(span.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(span.startTimeUnixNano));
  }
  expect(refused.traceId).not.toBe(TRACE);
  expect(attributesOf(refused)['error.type']).toBe('unknown_parameter');
  expect(text()).not.toContain('zanzibar');
});

test('below prefill and decode is a span for each segment that closed, in order', async () => {
  const { url, spans } = await collector();
  const traces = new Traces(url, pino({ level: 'silent' }));
  const { post, server } = await serve({}, { traces });
  const [prompt, max_tokens] = [PROMPT.repeat(3), 100];
  const response = await post('/v1/completions', {
    prompt,
    max_tokens,
    stream: true,
    lockstep: { trace: true },
  });
  const told = (await eventsOf(response)).events.map(({ lockstep }) => lockstep?.trace ?? lockstep);
  await server.close();
  const all = spans();
  const [prefill, decode] = ['prefill', 'decode'].map((name) =>
    all.find((one) => one.name === name),
  );
  const segments = all.filter(({ name }) => name === 'segment');
  const below = (stage: Any) =>
    segments.filter(({ parentSpanId }) => parentSpanId === stage.spanId);
  expect(below(prefill).length).toBeGreaterThan(2);
  expect(below(decode).length).toBeGreaterThan(0);
  expect(segments.length).toBe(below(prefill).length + below(decode).length);
  for (const stage of [prefill, decode]) {
    expect(attributesOf(stage)).toMatchObject({
      'lockstep.segments.closed': below(stage).length,
      'lockstep.segments.left_out': 0,
    });
    for (const { startTimeUnixNano: from, endTimeUnixNano: to } of below(stage)) {
      expect(BigInt(from)).toBeGreaterThanOrEqual(BigInt(stage.startTimeUnixNano));
      expect(BigInt(to)).toBeGreaterThanOrEqual(BigInt(from));
      expect(BigInt(to)).toBeLessThanOrEqual(BigInt(stage.endTimeUnixNano));
    }
  }
  // Each begins where the one before it ended; the cuts are those that the stream told of.
  const cuts = told.flatMap((one) => one?.cut ?? []);
  expect(segments.map((one) => attributesOf(one))).toEqual(
    cuts.map((cut, index) => ({
      'lockstep.choice': 0,
      'lockstep.segment.index': index,
      'lockstep.segment.first_position': cuts[index - 1] ?? 0,
      'lockstep.segment.last_position': cut - 1,
      'lockstep.segment.tokens': cut - (cuts[index - 1] ?? 0),
      'lockstep.segment.retrieved_rows': expect.any(Number),
    })),
  );
  expect(segments.some((one) => attributesOf(one)['lockstep.segment.retrieved_rows'] > 0)).toBe(
    true,
  );
});

test('of very many segments some are left out, and their stage says how many', async () => {
  const { url, spans } = await collector();
  const traces = new Traces(url, pino({ level: 'silent' }));
  const { post, server } = await serve({}, { traces });
  const plan = (await (await post('/lockstep/plan', { text: PROMPT.repeat(100) })).json()) as Any;
  await (await post('/v1/completions', { prompt: PROMPT.repeat(100), max_tokens: 1 })).text();
  await server.close();
  const closed = plan.boundaries.length;
  expect(closed).toBeGreaterThan(MOST_SEGMENTS);
  expect(spans().filter(({ name }) => name === 'segment')).toHaveLength(MOST_SEGMENTS);
  expect(attributesOf(spans().find(({ name }) => name === 'prefill'))).toEqual({
    'lockstep.segments.closed': closed,
    'lockstep.segments.left_out': closed - MOST_SEGMENTS,
    'lockstep.segments.remembered': 0,
  });
});

test('vLLM is told the span that asks it; without traces it is told nothing', async () => {
  const { url, spans } = await collector();
  const traces = new Traces(url, pino({ level: 'silent' }));
  const traced = await vllm.served([], { traces });
  const ask = { prompt: 'Tell me.', max_tokens: 5 };
  expect((await traced.post('/v1/completions', ask, { headers })).status).toBe(200);
  await traced.server.close();
  const own = spans().find(({ kind }) => kind === 2);
  expect((await traced.fake.seen()).traces).toEqual([`00-${TRACE}-${own.spanId}-01`]);
  const plain = await vllm.served();
  expect((await plain.post('/v1/completions', ask, { headers })).status).toBe(200);
  expect((await plain.fake.seen()).traces).toEqual([]);
});

test('a collector that does not answer is logged, and requests are still answered', async () => {
  const lines: Any[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line));
  const log = pino({ level: 'error' }, { write });
  const traces = new Traces('http://127.0.0.1:9/v1/traces', log);
  const { post, server } = await serve({}, { traces });
  expect((await post('/v1/completions', { prompt: 'a', max_tokens: 2 })).status).toBe(200);
  await server.close();
  await until(() => lines.some(({ msg }) => msg === 'traces cannot be sent'));
});
