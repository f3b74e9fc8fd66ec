// Tests on the real vLLM, by `npm run test:vllm`: one file at a time, for one engine fills the machine.
import path from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: path.resolve(import.meta.dirname, '../..'),
  test: {
    include: ['test/vllm/**/*.test.ts'],
    globalSetup: 'test/shared-folder.ts',
    // A start takes a minute, on a busy machine several.
    testTimeout: 1_500_000,
    hookTimeout: 1_500_000,
    pool: 'forks',
    maxWorkers: 1,
  },
});
