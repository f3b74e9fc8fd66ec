// Checkpoints for tests of lockstep eval: a tiny model, and one that says it was trained from it.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { attach } from '../src/checkpoint/index.ts';
import type { Contract } from '../src/contract/index.ts';
import { fixed } from '../src/policies/index.ts';
import { tinyModel } from './tiny-model.ts';

export const segment = 32;

export interface EvalCheckpoints {
  /** The stock model. */
  base: string;
  /** Other weights under the contract, with what a trainer writes beside them. */
  trained: string;
  /** The stock model under the same contract. */
  untrained: string;
}

/** Make them below a folder; `sequence` is the training context that the trained one states. */
export async function evalCheckpoints(home: string, sequence: number): Promise<EvalCheckpoints> {
  const base = await tinyModel(path.join(home, 'base'));
  const other = await tinyModel(path.join(home, 'other'), { seed: 1 });
  const config = {
    policy: fixed({ size: segment }),
    segment: { min: 1, max: segment, align: 1 },
    carry: { size: 8, sinks: 4 },
    retrieval: { size: 8, recipe: 'anchors' as const, layers: [2] },
    heads: { long: [0] },
    bos: false,
  };
  const trained = path.join(home, 'trained');
  const untrained = path.join(home, 'untrained');
  await attach({ config, modelDir: other, out: trained });
  await attach({ config, modelDir: base, out: untrained });
  const file = path.join(trained, 'lockstep.json');
  const contract = JSON.parse(readFileSync(file, 'utf8')) as Contract;
  const seen = { ...contract.trained, steps: 8, tokens: 800 };
  writeFileSync(file, JSON.stringify({ ...contract, trained: seen }));
  mkdirSync(path.join(trained, 'training'));
  const state = { version: 1, base: path.join('..', 'base'), settings: { sequence } };
  writeFileSync(path.join(trained, 'training', 'state.json'), JSON.stringify(state));
  return { base, trained, untrained };
}
