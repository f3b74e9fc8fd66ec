// lockstep eval as a user runs it: real processes, tiny models, real text.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findPython, pythonEnvironment } from '../src/bridge/index.ts';
import type { PplResult } from '../src/cli/eval/ppl.ts';
import type { TasksResult } from '../src/cli/eval/tasks.ts';
import { packageRoot } from '../src/paths.ts';
import { type EvalCheckpoints, evalCheckpoints } from './eval-checkpoints.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env = { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' };
const context = 64;
let home: string;
let made: EvalCheckpoints;
let text: string;

function cli(...args: string[]): { stdout: string; stderr: string; status: number | null } {
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env });
}

function json<T>(...args: string[]): T {
  const run = cli(...args, '--json');
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as T;
}

beforeAll(async () => {
  home = temporaryFolder('eval');
  made = await evalCheckpoints(home, context);
  text = path.join(home, 'text.txt');
  copyFileSync(path.join(packageRoot, 'LICENSE'), text);
  execFileSync(process.execPath, [main, 'export', made.trained, '--precision', 'fp32'], {
    env,
    stdio: 'ignore',
  });
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

describe('--suite ppl', () => {
  let whole: PplResult & { base: string; trainingContext: number };

  it('prints the untrained model and full attention beside the checkpoint', () => {
    const out = path.join(home, 'ppl');
    whole = json('eval', made.trained, '--text', text, '--windows', '2', '--out', out);
    expect(whole).toMatchObject({ base: made.base, trainingContext: context });
    expect(whole.lengths).toEqual([context, 2 * context, 4 * context, 8 * context]);
    expect(whole.windows).toHaveLength(2);
    expect(whole.rows.map((row) => row.name)).toEqual([
      'trained-segmented',
      'untrained-segmented',
      'trained-full',
      'untrained-full',
    ]);
    for (const row of whole.rows) {
      expect(row.byLength.map((at) => at.tokens)).toEqual(whole.lengths);
      // Two stretches of the longest length are eight blocks; fewer give no interval.
      const { perplexity, low, high } = row.byLength.at(-1) as PplResult['rows'][0]['byLength'][0];
      expect(low).toBeLessThan(perplexity);
      expect(high).toBeGreaterThan(perplexity);
      expect(row.byLength[0]).toMatchObject({ low: null, high: null });
      expect(row.byPosition).toHaveLength(16);
      expect(row).not.toHaveProperty('dir');
    }
    // A second call takes everything from the folder; it prints a table.
    const losses = path.join(out, 'trained-full-1.f64');
    const before = readFileSync(losses);
    const again = cli('eval', made.trained, '--text', text, '--windows', '2', '--out', out);
    expect(again.status).toBe(0);
    expect(readFileSync(losses).equals(before)).toBe(true);
    for (const row of whole.rows) {
      const last = row.byLength.at(-1)?.perplexity ?? Number.NaN;
      expect(again.stdout).toContain(last.toFixed(2));
    }
    expect(again.stdout).toMatch(/untrained, full attention/);
    // Other options in the same folder are refused, by name.
    const other = cli('eval', made.trained, '--text', text, '--windows', '3', '--out', out);
    expect(other.status).toBe(1);
    expect(other.stderr).toMatch(/LS_EVAL_RESUME.*another in windows$/m);
    // How many positions are shown may change: no loss depends on it.
    const bins = ['--text', text, '--windows', '2', '--bins', '4', '--out', out];
    expect(json<PplResult>('eval', made.trained, ...bins).rows[0]?.byPosition).toHaveLength(4);
    expect(readFileSync(losses).equals(before)).toBe(true);
    // So is the same file with another text in it.
    writeFileSync(text, `Another text. ${readFileSync(text, 'utf8')}`);
    const changed = cli('eval', made.trained, '--text', text, '--windows', '2', '--out', out);
    copyFileSync(path.join(packageRoot, 'LICENSE'), text);
    expect(changed.stderr).toMatch(/LS_EVAL_RESUME.*windows\.json/);
  });

  it('agrees with lockstep perplexity on the checkpoint and on the untrained model', () => {
    const options = ['--text', text, '--tokens', '64,512', '--attention', 'full,segmented'];
    const one = json<PplResult>('eval', made.trained, '--text', text, '--windows', '1');
    for (const weights of ['trained', 'untrained'] as const) {
      const { perplexity } = json<{ perplexity: Record<string, Record<string, number>> }>(
        'perplexity',
        made[weights],
        ...options,
      );
      for (const way of ['segmented', 'full']) {
        const row = one.rows.find(({ name }) => name === `${weights}-${way}`);
        for (const tokens of [64, 512]) {
          const at = row?.byLength.find((found) => found.tokens === tokens);
          expect(at?.perplexity).toBeCloseTo(perplexity[tokens]?.[way] ?? Number.NaN, 6);
        }
      }
    }
  });

  it('says which texts no window was cut from, and refuses an empty one', () => {
    const [short, empty] = ['short.txt', 'empty.txt'].map((name) => path.join(home, name)) as [
      string,
      string,
    ];
    writeFileSync(short, 'A few words.');
    writeFileSync(empty, '');
    const options = ['--lengths', '64', '--no-base', '--attention', 'segmented'];
    const found = json<PplResult>('eval', made.trained, '--text', text, short, ...options);
    expect(found.unused).toEqual([short]);
    const shown = cli('eval', made.trained, '--text', text, short, ...options);
    expect(shown.stdout).toContain(`beyond --windows: ${short}`);
    const refused = cli('eval', made.trained, '--text', text, empty, ...options);
    expect(refused.stderr).toMatch(/LS_TEXT_SHORT.*empty\.txt/);
  });

  it('refuses, before any work, what it could not finish', () => {
    const out = path.join(home, 'early');
    const onnx = ['--engine', 'onnx', '--lengths', '64', '--out', out];
    expect(cli('eval', made.untrained, ...onnx).stderr).toMatch(
      /LS_ENGINE_EXPORT(.|\n)*lockstep export/,
    );
    expect(existsSync(out)).toBe(false);
    const foreign = path.join(home, 'foreign');
    mkdirSync(foreign);
    writeFileSync(path.join(foreign, 'notes.txt'), '');
    for (const [folder, why] of [
      [text, 'ENOTDIR'],
      [foreign, 'notes.txt'],
      ['/proc/lockstep/eval', 'ENOENT'],
    ] as const) {
      if (why === 'ENOENT' && process.platform !== 'linux') continue;
      const run = cli('eval', made.trained, '--lengths', '64', '--out', folder);
      expect(run.stderr).toMatch(new RegExp(`LS_EVAL_OUT.*${why}`));
    }
    const device = cli('eval', made.trained, '--lengths', '64', '--device', 'nonsense');
    expect(device.stderr).toContain('LS_DEVICE');
  });

  it('gives the same perplexity through the onnx engine', () => {
    const found = json<PplResult>(
      ...['eval', made.trained, '--engine', 'onnx', '--attention', 'segmented', '--no-base'],
      ...['--text', text, '--windows', '2'],
    );
    expect(found.rows.map(({ name, engine }) => [name, engine])).toEqual([
      ['trained-segmented', 'onnx'],
    ]);
    for (const [i, at] of (found.rows[0]?.byLength ?? []).entries()) {
      const torch = whole.rows[0]?.byLength[i];
      expect(at.nll).toBeCloseTo(torch?.nll ?? Number.NaN, 4);
    }
  });

  it('says which untrained model it looked for', () => {
    const lost = path.join(home, 'elsewhere', 'trained');
    cpSync(made.trained, lost, { recursive: true });
    const missing = cli('eval', lost, '--text', text);
    expect(missing.status).toBe(1);
    expect(missing.stderr).toContain('LS_EVAL_BASE');
    expect(missing.stderr).toContain(path.join(home, 'elsewhere', 'base'));
    expect(missing.stderr).toContain('--base');
    const wrong = path.join(home, 'wrong');
    cpSync(made.base, wrong, { recursive: true });
    writeFileSync(path.join(wrong, 'tokenizer.json'), '{}');
    const other = cli('eval', lost, '--text', text, '--base', wrong);
    expect(other.stderr).toMatch(/LS_EVAL_BASE.*tokenizer\.json/);
    rmSync(path.join(home, 'elsewhere'), { recursive: true });
  });
});

describe('--suite ruler', () => {
  const asked = [
    ...['--suite', 'ruler', '--tasks', 'niah_single_1', '--lengths', '1024', '--samples', '2'],
    ...['--attention', 'full', '--no-base'],
  ];
  const answersOf = (folder: string, row: string): { index: number; text: string }[] =>
    readFileSync(path.join(folder, `${row}.jsonl`), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { index: number; text: string });

  it('answers greedily as transformers does with full attention, and resumes after a stop', async () => {
    const out = path.join(home, 'ruler');
    const first = json<TasksResult>('eval', made.trained, ...asked, '--out', out);
    expect(first.rows[0]?.scores).toMatchObject([
      { task: 'niah_single_1', length: 1024, samples: 2 },
    ]);
    const answers = answersOf(out, 'trained-full');
    expect(answers.map(({ index }) => index)).toEqual([0, 1]);
    const script = `
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
for line in open(sys.argv[2]):
    one = json.loads(line)
    ids = tokenizer(one["prompt"] + one["prefix"], return_tensors="pt", add_special_tokens=False)
    out = model.generate(**ids, do_sample=False, max_new_tokens=one["maxTokens"])[0]
    new = out[ids["input_ids"].shape[1]:]
    print(json.dumps(tokenizer.decode(new, skip_special_tokens=True)))`;
    const python = await findPython();
    const printed = execFileSync(
      python.executable,
      ['-c', script, path.join(home, 'other'), path.join(out, 'samples.jsonl')],
      { encoding: 'utf8', env: { ...pythonEnvironment(), OMP_NUM_THREADS: '1' } },
    );
    const expected = printed
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as string);
    expect(answers.map((answer) => answer.text)).toEqual(expected);
    // The second answer was being written when the process ended.
    const file = path.join(out, 'trained-full.jsonl');
    const lines = readFileSync(file, 'utf8').split('\n');
    const other = JSON.stringify({ ...answers[0], text: 'kept' });
    writeFileSync(file, `${other}\n${lines[1]?.slice(0, 20)}`);
    json('eval', made.trained, ...asked, '--out', out);
    expect(answersOf(out, 'trained-full').map((answer) => answer.text)).toEqual([
      'kept',
      expected[1],
    ]);
  });

  it('scores a perfect answer 100 and an empty one 0', () => {
    const out = path.join(home, 'scores');
    const samples = path.join(home, 'ruler', 'samples.jsonl');
    const file = path.join(out, 'trained-full.jsonl');
    cpSync(path.join(home, 'ruler'), out, { recursive: true });
    for (const [score, of] of [
      [100, (answers: string[]) => `It is ${answers.join(', ')}.`],
      [0, () => ''],
    ] as const) {
      const lines = readFileSync(samples, 'utf8').trim().split('\n');
      const answers = lines.map((line) => {
        const { task, length, index, answers } = JSON.parse(line) as {
          task: string;
          length: number;
          index: number;
          answers: string[];
        };
        return JSON.stringify({ task, length, index, text: of(answers) });
      });
      writeFileSync(file, `${answers.join('\n')}\n`);
      const { rows } = json<TasksResult>('eval', made.trained, ...asked, '--out', out);
      expect(rows[0]?.means).toEqual([{ length: 1024, score, low: null, high: null }]);
    }
  });

  it('answers the same through the torch and the onnx engine', () => {
    const texts = ['torch', 'onnx'].map((engine) => {
      const out = path.join(home, `ruler-${engine}`);
      json(
        ...['eval', made.trained, '--suite', 'ruler', '--tasks', 'niah_single_1'],
        ...['--lengths', '1024', '--samples', '1', '--no-base', '--attention', 'segmented'],
        ...['--engine', engine, '--out', out],
      );
      return answersOf(out, 'trained-segmented');
    });
    expect(texts[0]).toEqual(texts[1]);
  });

  it.each([
    [['--suite', 'ruler', '--device', 'cpu'], 2, /LS_USAGE.*--suite ppl/],
    [['--suite', 'ruler', '--windows', '2'], 2, /LS_USAGE.*--suite ppl/],
    [['--suite', 'ruler', '--tasks', 'niah'], 1, /LS_EVAL_TASK.*niah_single_1/],
    [['--suite', 'longbench'], 1, /LS_EVAL_LONGBENCH(.|\n)*--data/],
    [['--suite', 'ruler', '--lengths', '64'], 1, /LS_EVAL_LENGTH/],
    [['--engine', 'onnx', '--precision', 'bfloat16'], 2, /fp32, int8 or int4/],
    [['--lengths', '100000'], 1, /LS_TEXT_SHORT.*100000/],
  ])('refuses %j', (options, status, message) => {
    const run = cli('eval', made.untrained, ...options);
    expect(run.stderr).toMatch(message);
    expect(run.status).toBe(status);
    expect(existsSync(path.join(made.untrained, 'onnx'))).toBe(false);
  });
});
