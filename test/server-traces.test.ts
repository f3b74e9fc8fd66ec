// OpenTelemetry traces: what a collector on a real socket gets, and that vLLM is told the trace.
import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { Traces } from '../src/server/traces.ts';
import { closeCollectors, collector } from './collector.ts';
import { type Any, eventsOf, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';
import { fakeVllms } from './vllm-fixture.ts';

const { serve } = toyServers(() => makeToy(null));
const vllm = fakeVllms(() => makeToy(null));
afterEach(closeCollectors);

const attributesOf = (span: Any) =>
  Object.fromEntries(
    span.attributes.map(({ key, value }: Any) => [key, value.stringValue ?? value.intValue]),
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
