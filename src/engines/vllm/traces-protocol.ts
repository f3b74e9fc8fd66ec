// How a vLLM of ours sends its spans: it takes gRPC by itself, for whatever address its flag names.
import { flagName } from './flags.ts';

const FLAG = '--otlp-traces-endpoint';
const VARIABLE = 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL';

/**
 * The variable for OTLP over HTTP, where the flag names an address with a path, as
 * `http://127.0.0.1:4318/v1/traces`: one of gRPC has none. Nothing where the environment says it already.
 */
export function tracesProtocol(
  env: NodeJS.ProcessEnv,
  flags: readonly string[],
): NodeJS.ProcessEnv {
  if (env[VARIABLE] !== undefined) return {};
  const at = flags.findLastIndex((flag) => flagName(flag) === FLAG);
  const flag = flags[at];
  if (flag === undefined) return {};
  const url = flag.includes('=') ? flag.slice(flag.indexOf('=') + 1) : (flags[at + 1] ?? '');
  return /^https?:\/\/[^/]+\/./.test(url) ? { [VARIABLE]: 'http/protobuf' } : {};
}
