import { expect, test } from 'vitest';
import { roomForKv } from './kv-cache-space.ts';

const GiB = 2 ** 30;

test('half of the free memory, shared by the replicas, and never none', () => {
  expect(roomForKv({}, [], 1, 21 * GiB)).toEqual({ VLLM_CPU_KVCACHE_SPACE: '10' });
  expect(roomForKv({}, ['--max-num-seqs', '4'], 3, 21 * GiB)).toEqual({
    VLLM_CPU_KVCACHE_SPACE: '3',
  });
  expect(roomForKv({}, [], 2, GiB)).toEqual({ VLLM_CPU_KVCACHE_SPACE: '1' });
});

test.each([
  [{ VLLM_CPU_KVCACHE_SPACE: '2' }, []],
  [{}, ['--gpu-memory-utilization', '0.5']],
  [{}, ['--gpu_memory_utilization=0.5']],
  [{}, ['--kv-cache-mem', '1000000']],
])('what the user says stands: %j %j', (env, flags) => {
  expect(roomForKv(env, flags, 1, 21 * GiB)).toEqual({});
});
