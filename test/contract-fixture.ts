// A folder with a tiny model, and contracts put on it.
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { attach, type ContractSettings } from '../src/checkpoint/index.ts';
import { paragraphs } from '../src/policies/index.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

export const settings: ContractSettings = {
  policy: paragraphs(),
  segment: { min: 4, max: 32, align: 2 },
  carry: { size: 8, sinks: 4 },
  retrieval: { size: 8, recipe: 'anchors', layers: [1, 2] },
  heads: { long: [0] },
  bos: false,
};

/** The folder of a test file, the model in it, and a way to make checkpoints beside it. */
export function contractFolder(name: string) {
  const root = temporaryFolder(name);
  const model = path.join(root, 'model');
  let made = 0;
  beforeAll(() => {
    tinyCheckpoint(model);
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  async function attached(config: ContractSettings = settings): Promise<string> {
    made += 1;
    const out = path.join(root, `attached-${made}`);
    await attach({ config, modelDir: model, out });
    return out;
  }
  return { root, model, attached };
}

export function json(file: string): Record<string, never> {
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, never>;
}
