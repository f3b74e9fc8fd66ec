// `lockstep train` as a user runs it: real processes, a tiny model, real text.
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readContract } from '../src/checkpoint/index.ts';
import type { StepEvent, TrainEvent, TrainResult } from '../src/cli/train/events.ts';
import { packageRoot } from '../src/paths.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

// Sixteen steps, so that a signal of an early one comes long before the last.
vi.setConfig({ testTimeout: 300_000 });

const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env = { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' };
let home: string;

const config = (training: string): string => `
import { defineConfig, sentences } from 'lockstep';
export default defineConfig({
  model: 'model', out: 'out', policy: sentences(), segment: { min: 8, max: 32 },
  carry: { size: 8 }, retrieval: { size: 8, layers: [1] }, heads: { long: [1] },
  data: { train: ['texts/*.txt'], validation: ['held.txt'] },
  training: { sequence: 96, learningRate: 3e-3, heldOutTokens: 128, ${training} },
});
`;

beforeAll(async () => {
  home = temporaryFolder('train');
  await tinyModel(path.join(home, 'model'));
  mkdirSync(path.join(home, 'texts'));
  const text = readFileSync(path.join(packageRoot, 'LICENSE'), 'utf8');
  writeFileSync(path.join(home, 'texts', 'dos.txt'), text.replaceAll('\n', '\r\n'));
  writeFileSync(path.join(home, 'texts', 'empty.txt'), '');
  copyFileSync(path.join(packageRoot, 'LICENSE'), path.join(home, 'held.txt'));
  writeFileSync(path.join(home, 'lockstep.config.ts'), config('steps: 16'));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

interface Run {
  code: number | null;
  out: string;
  err: string;
  events: TrainEvent[];
  result: TrainResult | undefined;
}

interface RunOptions {
  /** Called at every event; may send a signal. */
  onEvent?: (event: TrainEvent, kill: (signal: NodeJS.Signals) => void) => void;
  /** Called with all that was printed so far. */
  onOutput?: (out: string) => void;
  /** Shell words before the command, e.g. a ulimit. */
  shell?: string;
}

/** Run `lockstep train …args` in the home folder. */
function train(args: string[], options: RunOptions = {}): Promise<Run> {
  const command = [process.execPath, cli, 'train', ...args];
  const child =
    options.shell === undefined
      ? spawn(command[0] as string, command.slice(1), { cwd: home, env })
      : spawn('bash', ['-c', `${options.shell}; exec "$@"`, 'bash', ...command], {
          cwd: home,
          env,
        });
  const run: Run = { code: null, out: '', err: '', events: [], result: undefined };
  let rest = '';
  child.stderr.on('data', (data: Buffer) => {
    run.err += data;
  });
  child.stdout.on('data', (data: Buffer) => {
    run.out += data;
    options.onOutput?.(run.out);
    const lines = (rest + data).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('{')) continue;
      const event = JSON.parse(line) as TrainEvent | TrainResult;
      if (event.event === 'result') run.result = event as TrainResult;
      else {
        run.events.push(event as TrainEvent);
        options.onEvent?.(event as TrainEvent, (signal) => child.kill(signal));
      }
    }
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ ...run, code }));
  });
}

const losses = (run: Run): number[] =>
  run.events.filter((event): event is StepEvent => event.event === 'step').map((s) => s.loss);
const weights = (dir: string): Buffer => readFileSync(path.join(home, dir, 'model.safetensors'));

describe('lockstep train', () => {
  it('trains, tells how it goes, plots, and writes a checkpoint under the contract', async () => {
    const run = await train(['--json', '--out', 'whole', '--plot', 'plots/loss.svg']);
    expect(run.err).toBe('');
    expect(run.code).toBe(0);
    const start = run.events.find((event) => event.event === 'start');
    expect(start).toMatchObject({ event: 'start', documents: 1, steps: 16, mode: 'segmented' });
    expect(start?.['skipped']).toEqual([
      { path: path.join(home, 'texts', 'empty.txt'), reason: 'empty' },
    ]);
    expect(losses(run)).toHaveLength(16);
    expect(losses(run)[15]).toBeLessThan((losses(run)[0] as number) - 0.3);
    for (const event of run.events.filter((e): e is StepEvent => e.event === 'step')) {
      expect(event.memory).toBeGreaterThan(1e7);
      expect(event.tokensPerSecond).toBeGreaterThan(0);
    }
    expect(run.result).toMatchObject({ stopped: false, step: 16, trained: { steps: 16 } });
    const scores = run.result?.scores ?? {};
    expect(scores.after).toBeLessThan(scores.before as number);
    const { contract } = await readContract(path.join(home, 'whole'));
    expect(contract.trained).toMatchObject({ steps: 16, tokens: run.result?.tokens });
    const svg = readFileSync(path.join(home, 'plots/loss.svg'), 'utf8');
    expect(svg).toContain('Training of whole');
    expect(svg).toContain('after 16 steps');
    expect(readdirSync(home).filter((name) => name.startsWith('.whole'))).toEqual([]);
  });

  it('stops on Ctrl-C after the step, and resumed it ends where an undisturbed run ends', async () => {
    const stopped = await train(['--json'], {
      onEvent: (event, kill) => {
        if (event.event === 'step' && event.step === 2) kill('SIGINT');
      },
    });
    expect(stopped.code).toBe(130);
    expect(stopped.result).toMatchObject({ stopped: true });
    const done = stopped.result?.step as number;
    expect(done).toBeGreaterThanOrEqual(2);
    expect(done).toBeLessThan(16);
    const resumed = await train(['--resume']);
    expect(resumed.code).toBe(0);
    expect(resumed.out).toContain(`continuing after step ${done}`);
    expect(resumed.out).toContain('trained 16 steps');
    expect(resumed.out).toContain(
      'next: lockstep export out; lockstep verify out; lockstep serve out\n',
    );
    expect(weights('out').equals(weights('whole'))).toBe(true);
  });

  it('is killed, resumed, damaged, resumed, and ends where an undisturbed run ends', async () => {
    const options = ['--out', 'kept', '--keep', '2', '--save-every', '2'];
    const killed = await train(['--json', ...options], {
      onEvent: (event, kill) => {
        if (event.event === 'step' && event.step === 5) kill('SIGKILL');
      },
    });
    expect(killed.code).toBe(null);
    // The trainer outlives the command by the step that it is in, and holds its lock until then.
    let resumed = await train(['--resume', ...options]);
    while (resumed.err.includes('LS_TRAIN_BUSY')) resumed = await train(['--resume', ...options]);
    expect(resumed.err).toBe('');
    expect(resumed.code).toBe(0);
    expect(weights('kept').equals(weights('whole'))).toBe(true);
    const there = (): string[] => readdirSync(home).filter((name) => name.includes('kept'));
    expect(there()).toEqual(['kept', 'kept.step-14']);

    const file = path.join(home, 'kept', 'model.safetensors');
    const bytes = readFileSync(file);
    bytes.writeUInt8((bytes.readUInt8(bytes.length >> 1) + 1) % 256, bytes.length >> 1);
    writeFileSync(file, bytes);
    const repaired = await train(['--resume', ...options]);
    expect(repaired.out).toContain('model.safetensors differs from its checksum');
    expect(repaired.out).toMatch(/Continuing from the last good checkpoint \(.*, step 14\)/);
    expect(repaired.code).toBe(0);
    expect(weights('kept').equals(weights('whole'))).toBe(true);
    expect(there()).toEqual(['kept', 'kept.damaged', 'kept.step-14']);
  });

  it('refuses to write over a checkpoint, and to resume under another contract', async () => {
    const again = await train(['--out', 'whole']);
    expect(again.code).toBe(1);
    expect(again.err).toContain('LS_TRAIN_OUT');
    expect(again.err).toContain('--resume');
    const other = path.join(home, 'other.config.ts');
    writeFileSync(
      other,
      config('steps: 17').replace('size: 8 }, retrieval', 'size: 6 }, retrieval'),
    );
    const changed = await train(['--out', 'whole', '--resume', '--config', 'other.config.ts']);
    expect(changed.code).toBe(1);
    expect(changed.err).toContain('LS_TRAIN_CONTRACT');
    expect(changed.err).toContain('carry.size 8 -> 6');
  });

  it.runIf(process.platform === 'linux')('survives a disk that is full', async () => {
    const before = weights('whole');
    // 100 blocks of 1 KiB: less than the weights, as much as an attached contract takes.
    const full = await train(['--out', 'whole', '--resume', '--steps', '18'], {
      shell: 'ulimit -f 100',
    });
    expect(full.code).toBe(1);
    expect(full.err).toContain('LS_TRAIN_DISK');
    expect(full.err).toContain('last good checkpoint');
    expect(full.err).not.toMatch(/Traceback|\n\s+at /);
    expect(weights('whole').equals(before)).toBe(true);
  });

  it('names text that is not UTF-8', async () => {
    writeFileSync(path.join(home, 'latin.txt'), Buffer.from('na\u00efve', 'latin1'));
    writeFileSync(
      path.join(home, 'bad.config.ts'),
      config('steps: 1').replace('texts/*.txt', 'latin.txt'),
    );
    const run = await train(['--config', 'bad.config.ts', '--out', 'bad']);
    expect(run.code).toBe(1);
    expect(run.err).toContain('LS_TRAIN_TEXT');
    expect(run.err).toContain('offset 2');
    expect(run.err).not.toMatch(/Traceback|\n\s+at /);
    expect(existsSync(path.join(home, 'bad'))).toBe(false);
  });

  it('refuses what the command line cannot mean', async () => {
    for (const args of [
      ['--steps', '0'],
      ['--minutes', 'soon'],
      ['--steps', '1', '--minutes', '1'],
      ['--attention', 'sideways'],
    ]) {
      expect((await train(args)).code).toBe(2);
    }
    const plot = await train(['--plot', 'loss.gif']);
    expect(plot.code).toBe(1);
    expect(plot.err).toContain('LS_TRAIN_PLOT');
  });

  it.runIf(process.platform === 'linux')('goes on without a plot that fails', async () => {
    mkdirSync(path.join(home, 'drawn'));
    const run = await train(['--out', 'drawn/it', '--steps', '2', '--plot', 'drawn/plots/p.svg'], {
      onOutput: (out) => {
        // A file where its folder was.
        if (!out.includes('training ') || !existsSync(path.join(home, 'drawn/plots'))) return;
        rmSync(path.join(home, 'drawn/plots'), { recursive: true });
        writeFileSync(path.join(home, 'drawn/plots'), '');
      },
    });
    expect(run.err).toBe('');
    expect(run.code).toBe(0);
    expect(run.out.match(/warning LS_TRAIN_LOG/g)).toHaveLength(1);
    expect(run.out).toMatch(/trained 2 steps.*\nnext: lockstep export/s);
    expect(readdirSync(path.join(home, 'drawn')).sort()).toEqual(['it', 'plots']);
  });

  it.each([
    ['stdout', '"$@" | true'],
    ['stdout and stderr', '"$@" 2>&1 | true'],
  ])('goes on without %s where they are closed', async (_, line) => {
    const out = `closed-${line.length}`;
    const run = await train(['--out', out, '--steps', '2', '--json'], {
      shell: `set -o pipefail; ${line}; exit $?`,
    });
    expect(run.code).toBe(0);
    if (!line.includes('2>'))
      expect(run.err).toMatch(/^warning LS_OUTPUT_LOST: stdout is closed.*\n$/);
    const { contract } = await readContract(path.join(home, out));
    expect(contract.trained).toMatchObject({ steps: 2 });
    expect(readdirSync(home).filter((name) => name.startsWith(`.${out}`))).toEqual([]);
  });
});
