// `lockstep export` as users run it.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { type TinyCase, TinyCheckpoints } from './onnx-checkpoints.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const one: TinyCase = {
  name: 'tiny',
  architecture: 'qwen2',
  model: { hidden: 64, head_dim: 16 },
  segment: 16,
  carry: { size: 6, sinks: 4 },
  retrieval: { size: 16, recipe: 'anchors', layers: [1] },
  heads: [1],
  tokens: [],
  boundaries: [],
};
let folder: string;
let dir: string;

function lockstep(...args: string[]): { code: number | null; out: string; error: string } {
  const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
  const env = { ...process.env, NO_COLOR: '1', OMP_NUM_THREADS: '1' };
  const done = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', env });
  return { code: done.status, out: done.stdout, error: done.stderr };
}

beforeAll(async () => {
  folder = temporaryFolder('onnx-export');
  const made = await TinyCheckpoints.make(folder, [one]);
  made.finish();
  dir = made.dir(one);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('lockstep export', () => {
  it('keeps what is good, refuses what loses too much, and leaves no scratch', () => {
    const args = ['--precision', 'fp32,int4', '--max-perplexity-ratio', 'int4=0.01'];
    const { code, error } = lockstep('export', dir, ...args);
    expect(code).toBe(1);
    expect(error).toContain('LS_EXPORT_PERPLEXITY');
    expect(error).toContain('--force');
    expect(error).not.toContain('    at ');
    expect(readdirSync(path.join(dir, 'onnx'))).toEqual(['fp32']);
  });

  it('says that a precision was forced', () => {
    const args = ['--precision', 'int4', '--max-perplexity-ratio', '0.01', '--force'];
    const { code, out } = lockstep('export', dir, ...args);
    expect(code).toBe(0);
    expect(out).toContain('kept because of --force');
    const meta = JSON.parse(readFileSync(path.join(dir, 'onnx/int4/meta.json'), 'utf8'));
    expect(meta.quality).toMatchObject({ forced: true });
  });

  it('prints one JSON object', () => {
    const { code, out } = lockstep('export', dir, '--precision', 'int8', '--force', '--json');
    expect(code).toBe(0);
    const result = JSON.parse(out);
    expect(result.precisions).toMatchObject([{ precision: 'int8' }]);
    expect(result.precisions[0].ratio).toBeGreaterThan(0);
    expect(existsSync(path.join(result.precisions[0].path, 'step.onnx.data'))).toBe(true);
  });

  it.each([
    [['--precision', 'fp8'], 2, 'fp32, int8, int4 or all'],
    [['--max-perplexity-ratio', 'int8=good'], 2, 'ratio'],
    [['--precision', 'int8', '--text', 'no-such-file'], 1, 'LS_EXPORT_TEXT'],
  ])('refuses %j', (args, expected, what) => {
    const { code, error } = lockstep('export', dir, ...args);
    expect([code, error]).toEqual([expected, expect.stringContaining(what)]);
  });

  it('refuses a checkpoint without a contract', () => {
    const { code, error } = lockstep('export', path.join(folder, `${one.name}.model`));
    expect([code, error]).toEqual([1, expect.stringContaining('LS_CONTRACT_MISSING')]);
  });
});
