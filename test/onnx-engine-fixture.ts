// A tiny checkpoint exported for onnx, which the tests of a file share.
import { rmSync } from 'node:fs';
import { afterAll, beforeAll } from 'vitest';
import type { EngineSession, StepResult } from '../src/engines/engine.ts';
import { type TinyCase, TinyCheckpoints } from './onnx-checkpoints.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

export const vocabulary = 264;
export const S = 16;
export const tokensOf = (seed: number, length = 90): number[] =>
  Array.from({ length }, (_, i) => (i * i * 7 + seed * 31 + 11 * i) % vocabulary);

export const one: TinyCase = {
  name: 'tiny',
  architecture: 'llama',
  model: { head_dim: 16, hidden: 32, tied: true },
  segment: S,
  carry: { size: 6, sinks: 4 },
  retrieval: { size: 16, recipe: 'anchors', layers: [1, 2] },
  heads: [1],
  tokens: tokensOf(0),
  boundaries: [16, 20, 36, 52, 68, 84],
};

export const step = (
  session: EngineSession,
  tokens: number[],
  close = false,
): Promise<StepResult> => session.step(tokens, { rows: 'last', close });

/** Where the checkpoint is: made before the tests of a file, and removed after them. */
export interface Exported {
  folder: string;
  dir: string;
}

export function useExported(precisions: ('fp32' | 'int8' | 'int4')[]): Exported {
  const exported: Exported = { folder: '', dir: '' };
  beforeAll(async () => {
    exported.folder = temporaryFolder('onnx-engine');
    const made = await TinyCheckpoints.make(exported.folder, [one]);
    await made.export([one], precisions);
    made.finish();
    exported.dir = made.dir(one);
  });
  afterAll(() => rmSync(exported.folder, { recursive: true, force: true }));
  return exported;
}
