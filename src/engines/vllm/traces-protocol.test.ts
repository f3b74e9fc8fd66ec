// Which protocol vLLM sends its spans by.
import { expect, test } from 'vitest';
import { tracesProtocol } from './traces-protocol.ts';

const http = { OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/protobuf' };

test.each([
  [['--otlp-traces-endpoint', 'http://127.0.0.1:4318/v1/traces'], http],
  [['--otlp_traces_endpoint=https://a.example/v1/traces', '--seed', '1'], http],
  [['--otlp-traces-endpoint', 'http://127.0.0.1:4317'], {}],
  [['--otlp-traces-endpoint', 'http://127.0.0.1:4317/'], {}],
  [['--otlp-traces-endpoint', 'localhost:4317'], {}],
  [['--otlp-traces-endpoint'], {}],
  [['--seed', '1'], {}],
])('%j', (flags, expected) => {
  expect(tracesProtocol({}, flags)).toEqual(expected);
});

test('what the environment says is kept', () => {
  const env = { OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'grpc' };
  expect(tracesProtocol(env, ['--otlp-traces-endpoint', 'http://a/v1/traces'])).toEqual({});
});
