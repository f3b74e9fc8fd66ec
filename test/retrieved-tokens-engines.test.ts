// What a boundary retrieved, summed over heads: the onnx and the torch engine tell the same, by every recipe.
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../src/engines/engine.ts';
import { openOnnxEngine } from '../src/engines/onnx.ts';
import {
  type RetrievedTokens,
  retrievedSpans,
  retrievedTokens,
} from '../src/engines/retrieved-tokens.ts';
import { openTorchEngine } from '../src/engines/torch.ts';
import { runCase, type TinyCase, TinyCheckpoints } from './onnx-checkpoints.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const BLOCK = 4;
const tokens = Array.from({ length: 150 }, (_, i) => 3 + ((i * i * 7 + 11 * i) % 250));
const base = {
  architecture: 'llama' as const,
  model: { kv_heads: 3, group: 2 },
  segment: 24,
  carry: { size: 8, sinks: 4 },
  heads: [[0, 2], [1], [0, 1, 2]],
  tokens,
  boundaries: [24, 41, 65, 89, 103, 127],
};
const cases: TinyCase[] = [
  { ...base, name: 'anchors', retrieval: { size: 16, recipe: 'anchors', layers: [1, 2] } },
  { ...base, name: 'topk', retrieval: { size: 12, recipe: 'topk', layers: [1, 2] } },
  {
    ...base,
    name: 'blocks',
    carry: { size: 8, sinks: 4, heads: 'all' },
    retrieval: {
      size: 12,
      recipe: 'blocks',
      block: BLOCK,
      distance: 11,
      window: 6,
      layers: [1, 2],
    },
  },
];

let folder: string;
let made: TinyCheckpoints;

beforeAll(async () => {
  folder = temporaryFolder('taken');
  made = await TinyCheckpoints.make(folder, cases);
  await made.export(cases);
  made.finish();
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function retrievedBy(engine: Engine, one: TinyCase): Promise<RetrievedTokens[]> {
  const session = await engine.open();
  const { retrieved } = await runCase(session, one, 24, engine.info.vocabulary);
  await session.close();
  await engine.close();
  return [...retrieved].map(([at, layers]) =>
    retrievedTokens({ at, retrieved: layers }, one.carry.sinks),
  );
}

describe.each(cases.map((one) => [one.name, one] as const))('%s', (_, one) => {
  it('is the same by both engines at every boundary', async () => {
    const fast = await retrievedBy(await openOnnxEngine(made.dir(one), { threads: 1 }), one);
    const options = { python: made.python, threads: 1 };
    const exact = await retrievedBy(await openTorchEngine(made.dir(one), options), one);
    expect(fast).toEqual(exact);
    expect(fast.map(({ at }) => at)).toEqual(one.boundaries);
    for (const found of fast) {
      expect(found.heads).toBe(4);
      expect(found.positions.every((position) => position >= 4 && position < found.at)).toBe(true);
      const sum = found.counts.reduce((a, b) => a + b, 0);
      const carried = one.carry.heads === 'all' ? one.carry.size : 0;
      const eligible = Math.max(0, found.at - 4 - carried);
      const all = found.heads * Math.min(one.retrieval.size, eligible);
      // A shorter last block is the one thing that makes it fewer.
      expect(sum).toBeLessThanOrEqual(all);
      expect(sum).toBeGreaterThan(all - found.heads * BLOCK);
      const weights = retrievedSpans(found).reduce(
        (total, { tokens: [from, to], weight }) => total + weight * (to - from) * found.heads,
        0,
      );
      expect(weights).toBeCloseTo(sum, 6);
    }
    // Heads disagree somewhere, else the counts would say nothing.
    expect(fast.some(({ counts }) => new Set(counts).size > 1)).toBe(true);
  }, 300_000);
});
