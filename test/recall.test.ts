// lockstep recall and lockstep profile --method recall as a user runs them: real processes and text.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { HeadsFile } from '../src/cli/profile/heads-file.ts';
import { shades } from '../src/cli/recall/grid.ts';
import type { RecallResult } from '../src/cli/recall/run.ts';
import { packageRoot } from '../src/paths.ts';
import { type EvalCheckpoints, evalCheckpoints } from './eval-checkpoints.ts';
import { violationsOfFiles } from './helpers/accessibility.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env = { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' };
const smollm = path.join(packageRoot, '.lockstep', 'models', 'smollm2-135m-instruct');
let home: string;
let made: EvalCheckpoints;
let asking: string[];

function cli(...args: string[]): { stdout: string; stderr: string; status: number | null } {
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env });
}

function json<T>(...args: string[]): T {
  const run = cli(...args, '--json');
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout.trim().split('\n').at(-1) as string) as T;
}

beforeAll(async () => {
  home = temporaryFolder('recall');
  made = await evalCheckpoints(home, 64);
  const text = path.join(home, 'text.txt');
  copyFileSync(path.join(packageRoot, 'LICENSE'), text);
  asking = ['--text', text, '--lengths', '640,800', '--depths', '0.2,0.8', '--samples', '1'];
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

/** Measured by the first test; the others find the answers there. */
const measured = (): string[] => {
  const kept = ['--out', path.join(home, 'kept'), '--compare', made.untrained];
  return ['recall', made.trained, ...asking, ...kept];
};

describe('lockstep recall', () => {
  it('asks full attention and segments before and after, and shows the grid', async () => {
    const page = path.join(home, 'pages', 'recall.html');
    const args = measured();
    const whole = json<RecallResult>(...args);
    expect(whole.rows.map(({ name }) => name)).toEqual([
      'trained-segmented',
      'untrained-segmented',
      'trained-full',
      'untrained-full',
      'beside-untrained',
    ]);
    for (const row of whole.rows) {
      expect(row.cells.map(({ length, depth, samples }) => [length, depth, samples])).toEqual([
        [640, 0.2, 1],
        [640, 0.8, 1],
        [800, 0.2, 1],
        [800, 0.8, 1],
      ]);
      expect(row.cells.every(({ logp }) => logp < 0)).toBe(true);
      expect(row.heads === null).toBe(row.execution === 'full');
    }
    // The same weights under the same contract answer alike, whichever row they stand in.
    const logps = (name: string) =>
      whole.rows.find((row) => row.name === name)?.cells.map(({ logp }) => logp);
    expect(logps('beside-untrained')).toEqual(logps('untrained-segmented'));
    expect(logps('trained-segmented')).not.toEqual(logps('untrained-segmented'));
    const file = path.join(home, 'kept', 'trained-full.jsonl');
    const before = readFileSync(file, 'utf8');
    const again = cli(...args, '--html', page);
    expect(again.status, again.stderr).toBe(0);
    expect(readFileSync(file, 'utf8')).toBe(before);
    expect(again.stdout).toMatch(/untrained, full attention/);
    expect(again.stdout).toMatch(/ {5}640 +0% +0% +0\.00/);
    const html = readFileSync(page, 'utf8');
    expect(html).not.toContain('<script');
    expect(await violationsOfFiles(page)).toEqual([]);
    const svg = Buffer.from(/src="[^"]*base64,([^"]+)/.exec(html)?.[1] ?? '', 'base64').toString();
    expect(svg).toContain('<title>640 tokens, depth 0.2: 0%</title>');
    expect(svg).toContain(shades[0]);
    const other = cli(...args, '--seed', '7');
    expect(other.stderr).toMatch(/LS_EVAL_RESUME.*seed/);
  });

  it('keeps the grid in the checkpoint, and a report carries it', () => {
    const whole = json<RecallResult>(...measured(), '--card');
    const card = () => readFileSync(path.join(made.trained, 'README.md'), 'utf8');
    const once = card();
    expect(once).toContain('| untrained, full attention | 0% | 0% |');
    expect(cli(...measured(), '--card').status).toBe(0);
    expect(card()).toBe(once);
    expect(once.match(/## Recall/g)).toHaveLength(1);
    const kept = path.join(made.trained, 'recall.json');
    expect(JSON.parse(readFileSync(kept, 'utf8'))).toEqual(whole);
    const report = path.join(home, 'report.md');
    const of = ['report', made.untrained, '--tokens', '64', '--out', report];
    // The same contract on other weights has the same digest.
    const run = cli(...of, '--recall', kept);
    expect(run.status, run.stderr).toBe(0);
    expect(readFileSync(report, 'utf8')).toMatch(
      /## Recall\n[\s\S]*untrained, full attention \| 0%/,
    );
    expect(readFileSync(report.replace('.md', '-recall.svg'), 'utf8')).toContain(
      'Needles recalled',
    );
    writeFileSync(kept, JSON.stringify({ ...whole, digest: 'x' }));
    expect(cli(...of, '--recall', kept).stderr).toMatch(/LS_RECALL_FILE.*another contract/);
    rmSync(kept);
  });

  it('prints the grid in colours', () => {
    const run = spawnSync(process.execPath, [main, ...measured()], {
      encoding: 'utf8',
      env: { ...env, NO_COLOR: '', FORCE_COLOR: '1' },
    });
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain('\x1b[38;5;231;48;2;157;47;22m');
  });

  it('resumes where a cancelled call ended', async () => {
    const out = path.join(home, 'cancelled');
    const few = ['--lengths', '640', '--samples', '9', '--out', out];
    const args = ['recall', made.untrained, ...asking, ...few];
    const child = spawn(process.execPath, [main, ...args, '--json'], { env, stdio: 'ignore' });
    const rows = path.join(out, 'untrained-segmented.jsonl');
    const lines = () => (existsSync(rows) ? readFileSync(rows, 'utf8').split('\n').length - 1 : 0);
    await vi.waitUntil(() => lines() >= 2, { timeout: 300_000, interval: 50 });
    child.kill('SIGINT');
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect(code).toBe(130);
    const before = readFileSync(rows, 'utf8');
    expect(before.endsWith('}\n')).toBe(true);
    // It stopped between two documents, not at the end of the row.
    expect(lines()).toBeLessThan(9);
    const whole = json<RecallResult>(...args);
    expect(readFileSync(rows, 'utf8').startsWith(before)).toBe(true);
    expect(lines()).toBe(9);
    expect(whole.rows[0]?.lengths[0]?.low).not.toBeNull();
  });

  it('onnx answers as torch does', () => {
    const options = { env, stdio: 'ignore' } as const;
    execFileSync(
      process.execPath,
      [main, 'export', made.untrained, '--precision', 'fp32'],
      options,
    );
    const args = ['recall', made.untrained, ...asking, '--no-chat'];
    const torch = json<RecallResult>(...args);
    const onnx = json<RecallResult>(...args, '--engine', 'onnx');
    expect(onnx.rows.map(({ engine }) => engine)).toEqual(['onnx', 'torch']);
    const [a, b] = [torch.rows[0], onnx.rows[0]];
    for (const [i, cell] of (a?.cells ?? []).entries()) {
      expect(b?.cells[i]?.logp).toBeCloseTo(cell.logp, 3);
    }
    expect(b?.heads).toEqual(a?.heads);
  });

  it.each([
    [['--depths', '0.5,2'], 2, 'from 0 to 1'],
    [['--lengths', '100'], 1, 'LS_RECALL_LENGTH'],
    [['--engine', 'onnx', '--threads', '0'], 2, 'whole number'],
    [['--html', '.'], 1, 'LS_RECALL_HTML: expected --html to name an .html, got .'],
  ])('refuses %j', (args, status, message) => {
    const run = cli('recall', made.untrained, ...asking, ...args);
    expect(run.stderr).toContain(message);
    expect(run.status).toBe(status);
  });

  it('refuses a folder for its page before it measures', () => {
    const folder = path.join(home, 'folder.html');
    mkdirSync(folder);
    const run = cli('recall', made.untrained, ...asking, '--html', folder);
    expect(run.stderr).toContain(`LS_RECALL_WRITE: expected to write ${folder}, got a folder`);
    expect(run.status).toBe(1);
  });
});

describe('lockstep profile --method recall', () => {
  const out = () => ['--out', path.join(home, 'heads.json')];

  it('says that a model recalls nothing', () => {
    const data = ['--data', path.join(home, 'text.txt'), '--length', '640', '--needles', '4'];
    const run = cli('profile', made.base, '--method', 'recall', '--heads', '3', ...data, ...out());
    expect(run.stderr).toMatch(/LS_PROFILE_(RECALL|LENGTH)/);
    const short = cli(
      ...['profile', made.base, '--method', 'recall', '--heads', '3'],
      ...[...data, '--length', '500', ...out()],
    );
    expect(short.stderr).toContain('LS_PROFILE_RECALL: expected a model that recalls needles');
    expect(short.stderr).toContain('got 0 of 4 recalled');
    expect(short.status).toBe(1);
    expect(existsSync(path.join(home, 'heads.json'))).toBe(false);
  });

  it('finds heads of SmolLM2 that copy', () => {
    const data = ['--data', path.join(home, 'text.txt'), '--length', '256', '--needles', '4'];
    const run = cli('profile', smollm, '--method', 'recall', '--heads', '6', ...data, ...out());
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toMatch(/full attention recalled [1-4] of 4 needles of 256 tokens/);
    const file = JSON.parse(readFileSync(path.join(home, 'heads.json'), 'utf8')) as HeadsFile;
    expect(file.heads.long.flat()).toHaveLength(6);
    const [scores, chosen] = [file.scores ?? [], file.heads.long];
    const held = chosen.flatMap((heads, layer) => heads.map((h) => scores[layer]?.[h] ?? 0));
    expect(Math.max(...held)).toBeGreaterThan(0.3);
    // Copying is the work of a few heads.
    const all = scores.slice(1).flat();
    expect(all.filter((mass) => mass > 0.3).length).toBeLessThan(20);
    const svg = readFileSync(path.join(home, 'heads.svg'), 'utf8');
    expect(svg).toContain('copy mass');
  });
});
