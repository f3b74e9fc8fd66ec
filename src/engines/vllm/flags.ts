// vLLM's command line: what Lockstep sets, what a user may add, and what is refused by name.
import path from 'node:path';
import { LockstepError } from '../../errors.ts';
import { type Adapter, mostRank } from '../../weights/adapter.ts';

const HIDDEN = 'vLLM is reached by lockstep serve alone.';
const CHAT = 'lockstep serve renders chats and finds calls of tools itself.';
const FOLDER = 'the checkpoint is served as it is.';
const LOCAL = 'the checkpoint is a folder of this machine.';

/** Flags that are not the user's here, and what to do instead. Abbreviations are refused with them. */
const REFUSED: Readonly<Record<string, string>> = {
  '--model': 'lockstep serve takes the checkpoint as its argument.',
  '--served-model-name': 'use lockstep serve --model.',
  '--host': 'vLLM listens on a socket of its own; use lockstep serve --host.',
  '--port': 'vLLM listens on a socket of its own; use lockstep serve --port.',
  '--uds': 'vLLM listens on a socket that lockstep serve chooses.',
  '--grpc-port': 'only the HTTP routes of lockstep serve are open.',
  '--api-key': 'use lockstep serve --api-key; vLLM gets a key of its own.',
  '--root-path': HIDDEN,
  '--middleware': HIDDEN,
  '--allow-credentials': HIDDEN,
  '--allowed-origins': HIDDEN,
  '--allowed-methods': HIDDEN,
  '--allowed-headers': HIDDEN,
  '--enable-offline-docs': HIDDEN,
  '--enable-request-id-headers': HIDDEN,
  '--enable-tokenizer-info-endpoint': HIDDEN,
  '--enable-force-include-usage': HIDDEN,
  '--enable-prompt-tokens-details': HIDDEN,
  '--ssl-keyfile': 'put TLS in front of lockstep serve.',
  '--ssl-certfile': 'put TLS in front of lockstep serve.',
  '--ssl-ca-certs': 'put TLS in front of lockstep serve.',
  '--ssl-cert-reqs': 'put TLS in front of lockstep serve.',
  '--ssl-ciphers': 'put TLS in front of lockstep serve.',
  '--enable-ssl-refresh': 'put TLS in front of lockstep serve.',
  '--config': 'write the flags out, so that they can be checked.',
  '--dtype': 'use lockstep serve --precision.',
  '--max-model-len': 'use lockstep serve --max-tokens.',
  '--tokenizer': "the contract names the checkpoint's own tokenizer.",
  '--tokenizer-mode': "the contract names the checkpoint's own tokenizer.",
  '--skip-tokenizer-init': 'structured output needs the tokenizer.',
  '--trust-remote-code': 'Lockstep runs no Python code of a checkpoint.',
  '--chat-template': "the checkpoint's own template is rendered by lockstep serve.",
  '--chat-template-content-format': CHAT,
  '--default-chat-template-kwargs': CHAT,
  '--trust-request-chat-template': CHAT,
  '--response-role': CHAT,
  '--enable-auto-tool-choice': CHAT,
  '--exclude-tools-when-tool-choice-none': CHAT,
  '--tool-call-parser': CHAT,
  '--tool-parser-plugin': CHAT,
  '--tool-strict-level': CHAT,
  '--tool-server': CHAT,
  '--reasoning-parser': CHAT,
  '--reasoning-parser-plugin': CHAT,
  '--generation-config': 'every sampling parameter comes with its request.',
  '--override-generation-config': 'every sampling parameter comes with its request.',
  '--hf-overrides': FOLDER,
  '--hf-config-path': FOLDER,
  '--load-format': FOLDER,
  '--revision': LOCAL,
  '--code-revision': LOCAL,
  '--tokenizer-revision': LOCAL,
  '--model-impl': 'the plugin brings the model.',
  '--scheduler-cls': 'the plugin brings the scheduler.',
  '--worker-cls': 'the plugin extends the worker.',
  '--worker-extension-cls': 'the plugin extends the worker.',
  '--speculative-config': 'segments are not implemented for speculative decoding.',
  '--kv-transfer-config': 'KV connectors would lose sinks and the pool.',
  '--kv-offloading-size': 'KV offloading would lose sinks and the pool.',
  '--kv-offloading-backend': 'KV offloading would lose sinks and the pool.',
  '--kv-cache-dtype': 'a quantized cache was not shown to compute what training computed.',
  '--quantization': 'quantized weights were not shown to compute what training computed.',
  '--decode-context-parallel-size': 'segments are not implemented for context parallelism.',
  '--prefill-context-parallel-size': 'segments are not implemented for context parallelism.',
  '--data-parallel-size': 'use lockstep serve --replicas.',
  '--data-parallel-backend': 'use lockstep serve --replicas.',
  '--data-parallel-address': 'use lockstep serve --replicas.',
  '--api-server-count': 'use lockstep serve --replicas.',
  '--headless': 'vLLM is reached over HTTP.',
  '--enable-dbo': 'segments are not implemented for dual-batch overlap.',
  '--enable-lora': 'use lockstep serve --adapter.',
  '--lora-modules': 'use lockstep serve --adapter.',
  '--max-lora-rank': 'it follows from the adapters.',
  '--lora-dtype': 'an adapter computes in what its base computes in.',
  '--lora-target-modules': 'all matrices of an adapter are used.',
  '--fully-sharded-loras': 'it was not shown to compute what training computed.',
  '--tokens-only': 'structured output needs the tokenizer.',
};

/** Short names of refused flags. */
const SHORT: Readonly<Record<string, string>> = {
  '-sc': '--speculative-config',
  '-q': '--quantization',
  '-dp': '--data-parallel-size',
  '-dpb': '--data-parallel-backend',
  '-dpa': '--data-parallel-address',
  '-dcp': '--decode-context-parallel-size',
  '-pcp': '--prefill-context-parallel-size',
  '-asc': '--api-server-count',
};

/**
 * Flags that a user gives for vLLM after `--`.
 *
 * @throws LS_VLLM_FLAG naming the first that is refused, and why
 */
export function checkFlags(flags: readonly string[]): void {
  for (const flag of flags) {
    if (!/^-{1,2}[A-Za-z]/.test(flag)) continue;
    const name = flagName(flag);
    const refused = SHORT[name] ?? owned(name);
    if (refused === undefined) continue;
    throw new LockstepError(
      'LS_VLLM_FLAG',
      `expected no ${name} among vLLM's flags: ${REFUSED[refused]}`,
      { fix: 'Leave it out.', field: name },
    );
  }
}

/** vLLM takes underscores for dashes, `--flag=value`, and `--flag.key value` for its JSON flags. */
export function flagName(flag: string): string {
  return (/^[^=.]+/.exec(flag)?.[0] ?? flag).replaceAll('_', '-');
}

/** argparse takes every unambiguous beginning of a flag for the flag. */
function owned(name: string): string | undefined {
  const positive = name.replace(/^--no-/, '--');
  if (Object.hasOwn(REFUSED, positive)) return positive;
  if (name.length < 5) return undefined;
  return Object.keys(REFUSED).find((flag) => flag.startsWith(name));
}

/** What vLLM may compute in: what was compared with the trainer's operator (test/vllm/test_parity.py). */
export const precisions = ['float32', 'bfloat16'] as const;

/** @throws LS_VLLM_PRECISION for any other, which the plugin would refuse after a long start */
export function checkPrecision(precision: string): void {
  if ((precisions as readonly string[]).includes(precision)) return;
  throw new LockstepError(
    'LS_VLLM_PRECISION',
    `expected vLLM to compute in ${precisions.join(' or ')}, got ${precision}`,
    { fix: `lockstep serve --precision ${precisions[0]}`, field: 'precision' },
  );
}

export interface Launch {
  dir: string;
  /** The model's name in requests. */
  model: string;
  /** Where it listens: a Unix socket (bound as `--uds`), or a port of 127.0.0.1. */
  at: string | number;
  /** What it computes in, as vLLM's `--dtype` names it. */
  dtype: string;
  /** Most tokens of a sequence; null leaves vLLM's own choice. */
  maxTokens: number | null;
  adapters?: readonly NamedAdapter[];
  flags: readonly string[];
}

/** An adapter as requests name it. */
export interface NamedAdapter extends Adapter {
  readonly name: string;
}

/** Ranks that vLLM makes room for. */
const ranks = [1, 8, 16, 32, 64, 128, 256, 320, mostRank];

/** Adapters that one batch of vLLM computes with, unless `-- --max-loras N` says otherwise. */
const TOGETHER = 16;

/** vLLM loads these at its start, and keeps them all. */
function adapterFlags(adapters: readonly NamedAdapter[]): string[] {
  if (adapters.length === 0) return [];
  const largest = Math.max(...adapters.map(({ rank }) => rank));
  const count = adapters.length;
  return [
    '--enable-lora',
    ...['--max-loras', String(Math.min(count, TOGETHER)), '--max-cpu-loras', String(count)],
    ...['--max-lora-rank', String(ranks.find((rank) => rank >= largest))],
    '--lora-modules',
    ...adapters.map(({ name, dir }) => JSON.stringify({ name, path: path.resolve(dir) })),
  ];
}

/** Arguments of the interpreter that start vLLM. (Its `vllm` command fails with the CPU build.) */
export function vllmCommand(launch: Launch): string[] {
  const { dir, model, at, dtype, maxTokens, adapters = [], flags } = launch;
  return [
    '-m',
    'vllm.entrypoints.openai.api_server',
    ...['--model', dir, '--served-model-name', model],
    ...(typeof at === 'string' ? ['--uds', at] : ['--host', '127.0.0.1', '--port', String(at)]),
    // Left to itself, vLLM would round float32 weights.
    ...['--dtype', dtype],
    ...['--generation-config', 'vllm', '--disable-uvicorn-access-log', '--disable-fastapi-docs'],
    ...(maxTokens === null ? [] : ['--max-model-len', String(maxTokens)]),
    ...adapterFlags(adapters),
    ...flags,
  ];
}
