// Every edit of weights: Node and Python read the folder, and say the same word for word.
import { execFileSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPython, pythonEnvironment } from '../../src/bridge/index.ts';
import { attach, type ContractSettings, readContract } from '../../src/checkpoint/index.ts';
import { LockstepError } from '../../src/errors.ts';
import { fixed } from '../../src/policies/index.ts';
import { readWeights } from '../../src/weights/read.ts';
import { temporaryFolder, tinyCheckpoint } from '../tiny-checkpoint.ts';
import { weightEdits } from './weights.ts';

type Said = ReturnType<LockstepError['toJSON']> | null;

const config = {
  policy: fixed(),
  segment: { min: 1, max: 16, align: 1 },
  carry: { size: 8, sinks: 4 },
  retrieval: { size: 8, recipe: 'anchors', layers: [1] },
  heads: { long: [2] },
  bos: false,
} satisfies ContractSettings;
const root = temporaryFolder('weight-edits');
const folder = (kind: string, at: number): string => path.join(root, `${kind}-${at}`);
let python: { models: Said[]; checkpoints: Said[] };

beforeAll(async () => {
  const model = tinyCheckpoint(path.join(root, 'model'));
  const checkpoint = path.join(root, 'checkpoint');
  await attach({ config, modelDir: model, out: checkpoint });
  const edited = (kind: string, from: string): string[] =>
    weightEdits.map(({ edit }, at) => {
      cpSync(from, folder(kind, at), { recursive: true });
      edit(folder(kind, at));
      return folder(kind, at);
    });
  const models = edited('model', model);
  const checkpoints = edited('checkpoint', checkpoint);
  const script = path.join(import.meta.dirname, '..', 'python', 'read_weights.py');
  const { executable } = await findPython();
  const printed = execFileSync(executable, [script], {
    input: JSON.stringify({ models, checkpoints }),
    env: { ...pythonEnvironment(), OMP_NUM_THREADS: '1' },
  });
  python = JSON.parse(String(printed)) as typeof python;
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

async function said(reading: Promise<unknown>): Promise<Said> {
  try {
    await reading;
    return null;
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
    return error.toJSON();
  }
}

const rows = weightEdits.map((row, at) => ({ ...row, at }));

describe('a model', () => {
  test.each(rows)('$name', async (row) => {
    const node = await said(readWeights(folder('model', row.at)));
    expect(node?.code ?? null).toBe(row.model);
    expect(python.models[row.at]).toEqual(node);
  });
});

describe('a checkpoint', () => {
  test.each(rows)('$name', async (row) => {
    const node = await said(readContract(folder('checkpoint', row.at), { weights: 'needed' }));
    expect(node?.code ?? null).toBe(row.checkpoint === undefined ? row.model : row.checkpoint);
    // The two languages differ in the case of some fixes.
    const { fix: _, ...same } = node ?? {};
    const wanted = node === null ? null : expect.objectContaining(same);
    expect(python.checkpoints[row.at]).toEqual(wanted);
  });
});
