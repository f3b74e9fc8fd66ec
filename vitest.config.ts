import path from 'node:path';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/longest-first.ts';

export default defineConfig({
  resolve: {
    alias: {
      'lockstep/policies': path.resolve(import.meta.dirname, 'src/policies/index.ts'),
      lockstep: path.resolve(import.meta.dirname, 'src/index.ts'),
    },
  },
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    // They need vLLM: npm run test:vllm.
    exclude: ['test/vllm/**'],
    globalSetup: ['test/shared-folder.ts', 'test/warm/setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 300_000,
    // The default is one second, which a busy machine spends on less.
    expect: { poll: { timeout: 20_000 } },
    pool: 'forks',
    // As the command line has it (src/cli/main.ts).
    execArgv: ['--wasm-tiering-budget=1000000000'],
    // One more than the two cores: many tests wait for sockets, signals and other processes.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    typecheck: { enabled: false },
  },
});
