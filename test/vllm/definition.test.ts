// One definition, seen: a line of a TypeScript policy changes, and every runtime cuts elsewhere, all
// at the same new places.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findPython, pythonEnvironment } from '../../src/bridge/index.ts';
import { readContract } from '../../src/checkpoint/index.ts';
import type { EngineReport } from '../../src/engines/verify/index.ts';
import { packageRoot } from '../../src/paths.ts';

const cli = path.join(packageRoot, 'dist/cli/main.js');
const tokens = 600;
const text = path.join(packageRoot, '.lockstep', 'texts', 'milton', 'paradiselost.txt');
let folder: string;

const policy = `import { definePolicy } from 'lockstep';

export const words = definePolicy({
  name: 'words',
  params: { every: 9 },
  prepare: (vocabulary) => ({ spaces: vocabulary.select((text) => text.includes(' ')) }),
  start: () => ({ seen: 0 }),
  push(state, token, { tables, params }) {
    if (tables.spaces.includes(token)) state.seen += 1;
    return state.seen % params.every === 0;
  },
});
`;

const config = `import { defineConfig } from 'lockstep';
import { words } from './words.ts';

export default defineConfig({
  model: './model',
  out: './out',
  policy: words(),
  segment: { min: 8, max: 48 },
  carry: { size: 12, sinks: 4 },
  retrieval: { size: 16, layers: [1, 2] },
  heads: { long: [1] },
});
`;

function lockstep(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const options = { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 28 } as const;
  return spawnSync(process.execPath, [cli, ...args], options);
}

/** The same with whole blocks retrieved, and a carry of every head. */
const blocks = config
  .replace('sinks: 4', "sinks: 4, heads: 'all'")
  .replace('size: 16, layers', "size: 16, recipe: 'blocks', block: 4, window: 20, layers");

/** A checkpoint under this text of the policy, and its cuts as the planner makes them. */
function attached(
  name: string,
  source: string,
  settings = config,
): { dir: string; boundaries: number[] } {
  writeFileSync(path.join(folder, 'lockstep.config.ts'), settings);
  writeFileSync(path.join(folder, 'words.ts'), source);
  const dir = path.join(folder, name);
  const made = lockstep('attach', 'model', '--config', 'lockstep.config.ts', '--out', dir);
  expect(made.stderr + made.stdout, 'attach').toContain(name);
  expect(made.status).toBe(0);
  const exported = lockstep('export', dir);
  expect(exported.status, exported.stderr).toBe(0);
  const planned = lockstep('plan', text, '--checkpoint', dir, '--json');
  expect(planned.status, planned.stderr).toBe(0);
  const { boundaries } = JSON.parse(planned.stdout) as { boundaries: number[] };
  return { dir, boundaries: boundaries.filter((end) => end <= tokens) };
}

/** Trainer, onnx, and vLLM's worker and scheduler, over the same text. */
function verified(dir: string): EngineReport[] {
  const args = ['--against', 'onnx,vllm', '--text', text, '--tokens', `${tokens}`, '--json'];
  const run = lockstep('verify', dir, ...args);
  const line = run.stdout.trim().split('\n').at(-1) ?? '';
  expect(run.status, run.stdout + run.stderr).toBe(0);
  return (JSON.parse(line) as { engines: EngineReport[] }).engines;
}

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'lockstep-definition-'));
  const python = await findPython();
  const make = path.join(packageRoot, 'test', 'python', 'make_tiny.py');
  const env = { ...pythonEnvironment(), OMP_NUM_THREADS: '1' };
  execFileSync(python.executable, [make, path.join(folder, 'model')], { env, stdio: 'ignore' });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('one definition', () => {
  it('moves the cuts of trainer, onnx and vLLM together when a line of the policy changes', async () => {
    const before = attached('before', policy);
    const after = attached('after', policy.replace('every: 9', 'every: 5'));
    expect(after.boundaries).not.toEqual(before.boundaries);
    for (const { dir, boundaries } of [before, after]) {
      expect(boundaries.length).toBeGreaterThan(12);
      const reports = verified(dir);
      expect(reports.map((one) => one.engine)).toEqual(['onnx', 'vllm']);
      for (const report of reports) {
        expect(report).toMatchObject({
          tokens,
          boundaryMismatches: 0,
          greedyMismatches: 0,
          ok: true,
        });
      }
    }
    const [old, fresh] = await Promise.all([readContract(before.dir), readContract(after.dir)]);
    expect(fresh.contract.digest).not.toBe(old.contract.digest);
  });

  it('is the same for blocks that unlike heads take, and a carry of every head', () => {
    const { dir, boundaries } = attached('blocks', policy, blocks);
    expect(boundaries.length).toBeGreaterThan(12);
    for (const report of verified(dir)) {
      expect(report).toMatchObject({
        tokens,
        boundaryMismatches: 0,
        greedyMismatches: 0,
        ok: true,
      });
      expect(report.unexplainedRetrievals).toBe(0);
    }
  });

  it('refuses a checkpoint that has the new policy and the old contract', () => {
    const mixed = path.join(folder, 'mixed');
    cpSync(path.join(folder, 'before'), mixed, { recursive: true });
    writeFileSync(
      path.join(mixed, 'policy.js'),
      readFileSync(path.join(folder, 'after', 'policy.js')),
    );
    const run = lockstep('verify', mixed, '--against', 'vllm', '--tokens', '64', '--json');
    expect(run.status).toBe(1);
    expect(run.stdout + run.stderr).toContain('LS_CONTRACT_');
  });
});
