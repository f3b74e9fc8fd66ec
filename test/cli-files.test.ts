// What a command line may cost: files of the user's that a command would write over, places where nothing can be
// written, options that say nothing, output that nobody takes. Real processes on files of a folder.
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const root = temporaryFolder('files');
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = `
import { defineConfig, fixed } from 'lockstep';
export default defineConfig({
  model: 'model', out: 'out', policy: fixed({ size: 16 }), segment: { max: 32 }, carry: { size: 8 },
  data: { train: ['text.txt'] }, training: { steps: 1, sequence: 96 },
});
`;

beforeAll(async () => {
  tinyCheckpoint(path.join(root, 'model'));
  writeFileSync(path.join(root, 'lockstep.config.ts'), config);
  writeFileSync(path.join(root, 'text.txt'), 'It was night. '.repeat(40));
  writeFileSync(path.join(root, 'mine.ts'), '// mine\n');
  const made = await lockstep('attach', 'model', '--out', 'checkpoint', '--no-probe');
  expect(made.stderr).toBe('');
});

interface Run {
  code: number;
  stdout: string;
  stderr: string;
}

const lockstep = (...args: string[]): Promise<Run> => started([process.execPath, cli, ...args]);

/** In a shell, after these words. */
const inShell = (words: string, ...args: string[]): Promise<Run> =>
  started(['bash', '-c', words, process.execPath, cli, ...args]);

function started([command = '', ...args]: string[]): Promise<Run> {
  const env = { ...process.env, NO_COLOR: '1' };
  return new Promise((resolve) => {
    execFile(command, args, { cwd: root, env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** A new file or folder below the root: its path, relative to it. */
function place(files: Record<string, string>): string {
  const dir = mkdtempSync(path.join(root, 'place-'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(dir, name)), { recursive: true });
    writeFileSync(path.join(dir, name), text);
  }
  return path.relative(root, dir);
}

const read = (...parts: string[]): string => readFileSync(path.join(root, ...parts), 'utf8');

/** Refused with the code of an error, which is no fault of Lockstep. */
function refused({ code, stderr }: Run, ...words: string[]): void {
  for (const word of words) expect(stderr).toContain(word);
  expect(stderr).not.toMatch(/LS_INTERNAL|\n\s+at /);
  expect(code).toBeGreaterThan(0);
}

describe('quickstart', () => {
  const named = (out: string, model = '../model'): string =>
    config.replace("model: 'model'", `model: '${model}'`).replace("out: 'out'", `out: '${out}'`);

  test.each([
    ['a folder', 'out'],
    ['the folder of the untrained model', 'out-untrained'],
  ])('%s that is there stays, whatever is in it', async (_, folder) => {
    const dir = place({ 'mine.config.ts': named('out'), [`${folder}/thesis.txt`]: 'years' });
    const run = await lockstep('quickstart', '--config', `${dir}/mine.config.ts`, '--exit');
    refused(run, 'LS_QUICKSTART_EXISTS', path.join(root, dir, folder), 'nothing was changed');
    expect(read(dir, folder, 'thesis.txt')).toBe('years');
  });

  test('a checkpoint stays, too, where the config is not the example', async () => {
    const dir = place({ 'mine.config.ts': named('out'), 'out/lockstep.json': '{}' });
    const run = await lockstep('quickstart', '--config', `${dir}/mine.config.ts`, '--exit');
    refused(run, 'LS_QUICKSTART_EXISTS', 'got a checkpoint');
    expect(read(dir, 'out', 'lockstep.json')).toBe('{}');
  });

  test('a model that is not there is found before anything else', async () => {
    const files = { 'mine.config.ts': named('out', 'nowhere'), 'out/thesis.txt': 'years' };
    const dir = place(files);
    const run = await lockstep('quickstart', '--config', `${dir}/mine.config.ts`, '--exit');
    refused(run, 'LS_MODEL_');
    expect(read(dir, 'out', 'thesis.txt')).toBe('years');
  });

  test('--exit takes no port', async () => {
    // A model that is not there: whatever is refused, nothing is trained.
    const dir = place({ 'mine.config.ts': named('out', 'nowhere') });
    const mine = ['--config', `${dir}/mine.config.ts`];
    const run = await lockstep('quickstart', ...mine, '--exit', '--port', '9000');
    refused(run, 'LS_USAGE', '--port');
    expect(run.code).toBe(2);
  });
});

describe('files that are something else stay as they are', () => {
  test.each([
    [['train', '--job', 'mine.ts'], 'LS_TRAIN_JOB'],
    [['plan', 'text.txt', '--html', 'mine.ts'], 'LS_PLAN_HTML'],
    [['recall', 'checkpoint', '--html', 'mine.ts'], 'LS_RECALL_HTML'],
  ])('%j', async (args, code) => {
    refused(await lockstep(...args), code, 'mine.ts');
    expect(read('mine.ts')).toBe('// mine\n');
  });

  test('train --job writes over an earlier job, and over no other file', async () => {
    const dir = place({ 'package.json': '{"name": "mine"}' });
    const other = await lockstep('train', '--job', `${dir}/package.json`);
    refused(other, 'LS_TRAIN_JOB', 'got something else');
    expect(read(dir, 'package.json')).toBe('{"name": "mine"}');
    expect(readdirSync(path.join(root, dir))).toEqual(['package.json']);
    for (const seed of ['1', '2']) {
      const made = await lockstep('train', '--job', `${dir}/a b.json`, '--seed', seed);
      expect(made).toMatchObject({ code: 0, stderr: '' });
      expect(made.stdout).toContain(`LOCKSTEP_JOB='${dir}/a b.json' PYTHONPATH=`);
      expect(JSON.parse(read(dir, 'a b.json')).training.seed).toBe(Number(seed));
    }
  });

  test('train --job names another file where the place of its model is taken', async () => {
    const dir = place({ 'job.json.model/thesis.txt': 'years' });
    const run = await lockstep('train', '--job', `${dir}/job.json`);
    refused(run, 'LS_TRAIN_JOB', 'job.json.model', 'Name another file with --job');
    expect(run.stderr).not.toMatch(/--force|--out/);
    expect(readdirSync(path.join(root, dir))).toEqual(['job.json.model']);
  });

  test('a trial of writing takes no name of the user’s', async () => {
    const dir = place({ 'r.html.part': 'mine', 'r.html.new': 'mine', 'text.txt': '' });
    // Too short a text to measure: it ends after the trial.
    const args = ['report', 'checkpoint', '--out', `${dir}/r.html`, '--text', `${dir}/text.txt`];
    refused(await lockstep(...args), 'error');
    expect(read(dir, 'r.html.part')).toBe('mine');
    expect(readdirSync(path.join(root, dir)).sort()).toEqual([
      'r.html.new',
      'r.html.part',
      'text.txt',
    ]);
  });

  test.runIf(process.platform === 'linux')('a full disk leaves no half of a page', async () => {
    const dir = place({ 'page.html': 'the one before' });
    for (const name of ['page.html', 'new.html']) {
      const args = ['plan', 'text.txt', '--html', `${dir}/${name}`];
      refused(await inShell('ulimit -f 1; exec "$0" "$@"', ...args), 'LS_PLAN_WRITE');
    }
    expect(read(dir, 'page.html')).toBe('the one before');
    expect(readdirSync(path.join(root, dir))).toEqual(['page.html']);
  });
});

describe('places where nothing can be written', () => {
  test.each([
    [['attach', 'model', '--out', 'text.txt/x'], 'LS_ATTACH_WRITE'],
    [['detach', 'checkpoint', '--out', 'text.txt/q'], 'LS_DETACH_WRITE'],
    [['train', '--job', 'text.txt/x.json'], 'LS_TRAIN_JOB'],
    [['train', '--out', 'text.txt/x'], 'LS_ATTACH_WRITE'],
    [['train', '--plot', 'text.txt/x.svg'], 'LS_TRAIN_PLOT'],
    [['train', '--plot', 'text.txt/x.png'], 'LS_TRAIN_PLOT'],
    [['plan', 'text.txt', '--html', 'text.txt/x.html'], 'LS_PLAN_WRITE'],
    [['report', 'checkpoint', '--out', 'text.txt/x.html'], 'LS_REPORT_WRITE'],
    [
      ['init', '--model', 'model', '--data', 'text.txt', '--config', 'text.txt/x.ts'],
      'LS_INIT_WRITE',
    ],
  ])('%j', async (args, code) => {
    refused(await lockstep(...args), code, 'a path through a file that is no folder');
  });

  test.each([
    [['train', '--job', 'folder.json'], 'LS_TRAIN_JOB'],
    [['train', '--plot', 'folder.svg'], 'LS_TRAIN_PLOT'],
    [['plan', 'text.txt', '--html', 'folder.html'], 'LS_PLAN_WRITE'],
  ])('%j, which is a folder', async (args, code) => {
    const folder = path.join(root, args.at(-1) as string);
    mkdirSync(folder, { recursive: true });
    refused(await lockstep(...args), code, folder.split('/').at(-1) as string);
    expect(existsSync(`${folder}.model`)).toBe(false);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('init leaves no empty config on a full disk', async () => {
    const dir = place({});
    const args = ['--model', 'model', '--data', 'text.txt', '--config', `${dir}/x.config.ts`];
    refused(await inShell('ulimit -f 0; exec "$0" "$@"', 'init', ...args), 'LS_INIT_WRITE');
    expect(readdirSync(path.join(root, dir))).toEqual([]);
  });

  test.each([
    [['report', 'nope']],
    [['recall', 'nope', '--card']],
    [['recall', 'nope', '--html', 'nope/grid.html']],
    [['eval', 'nope', '--out', 'nope/results']],
  ])('%j makes no folder for a checkpoint that is not there', async (args) => {
    refused(await lockstep(...args), 'LS_CONTRACT_MISSING', 'nope');
    expect(existsSync(path.join(root, 'nope'))).toBe(false);
  });
});

describe('options that say nothing, or more than there is', () => {
  test.each([
    [['train', '--resume', '--overwrite'], '--overwrite'],
    [['train', '--job', 'j.json', '--python', 'python3'], '--python'],
    [['train', '--job', 'j.json', '--device', 'banana'], 'banana'],
    [['train', '--job', 'j.json', '--shard'], '--nproc'],
    [['train', '--shard'], '--nproc'],
    [['train', '--minutes', '1e308'], '10000000'],
    [['serve', 'checkpoint', '--drain', '9999999'], '2000000'],
    [['serve', 'checkpoint', '--pre-drain', '1e300'], '2000000'],
    [['serve', 'checkpoint', '--stall-timeout', '9999999'], '2000000'],
    [['serve', 'checkpoint', '--stall-timeout', '1e-9'], '0.001'],
  ])('%j', async (args, words) => {
    refused(await lockstep(...args), words);
    expect(existsSync(path.join(root, 'j.json'))).toBe(false);
    expect(existsSync(path.join(root, 'j.json.model'))).toBe(false);
  });

  test('a job for several machines may have one process on each', async () => {
    const args = ['train', '--job', 'shard.json', '--shard', '--nproc', '1', '--device', 'cuda'];
    expect(await lockstep(...args)).toMatchObject({ code: 0, stderr: '' });
  });
});

describe('a config that ends or holds the command', () => {
  const plan = (text: string): Promise<Run> => {
    const dir = place({ 'it.config.ts': text });
    return lockstep('plan', 'text.txt', '--config', `${dir}/it.config.ts`, '--json');
  };

  test('an exit is named, at once or later', async () => {
    const now = await plan('process.exit(0);\nexport default {};');
    refused(now, 'LS_CONFIG_FAILED', 'process.exit(0)');
    const later = config
      .replace("model: 'model'", "model: '../model'")
      .replace('export default', 'setImmediate(() => process.exit(0));\nexport default');
    const run = await plan(later);
    refused(run, 'LS_ENDED');
    expect(JSON.parse(run.stdout.trim().split('\n').at(-1) ?? '').error.code).toBe('LS_ENDED');
  });

  test('a promise that never settles is named', async () => {
    refused(await plan('export default new Promise(() => {});'), 'LS_CONFIG_INVALID', 'a promise');
  });

  test('what takes long is named while it runs', async () => {
    const run = await plan(
      `// It waits and does not compute.\nAtomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 9000);\n${config.replace("model: 'model'", "model: '../model'")}`,
    );
    expect(run.code).toBe(0);
    expect(run.stderr).toContain('still running');
    expect(run.stderr).toContain('it.config.ts');
  });
});

/** Into a pipe that is closed; the exit code is that of the command. */
const unread = 'set -o pipefail; "$0" "$@" | true';

describe('output that nobody takes', () => {
  test('ends what only prints, without a failure; a full disk is one', async () => {
    const plan = ['plan', 'text.txt', '--trace'];
    expect(await inShell(unread, ...plan)).toMatchObject({
      code: 0,
      stderr: '',
    });
    const full = await inShell('exec "$0" "$@" > /dev/full', 'plan', 'text.txt', '--json');
    refused(full, 'LS_OUTPUT_LOST', 'a full disk');
  });

  test('does not keep a command from its work', async () => {
    const attach = ['attach', 'model', '--no-probe', '--out'];
    const run = await inShell(unread, ...attach, 'unread');
    expect(run.code).toBe(0);
    expect(existsSync(path.join(root, 'unread', 'lockstep.json'))).toBe(true);
    const full = await inShell('exec "$0" "$@" > /dev/full', ...attach, 'full');
    refused(full, 'LS_OUTPUT_LOST', 'a full disk');
    expect(existsSync(path.join(root, 'full', 'lockstep.json'))).toBe(true);
  });
});
