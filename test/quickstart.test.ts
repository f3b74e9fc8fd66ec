// `npm start -- --exit --json --quick` with a shorter training: every stage, on the real model and texts.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { startServer } from '../src/cli/quickstart/serving.ts';
import { packageRoot } from '../src/paths.ts';
import { servedCheckpoint } from './served-checkpoint.ts';

const run = promisify(execFile);

interface Row {
  full: number;
  noSinks: number;
  segmentedBefore: number;
  segmentedAfter: number;
}

test('the quickstart trains, proves, exports, serves and completes', async () => {
  const cli = path.join(packageRoot, 'dist/cli/main.js');
  // Steps, not minutes: what comes out does not depend on how busy the machine is.
  const asked = ['quickstart', '--exit', '--json', '--quick', '--steps', '2'];
  const { stdout } = await run('node', [cli, ...asked], {
    cwd: packageRoot,
    maxBuffer: 64 * 1024 * 1024,
  });
  const result = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
  expect(Object.keys(result)).toEqual([
    'checkpoint',
    'perplexity',
    'recall',
    'verify',
    'completion',
    'seconds',
  ]);
  expect(existsSync(path.join(result.checkpoint, 'lockstep.json'))).toBe(true);
  expect(Object.keys(result.perplexity)).toEqual(['1024']);
  for (const row of Object.values<Row>(result.perplexity)) {
    expect(row.full).toBeGreaterThan(1);
    expect(row.segmentedBefore).toBeLessThan(row.noSinks);
    expect(row.segmentedAfter).toBeLessThan(row.segmentedBefore);
  }
  expect(Object.keys(result.recall)).toEqual(['1024']);
  for (const row of Object.values<Record<string, number>>(result.recall)) {
    expect(Object.keys(row)).toEqual(['full', 'segmentedBefore', 'segmentedAfter']);
    expect(Object.values(row).every((share) => share >= 0 && share <= 1)).toBe(true);
    expect(row['full']).toBeGreaterThan(0.2);
  }
  // The contract recalls before any training; without retrieval that fits it is below 0.2.
  expect(result.recall['1024'].segmentedBefore).toBeGreaterThan(0.5);
  const bounds: Record<string, number> = { onnx: 5e-3, torch: 1e-3 };
  expect(result.verify.map((row: { engine: string }) => row.engine)).toEqual(['onnx', 'torch']);
  for (const row of result.verify) {
    expect(row.tokens).toBe(256);
    expect(row.boundaryMismatches).toBe(0);
    expect(row.greedyMismatches).toBe(0);
    expect(row.maxAbsDlogp).toBeLessThanOrEqual(bounds[row.engine] as number);
  }
  expect(result.completion.trim().length).toBeGreaterThan(0);
}, 1_500_000);

test('its server takes a free port, and says which; one that does not start is named', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'ls-quickstart-'));
  const { signal } = new AbortController();
  try {
    const dir = await servedCheckpoint(folder);
    const server = await startServer(dir, 0, signal);
    expect((await fetch(`${server.url}/health/ready`)).status).toBe(200);
    await server.stop();
    await expect(fetch(`${server.url}/health/ready`)).rejects.toThrow();
    const missing = startServer(path.join(folder, 'missing'), 0, signal);
    await expect(missing).rejects.toMatchObject({
      code: 'LS_QUICKSTART_SERVE',
      message: expect.stringContaining('got exit code 1'),
    });
    const stopped = new Error('stopped');
    await expect(startServer(dir, 0, AbortSignal.abort(stopped))).rejects.toBe(stopped);
  } finally {
    await rm(folder, { recursive: true });
  }
}, 240_000);
