// Traces through the real vLLM: its own span is a part of the client's trace, below the server's span.
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { closeCollectors, collector } from '../collector.ts';
import { readOpenMetrics } from '../openmetrics.ts';
import { type Any, eventsOf, until } from '../server-client.ts';
import { type Serving, servers, TEXT } from './serving.ts';

const vllm = servers();
afterAll(closeCollectors);

const TRACE = '0af7651916cd43dd8448eb211c80319c';

/** Reads what vLLM's exporter sends (OTLP as protobuf) as JSON; ids come in base64. */
const READ = `
import sys
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
print(MessageToJson(ExportTraceServiceRequest.FromString(sys.stdin.buffer.read()), indent=None))
`;

const hex = (base64: string) => Buffer.from(base64, 'base64').toString('hex');

let url: string;
let collected: Awaited<ReturnType<typeof collector>>;
let server: Serving;

beforeAll(async () => {
  collected = await collector();
  url = collected.url;
  server = await vllm.start(['--otlp-traces-endpoint', url], ['--otlp-traces-endpoint', url]);
});

test('a span of vLLM has the client’s trace id, and our span as its parent', async () => {
  const { spans, protobuf } = collected;
  const headers = {
    'content-type': 'application/json',
    traceparent: `00-${TRACE}-b7ad6b7169203331-01`,
  };
  const body = { prompt: TEXT, max_tokens: 12, ignore_eos: true };
  const streamed = await server.post('/v1/completions', { ...body, stream: true }, { headers });
  expect((await eventsOf(streamed)).done).toBe(true);
  const whole = await server.post('/v1/completions', { ...body, n: 2 }, { headers });
  expect(whole.status).toBe(200);
  await whole.text();
  const read = (bytes: Buffer): Any[] => {
    const input = { input: bytes, encoding: 'utf8' } as const;
    const { resourceSpans = [] } = JSON.parse(
      execFileSync(vllm.python.executable, ['-c', READ], input),
    ) as Any;
    return resourceSpans.flatMap((one: Any) => one.scopeSpans.flatMap(({ spans }: Any) => spans));
  };
  const requests = () =>
    protobuf()
      .flatMap(read)
      .filter(({ name, traceId }) => name === 'llm_request' && hex(traceId) === TRACE);
  // Both send what they have every five seconds.
  await until(() => requests().length >= 3, 60);
  await until(() => spans().filter(({ kind }) => kind === 2).length >= 2, 60);
  const ours = spans().filter(({ kind, traceId }) => kind === 2 && traceId === TRACE);
  expect(ours.map(({ name }) => name)).toEqual(['POST /v1/completions', 'POST /v1/completions']);
  const parents = requests().map(({ parentSpanId }) => hex(parentSpanId));
  const [first, second] = ours.map(({ spanId }) => spanId);
  // Two texts are two requests to vLLM.
  expect(parents.sort()).toEqual([first, second, second].sort());
  for (const { attributes } of requests()) {
    const told = Object.fromEntries(attributes.map(({ key, value }: Any) => [key, value]));
    expect(told['gen_ai.usage.completion_tokens']).toEqual({ intValue: '12' });
  }
});

/** Reads OpenMetrics with Prometheus' own parser: types by family, and whether any sample has an exemplar. */
const PARSE = `
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
found = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    found[family.name] = [family.type, any(one.exemplar for one in family.samples)]
print(json.dumps(found))
`;

test('OpenMetrics of both is read by Prometheus’ own parser, and ours has exemplars', async () => {
  const headers = { accept: 'application/openmetrics-text; version=1.0.0' };
  const text = await (await fetch(`${server.url}/metrics`, { headers })).text();
  readOpenMetrics(text);
  const input = { input: text, encoding: 'utf8' } as const;
  const found = JSON.parse(execFileSync(vllm.python.executable, ['-c', PARSE], input));
  expect(found).toMatchObject({
    'vllm:prefix_cache_hits': ['counter', false],
    lockstep_vllm_kv_bytes: ['gauge', false],
    lockstep_decode_seconds: ['histogram', true],
    lockstep_inter_token_seconds: ['histogram', true],
    lockstep_http_request_seconds: ['histogram', true],
  });
});
