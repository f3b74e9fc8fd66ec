// The onnx engine against the trainer, on every architecture.
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openOnnxEngine } from '../src/engines/onnx.ts';
import {
  largestDifference,
  type Reference,
  runCase,
  type TinyCase,
  TinyCheckpoints,
} from './onnx-checkpoints.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const vocabulary = 264;
const random = (length: number, seed: number, different = vocabulary): number[] => {
  let state = seed;
  return Array.from({ length }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * different);
  });
};

const base = {
  segment: 24,
  carry: { size: 8, sinks: 4 },
  retrieval: { size: 16, recipe: 'anchors' as const, layers: [1, 2] },
  heads: [1],
  model: {},
  tokens: random(120, 1),
  boundaries: [24, 41, 65, 89, 103],
};
const blocks = { recipe: 'blocks' as const, block: 4, distance: 11, window: 6 };
const cases: TinyCase[] = [
  { ...base, name: 'llama', architecture: 'llama' },
  {
    ...base,
    name: 'llama-biases-yarn',
    architecture: 'llama',
    model: { bias: true, rope: 'yarn', tied: true, kv_heads: 3, group: 3, head_dim: 16 },
    heads: [[0, 2], [1], [0, 1, 2]],
    retrieval: { size: 12, recipe: 'topk', layers: [1, 2] },
  },
  {
    ...base,
    name: 'mistral-carry-beyond-segment',
    architecture: 'mistral',
    model: { kv_heads: 4, group: 1, rope: 'linear' },
    segment: 12,
    carry: { size: 30, sinks: 4 },
    heads: [0, 3],
    boundaries: [12, 13, 16, 28, 40, 41, 42, 54, 66, 78, 90, 102, 114],
  },
  {
    ...base,
    name: 'qwen2-short-first-segments',
    architecture: 'qwen2',
    model: { kv_heads: 2, group: 4, rope: 'llama3' },
    boundaries: [2, 3, 9, 33, 57, 81, 105],
  },
  {
    ...base,
    name: 'qwen3-repeated-tokens',
    architecture: 'qwen3',
    model: { tied: true, rope: 'yarn-derived' },
    tokens: random(120, 2, 5),
    retrieval: { size: 16, recipe: 'anchors', layers: [1] },
  },
  {
    ...base,
    name: 'qwen3-all-local-no-sinks',
    architecture: 'qwen3',
    carry: { size: 5, sinks: 0 },
    heads: [],
    retrieval: { size: 16, recipe: 'anchors', layers: [] },
  },
  {
    ...base,
    name: 'llama-all-long-no-carry',
    architecture: 'llama',
    carry: { size: 0, sinks: 4 },
    heads: [0, 1],
    retrieval: { size: 200, recipe: 'anchors', layers: [2] },
  },
  {
    ...base,
    name: 'llama-topk-all-carry',
    architecture: 'llama',
    carry: { size: 10, sinks: 4, heads: 'all' },
    heads: [[0], [1], [0, 1]],
    retrieval: { size: 12, recipe: 'topk', layers: [1, 2] },
  },
  {
    ...base,
    name: 'qwen3-blocks',
    architecture: 'qwen3',
    model: { kv_heads: 3, group: 2, rope: 'yarn' },
    heads: [[0, 2], [1], [0, 1, 2]],
    retrieval: { ...blocks, size: 12, layers: [1, 2] },
  },
  {
    ...base,
    name: 'llama-blocks-all-carry-short-segments',
    architecture: 'llama',
    model: { kv_heads: 3, group: 3 },
    carry: { size: 14, sinks: 4, heads: 'all' },
    heads: [[0, 2], [1], [0, 1, 2]],
    retrieval: { ...blocks, size: 8, layers: [1, 2], window: 64 },
    boundaries: [2, 3, 9, 16, 17, 40, 41, 65, 89, 103, 112],
  },
  {
    // A pool of several pages, one run of the blocks graph each.
    ...base,
    name: 'llama-blocks-of-pages',
    architecture: 'llama',
    model: { kv_heads: 2, group: 2 },
    carry: { size: 8, sinks: 4, heads: 'all' },
    heads: [0, 1],
    retrieval: { ...blocks, block: 5, size: 40, layers: [1, 2] },
    tokens: random(1200, 3),
    boundaries: Array.from({ length: 50 }, (_, i) => 24 * (i + 1) - 1),
  },
  {
    // Its pools are scored by way of onnxruntime's products.
    ...base,
    name: 'llama-pool-of-pages',
    architecture: 'llama',
    model: { kv_heads: 3, group: 2 },
    heads: [0, 2],
    tokens: random(1100, 3),
    boundaries: Array.from({ length: 45 }, (_, i) => 24 * (i + 1)),
  },
];

let folder: string;
let made: TinyCheckpoints;
let references: Map<string, Reference>;

beforeAll(async () => {
  folder = temporaryFolder('onnx');
  made = await TinyCheckpoints.make(folder, cases);
  await made.export(cases);
  references = await made.references(cases);
  made.finish();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(cases)('the onnx engine on $name', (one) => {
  it('computes what the trainer computes, in pieces and token by token', async () => {
    const engine = await openOnnxEngine(made.dir(one), { threads: 1, pieceTokens: 7 });
    try {
      const expected = references.get(one.name) as Reference;
      expect(engine.info).toMatchObject({ name: 'onnx', precision: 'fp32', vocabulary });
      const runs = [24, 5, 1].map(async (size) => {
        const session = await engine.open();
        const run = await runCase(session, one, size, vocabulary);
        await session.close();
        return run;
      });
      for (const run of await Promise.all(runs)) {
        expect(largestDifference(run.logp, expected.logp)).toBeLessThan(1e-4);
        const positions = [...run.retrieved].map(([at, layers]) => [
          at,
          layers.map((row) => ({ ...row, positions: row.positions.map((list) => [...list]) })),
        ]);
        expect(positions).toEqual([...expected.retrieved]);
      }
      expect(engine.sessions).toBe(0);
    } finally {
      await engine.close();
    }
  });
});
