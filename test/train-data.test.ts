// The data of `lockstep train`, through the config: rows, a held-out share, broken lines, a cache,
// workers, and texts that changed before --resume.
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { type TrainRun, trainIn } from './helpers/train.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

let home: string;

vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

const config = (data: string): string => `
import { defineConfig, sentences } from 'lockstep';
export default defineConfig({
  model: 'model', out: 'out', policy: sentences(), segment: { min: 8, max: 32 },
  carry: { size: 8 }, retrieval: { size: 8, layers: [1] }, heads: { long: [1] },
  data: { ${data} },
  training: { sequence: 96, heldOutTokens: 64, steps: 2 },
});
`;

beforeAll(async () => {
  home = temporaryFolder('train-data');
  await tinyModel(path.join(home, 'model'));
  const paragraphs = readFileSync(path.join(packageRoot, 'LICENSE'), 'utf8').split('\n\n');
  const rows = [...paragraphs, '', 'x'].map((body) => JSON.stringify({ body }));
  writeFileSync(path.join(home, 'rows.jsonl'), `${rows.join('\n')}\n{"body": 7}\n`);
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

function train(data: string, ...args: string[]): Promise<TrainRun> {
  writeFileSync(path.join(home, 'lockstep.config.ts'), config(data));
  return trainIn(home, ...args);
}

const rows = `train: ['rows.jsonl'], field: 'body', validation: 0.2, validationDocuments: 3`;

it('refuses broken lines by name, and reads on where the config says so', async () => {
  const refused = await train(rows);
  expect(refused.code).toBe(1);
  expect(refused.err).toContain('LS_TRAIN_BROKEN');
  expect(refused.err).toMatch(/1 broken line \(line \d+: expected text in 'body', got int\)/);

  const run = await train(`${rows}, skipBroken: true, cache: 'tokens', workers: 2`);
  expect(run.err).toBe('');
  expect(run.code).toBe(0);
  const start = run.events.find((event) => event.event === 'start');
  expect(start).toMatchObject({
    skipped: [{ reason: expect.stringMatching(/^1 empty, 1 of one token, 1 broken \(line \d+/) }],
  });
  const scores = run.events.filter((event) => event.event === 'score');
  expect(scores).toHaveLength(2);
  const warnings = run.events.flatMap((event) => (event.event === 'warning' ? [event.code] : []));
  for (const code of ['LS_TRAIN_SHARED', 'LS_TRAIN_WORKER', 'LS_TRAIN_CACHE'] as const) {
    expect(warnings).not.toContain(code);
  }
  expect(readdirSync(path.join(home, 'tokens')).length).toBeGreaterThan(1);
  // The cache and the workers change nothing that is computed.
  const other = await train(`${rows}, skipBroken: true, workers: 0`, '--out', 'other');
  const weights = ['out', 'other'].map((dir) =>
    readFileSync(path.join(home, dir, 'model.safetensors')),
  );
  expect(other.code).toBe(0);
  expect(weights[0]?.equals(weights[1] as Buffer)).toBe(true);
  expect(existsSync(path.join(home, '.lockstep', 'cache'))).toBe(true);
});

it('refuses to resume with other texts', async () => {
  appendFileSync(path.join(home, 'rows.jsonl'), '{"body": "one document more"}\n');
  const more = await train(`${rows}, skipBroken: true`, '--resume', '--steps', '4');
  expect(more.code).toBe(1);
  expect(more.err).toContain('LS_TRAIN_RESUME');
  expect(more.err).toContain('other texts');
});
