import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { queryVectors, select, selectHead } from './retrieval.ts';

/** Numbers of few values, so that scores tie exactly. */
const coarse = (length: number, seed: number): Float32Array => {
  let state = seed + 1;
  return Float32Array.from({ length }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * 5) - 2;
  });
};

/** SEMANTICS.md 4 read literally, for one head; `round` is to float32 where rows are float32. */
function literally(
  vectors: number[][],
  keys: number[][],
  size: number,
  recipe: 'anchors' | 'topk',
  round: (x: number) => number,
): number[] {
  const dot = (a: number[], b: number[]): number =>
    a.reduce((sum, x, d) => sum + round(x * (b[d] as number)), 0);
  const ordered = (vector: number[]) =>
    keys
      .map((key, position) => ({ position, score: round(dot(vector, key)) }))
      .sort((a, b) => b.score - a.score || a.position - b.position);
  if (keys.length <= size) return keys.map((_, position) => position);
  const ascending = (set: Iterable<number>): number[] => [...set].sort((a, b) => a - b);
  if (recipe === 'topk') {
    const best = ordered(vectors.at(-1) as number[]).slice(0, size);
    return ascending(best.map(({ position }) => position));
  }
  const best = new Map<number, number>();
  for (const vector of vectors) {
    for (const { position, score } of ordered(vector).slice(0, 16)) {
      best.set(position, Math.max(score, best.get(position) ?? -Infinity));
    }
  }
  const anchors = [...best].sort(([p, a], [q, b]) => b - a || p - q).slice(0, Math.floor(size / 8));
  const selected = new Set<number>();
  for (const [anchor] of anchors) {
    for (let p = anchor - 3; p <= anchor + 4; p++) {
      selected.add(Math.min(keys.length - 1, Math.max(0, p)));
    }
  }
  for (let p = 0; selected.size < size; p++) selected.add(p);
  return ascending(selected);
}

const rowsOf = (data: ArrayLike<number>, dim: number): number[][] =>
  Array.from({ length: data.length / dim }, (_, row) =>
    Array.from({ length: dim }, (_, d) => data[row * dim + d] as number),
  );

describe('select', () => {
  it('is what SEMANTICS.md 4 says, ties included', () => {
    fc.assert(
      fc.property(
        fc.record({
          queries: fc.integer({ min: 1, max: 70 }),
          keys: fc.integer({ min: 0, max: 300 }),
          size: fc.integer({ min: 0, max: 80 }),
          dim: fc.constantFrom(1, 4, 8),
          seed: fc.nat(),
          recipe: fc.constantFrom('anchors' as const, 'topk' as const),
          double: fc.boolean(),
        }),
        ({ queries, keys, size, dim, seed, recipe, double }) => {
          const real = (data: Float32Array) => (double ? Float64Array.from(data) : data);
          const q = real(coarse(2 * queries * dim, seed));
          const k = real(coarse(2 * keys * dim, seed + 1));
          const shape = { heads: 2, queries, keys, dim };
          const found = select(q, k, shape, size, recipe);
          for (const head of [0, 1]) {
            const own = q.subarray(head * queries * dim, (head + 1) * queries * dim);
            const vectors =
              recipe === 'topk' ? rowsOf(own, dim) : queryVectors(own, dim).map((v) => [...v]);
            const expected = literally(
              vectors,
              rowsOf(k.subarray(head * keys * dim, (head + 1) * keys * dim), dim),
              size,
              recipe,
              double ? (x) => x : Math.fround,
            );
            expect([...(found[head] as Int32Array)]).toEqual(expected);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('finds the same by way of products summed in another order', () => {
    const noisy = (length: number, seed: number): Float32Array =>
      coarse(length, seed).map((x, i) => x * (1 + ((i * 7919 + seed) % 997) * 1e-7));
    fc.assert(
      fc.property(
        fc.record({
          queries: fc.integer({ min: 1, max: 70 }),
          rows: fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 4 }),
          size: fc.integer({ min: 8, max: 80 }),
          dim: fc.constantFrom(1, 4, 8),
          seed: fc.nat(),
          near: fc.boolean(),
        }),
        ({ queries, rows, size, dim, seed, near }) => {
          const make = near ? noisy : coarse;
          const q = make(queries * dim, seed);
          const vectors = queryVectors(q, dim);
          const chunks = rows.map((count, index) => {
            const data = make(count * dim, seed + 1 + (index % 2));
            const largest = Float32Array.from(rowsOf(data, dim), (row) =>
              Math.max(...row.map(Math.abs)),
            );
            return { data, rows: count, largest };
          });
          // From the last dimension to the first, rounded at every step, with room behind the rows.
          const products = chunks.map(({ data, rows: count }) => {
            const out = new Float32Array(vectors.length * (count + 3)).fill(Number.NaN);
            vectors.forEach((vector, v) => {
              for (let row = 0; row < count; row++) {
                let sum = 0;
                for (let d = dim - 1; d >= 0; d--) {
                  sum = Math.fround(
                    sum + Math.fround((data[row * dim + d] as number) * (vector[d] as number)),
                  );
                }
                out[v * (count + 3) + row] = sum;
              }
            });
            return out;
          });
          const plain = selectHead(q, chunks, dim, size, 'anchors');
          expect(selectHead(q, chunks, dim, size, 'anchors', products)).toEqual(plain);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('refuses NaN behind products too', () => {
    const data = new Float32Array(40).fill(1);
    data[30] = Number.NaN;
    const products = [data.slice()];
    const chunk = { data, rows: 40, largest: data.slice() };
    expect(() => selectHead(Float32Array.of(1), [chunk], 1, 8, 'anchors', products)).toThrow(
      'finite',
    );
  });

  it('makes query vectors of full windows and the last four', () => {
    const ramp = (length: number) => Float32Array.from({ length }, (_, i) => i);
    expect(queryVectors(ramp(3), 1).map((v) => v[0])).toEqual([1]);
    expect(queryVectors(ramp(5), 1).map((v) => v[0])).toEqual([2, 2.5]);
    expect(queryVectors(ramp(13), 1).map((v) => v[0])).toEqual([3.5, 7.5, 10.5]);
    expect(queryVectors(ramp(64), 1)).toHaveLength(16);
  });

  it('rounds products to float32 and sums them in float64', () => {
    // As float32 sums, both scores would be 2 ** 24; the second key is better by one.
    const keys = Float32Array.of(2 ** 12, 0, 0, 2 ** 12, 1, 1);
    const queries = Float32Array.of(2 ** 12, 1, 1);
    const shape = { heads: 1, queries: 1, keys: 2, dim: 3 };
    expect([...(select(queries, keys, shape, 1, 'topk')[0] as Int32Array)]).toEqual([1]);
  });

  it('refuses NaN', () => {
    const keys = new Float32Array(40).fill(1);
    keys[20] = Number.NaN;
    const shape = { heads: 1, queries: 1, keys: 40, dim: 1 };
    for (const recipe of ['anchors', 'topk'] as const) {
      expect(() => select(Float32Array.of(1), keys, shape, 8, recipe)).toThrow('finite');
    }
  });
});
