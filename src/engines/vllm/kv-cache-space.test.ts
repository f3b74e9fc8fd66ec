import { expect, test } from 'vitest';
import { defaultKvCacheSpace } from './kv-cache-space.ts';

const GiB = 2 ** 30;

test('half of the free memory, shared by the replicas, and never none', () => {
  expect(defaultKvCacheSpace({}, [], 1, 21 * GiB)).toEqual({ VLLM_CPU_KVCACHE_SPACE: '10' });
  expect(defaultKvCacheSpace({}, ['--max-num-seqs', '4'], 3, 21 * GiB)).toEqual({
    VLLM_CPU_KVCACHE_SPACE: '3',
  });
  expect(defaultKvCacheSpace({}, [], 2, GiB)).toEqual({ VLLM_CPU_KVCACHE_SPACE: '1' });
});

test.each([
  [{ VLLM_CPU_KVCACHE_SPACE: '2' }, []],
  [{}, ['--gpu-memory-utilization', '0.5']],
  [{}, ['--gpu_memory_utilization=0.5']],
  [{}, ['--kv-cache-mem', '1000000']],
])('what the user says stands: %j %j', (env, flags) => {
  expect(defaultKvCacheSpace(env, flags, 1, 21 * GiB)).toEqual({});
});
