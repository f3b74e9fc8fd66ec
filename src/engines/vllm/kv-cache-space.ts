// Room for KV on a CPU, where vLLM by itself reserves 92 % of all memory and will not start when any of it is in use.
import os from 'node:os';
import { flagName } from './flags.ts';

const VARIABLE = 'VLLM_CPU_KVCACHE_SPACE';

/** Flags that say how much memory vLLM takes. */
const SIZES = ['--gpu-memory-utilization', '--kv-cache-memory-bytes'];

/**
 * The variable, in whole GiB, where neither it nor a flag says otherwise: half of the free memory,
 * shared by the replicas; the other half is for weights and work. vLLM on a GPU does not read it.
 */
export function defaultKvCacheSpace(
  env: NodeJS.ProcessEnv,
  flags: readonly string[],
  replicas: number,
  freeBytes: number = os.freemem(),
): NodeJS.ProcessEnv {
  const said = flags.some((flag) => {
    const name = flagName(flag);
    return name.length > 6 && SIZES.some((size) => size.startsWith(name));
  });
  if (said || env[VARIABLE] !== undefined) return {};
  return { [VARIABLE]: String(Math.max(1, Math.floor(freeBytes / 2 / 2 ** 30 / replicas))) };
}
