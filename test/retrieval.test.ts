// One retrieval in two languages: TypeScript = Python = the naive reference of SEMANTICS.md 4.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { findPython } from '../src/bridge/index.ts';
import type { Recipe } from '../src/contract/schema.ts';
import { packageRoot, pythonRoot } from '../src/paths.ts';
import { type SelectShape, select } from '../src/state/retrieval.ts';

interface Case {
  shape: SelectShape;
  type: 'float32' | 'float64';
  size: number;
  recipe: Recipe;
  queries: Float32Array | Float64Array;
  keys: Float32Array | Float64Array;
  /** Pool positions per head. */
  reference: number[][];
  python: number[][];
}

const count = 400;
const tests = path.join(packageRoot, 'test', 'python');

async function makeCases(): Promise<Case[]> {
  const python = await findPython();
  const { stdout } = await promisify(execFile)(
    python.executable,
    [path.join(tests, 'oracle', 'retrieval_cases.py'), String(count)],
    {
      env: { ...process.env, PYTHONPATH: [tests, pythonRoot].join(path.delimiter) },
      maxBuffer: 2 ** 28,
    },
  );
  return stdout
    .trim()
    .split('\n')
    .map((line) => {
      const raw = JSON.parse(line);
      return {
        ...raw,
        queries: numbers(raw.queries, raw.type),
        keys: numbers(raw.keys, raw.type),
      };
    });
}

function numbers(base64: string, type: Case['type']): Float32Array | Float64Array {
  const bytes = Uint8Array.from(Buffer.from(base64, 'base64'));
  return type === 'float32' ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer);
}

describe('retrieval', () => {
  let cases: Case[];

  beforeAll(async () => {
    cases = await makeCases();
  });

  it('makes cases of every kind', () => {
    expect(cases).toHaveLength(count);
    const searched = cases.filter(({ shape, size }) => size > 0 && shape.keys > size);
    for (const recipe of ['anchors', 'topk']) {
      for (const type of ['float32', 'float64']) {
        const some = searched.filter((one) => one.recipe === recipe && one.type === type);
        expect(some.length).toBeGreaterThan(20);
      }
    }
    expect(cases.some(({ shape }) => shape.keys === 0)).toBe(true);
    expect(cases.some(({ size }) => size === 0)).toBe(true);
  });

  it('chooses the same positions in TypeScript, in Python and by the reference', () => {
    for (const [index, one] of cases.entries()) {
      const got = select(one.queries, one.keys, one.shape, one.size, one.recipe);
      const positions = got.map((head) => Array.from(head));
      expect(positions, `case ${index}`).toEqual(one.reference);
      expect(one.python, `case ${index}`).toEqual(one.reference);
    }
  });

  it('fails if ties go to the higher position', () => {
    const ties = cases.filter(({ recipe }) => recipe === 'topk');
    const differing = ties.filter((one) => {
      const { heads, queries, keys, dim } = one.shape;
      const reversed = one.keys.slice();
      for (let head = 0; head < heads; head++) {
        for (let row = 0; row < keys; row++) {
          const from = (head * keys + row) * dim;
          const to = (head * keys + keys - 1 - row) * dim;
          reversed.set(one.keys.subarray(from, from + dim), to);
        }
      }
      const shape = { heads, queries, keys, dim };
      const got = select(one.queries, reversed, shape, one.size, one.recipe);
      const back = got.map((head) => Array.from(head, (position) => keys - 1 - position).reverse());
      return JSON.stringify(back) !== JSON.stringify(one.reference);
    });
    expect(differing.length).toBeGreaterThan(10);
  });
});
