// `lockstep eval --engine vllm` with the real vLLM: the trainer's losses, and torch's answers.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findPython, type Python } from '../../src/bridge/index.ts';
import type { PplResult } from '../../src/cli/eval/ppl.ts';
import type { TasksResult } from '../../src/cli/eval/tasks.ts';
import { vllmModules } from '../../src/engines/vllm/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { type EvalCheckpoints, evalCheckpoints } from '../eval-checkpoints.ts';
import { temporaryFolder } from '../tiny-checkpoint.ts';

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
const text = path.join(packageRoot, 'LICENSE');
let home: string;
let made: EvalCheckpoints;
let python: Python;

function cli(...args: string[]): { stdout: string; stderr: string; status: number | null } {
  return spawnSync(process.execPath, [main, 'eval', ...args, '--python', python.executable], {
    encoding: 'utf8',
    env: { ...process.env, OMP_NUM_THREADS: '1', VLLM_CPU_KVCACHE_SPACE: '1', NO_COLOR: '1' },
  });
}

function json<T>(...args: string[]): T {
  const run = cli(...args, '--json');
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as T;
}

beforeAll(async () => {
  home = temporaryFolder('eval-vllm');
  python = await findPython({ modules: vllmModules });
  made = await evalCheckpoints(home, 64);
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe('--suite ppl', () => {
  // The longer one takes more than one step of vLLM, and its last chunk ends within a segment.
  const asked = ['--text', text, '--windows', '2', '--lengths', '64,1500'];
  const ppl = (engine: string): PplResult =>
    json(
      ...[made.trained, ...asked, '--engine', engine],
      ...['--attention', 'segmented', '--out', path.join(home, engine)],
    );
  const lossesOf = (engine: string, row: string, window: number): Float64Array =>
    new Float64Array(
      Uint8Array.from(readFileSync(path.join(home, engine, `${row}-${window}.f64`))).buffer,
    );
  let vllm: PplResult;

  it('gives every token the trainer’s loss, of the checkpoint and of the untrained model', () => {
    const torch = ppl('torch');
    vllm = ppl('vllm');
    expect(vllm.rows.map(({ name, engine }) => [name, engine])).toEqual([
      ['trained-segmented', 'vllm'],
      ['untrained-segmented', 'vllm'],
    ]);
    expect(Object.keys(vllm.seconds)).toEqual(vllm.rows.map(({ name }) => name));
    for (const [i, { name, byLength }] of vllm.rows.entries()) {
      for (const window of [0, 1]) {
        const own = lossesOf('vllm', name, window);
        const trainer = lossesOf('torch', name, window);
        expect(own).toHaveLength(1499);
        const gaps = own.map((loss, t) => Math.abs(loss - (trainer[t] ?? Number.NaN)));
        expect(Math.max(...gaps)).toBeLessThan(1e-4);
      }
      for (const [at, { perplexity }] of byLength.entries()) {
        const trainer = torch.rows[i]?.byLength[at]?.perplexity ?? Number.NaN;
        expect(Math.abs(perplexity / trainer - 1)).toBeLessThan(1e-5);
      }
    }
  });

  it('computes the windows that are missing', () => {
    const file = path.join(home, 'vllm', 'trained-segmented-1.f64');
    const before = readFileSync(file);
    rmSync(file);
    const again = ppl('vllm');
    expect(Object.keys(again.seconds)).toEqual(['trained-segmented']);
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(again.rows).toEqual(vllm.rows);
  });

  it.each([
    [['--threads', '1'], 2, /LS_USAGE.*--threads/],
    [['--precision', 'float16'], 2, /LS_USAGE.*float32 or bfloat16/],
  ])('refuses %j', (options, status, message) => {
    const run = cli(made.trained, ...asked, '--engine', 'vllm', ...options);
    expect(run.stderr).toMatch(message);
    expect(run.status).toBe(status);
  });
});

describe('--suite ruler', () => {
  it('answers as the torch engine does', () => {
    const answers = ['torch', 'vllm'].map((engine) => {
      const out = path.join(home, `ruler-${engine}`);
      const { rows } = json<TasksResult>(
        ...[made.trained, '--suite', 'ruler', '--tasks', 'niah_single_1', '--lengths', '1024'],
        ...['--samples', '2', '--no-base', '--attention', 'segmented'],
        ...['--engine', engine, '--out', out],
      );
      expect(rows).toMatchObject([
        { engine, scores: [{ task: 'niah_single_1', length: 1024, samples: 2 }] },
      ]);
      const lines = readFileSync(path.join(out, 'trained-segmented.jsonl'), 'utf8').trim();
      return lines.split('\n').sort();
    });
    expect(answers[1]).toHaveLength(2);
    expect(answers[1]?.join()).not.toContain('"text":""');
    expect(answers[1]).toEqual(answers[0]);
  });
});
