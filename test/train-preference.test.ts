// Preference training as users start it: rows of two answers, `training.dpo`.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type TrainRun, trainIn } from './helpers/train.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

let home: string;

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const row = (n: number): object => ({
  prompt: [{ role: 'user', content: `Where is house ${n} of this long street?` }],
  chosen: [{ role: 'assistant', content: `Please go on to house ${n}.` }],
  rejected: [{ role: 'assistant', content: `Go on to ${n}, you.` }],
});
const lines = (rows: object[]): string => rows.map((one) => `${JSON.stringify(one)}\n`).join('');

function train(data: string, training: string, ...args: string[]): Promise<TrainRun> {
  const config = `
    import { defineConfig, sentences } from 'lockstep';
    export default defineConfig({
      model: 'model', out: 'out', policy: sentences(), segment: { min: 8, max: 32 },
      carry: { size: 8 }, retrieval: { size: 8, layers: [1] }, heads: { long: [1] },
      data: { ${data} },
      training: { sequence: 128, steps: 8, learningRate: 3e-3, ${training} },
    });`;
  writeFileSync(path.join(home, 'lockstep.config.ts'), config);
  return trainIn(home, ...args);
}

beforeAll(async () => {
  home = temporaryFolder('train-preference');
  await tinyModel(path.join(home, 'model'));
  writeFileSync(path.join(home, 'rows.jsonl'), lines(Array.from({ length: 40 }, (_, n) => row(n))));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

it('raises the better answers above the others, and says by how much', async () => {
  const run = await train("train: ['rows.jsonl'], validation: 0.2", 'dpo: { beta: 0.5 }');
  expect(run.err).toBe('');
  const start = run.events.find(({ event }) => event === 'start');
  expect(start).toMatchObject({ read: { formats: { preference: 1 }, loss: null } });
  const scores = run.events.filter(({ event }) => event === 'score');
  expect(scores).toHaveLength(2);
  const [before, after] = scores as unknown as Record<'loss' | 'margin' | 'accuracy', number>[];
  expect(before?.loss).toBeCloseTo(Math.log(2), 4);
  expect(after?.loss).toBeLessThan(Math.log(2) - 0.05);
  expect(after?.margin).toBeGreaterThan(0.1);
  expect(after?.accuracy).toBeGreaterThan(0.5);
  const result = run.events.at(-1);
  expect(result).toMatchObject({ event: 'result', step: 8, stopped: false });
  expect((result as unknown as { margin: number }).margin).toBeGreaterThan(0.1);
  const card = readFileSync(path.join(home, 'out', 'README.md'), 'utf8');
  expect(card).toContain('Direct preference optimization (DPO)');
  expect(card).toContain('| margin | accuracy |');
});

it('takes the same steps in two processes', async () => {
  const data = "train: ['rows.jsonl'], validation: 0.2";
  const training = 'dpo: { beta: 0.5 }, accumulate: 2';
  const steps = async (out: string, ...args: string[]): Promise<number[][]> => {
    const run = await train(data, training, '--steps', '3', '--out', out, ...args);
    expect(run.err).toBe('');
    const found = run.events.filter(({ event }) => event === 'step' || event === 'score');
    return found.map((event) => {
      const { loss, margin, accuracy } = event as unknown as Record<string, number>;
      return [loss as number, margin as number, accuracy as number];
    });
  };
  const [one, two] = [await steps('one'), await steps('two', '--nproc', '2')];
  expect(two).toHaveLength(5);
  for (const [n, [loss, margin]] of two.entries()) {
    expect(loss).toBeCloseTo(one[n]?.[0] as number, 3);
    expect(margin).toBeCloseTo(one[n]?.[1] as number, 3);
  }
});

it('names rows that cannot be used by file and line, and files of another format', async () => {
  const equal = { prompt: 'a', chosen: 'b', rejected: 'b' };
  writeFileSync(path.join(home, 'bad.jsonl'), lines([row(1), equal, { text: 'words alone' }]));
  const bad = await train("train: ['bad.jsonl']", 'dpo: {}', '--overwrite');
  expect(bad.code).toBe(1);
  expect(bad.err).toContain('LS_TRAIN_BROKEN');
  expect(bad.err).toMatch(
    /bad\.jsonl, got 2 broken lines \(line 2: 'chosen' and 'rejected' are the same; line 3: no field 'chosen', but 'text'\)/,
  );
  const without = await train("train: ['rows.jsonl']", '', '--overwrite');
  expect(without.err).toContain('LS_TRAIN_FORMAT');
  expect(without.err).toContain('training.dpo');
});
