import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { atDistance, blockMasses, heaviest, partialMass } from './blocks.ts';

const dim = 4;

/** Masses by their definition, one row at a time. */
function plain(queries: Float32Array, keys: Float32Array, block: number): number[] {
  const rows = keys.length / dim;
  const masses = new Array<number>(Math.ceil(rows / block)).fill(0);
  for (let q = 0; q < queries.length / dim; q++) {
    const logits = Array.from({ length: rows }, (_, n) =>
      Array.from({ length: dim }, (_, d) => (queries[q * dim + d] ?? 0) * (keys[n * dim + d] ?? 0)),
    ).map((products) => products.reduce((a, b) => a + b, 0));
    const top = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp(logit - top));
    const whole = weights.reduce((a, b) => a + b, 0);
    weights.forEach((weight, n) => {
      const b = Math.floor(n / block);
      masses[b] = (masses[b] ?? 0) + weight / whole;
    });
  }
  return masses;
}

const reals = (rows: fc.Arbitrary<number>) =>
  rows.chain((count) =>
    fc
      .array(fc.float({ min: -9, max: 9, noNaN: true }), {
        minLength: count * dim,
        maxLength: count * dim,
      })
      .map((list) => Float32Array.from(list)),
  );

describe('masses of blocks', () => {
  test('from any chunks of whole blocks they are those of the definition', () => {
    fc.assert(
      fc.property(
        reals(fc.integer({ min: 1, max: 5 })),
        reals(fc.integer({ min: 1, max: 40 })),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 4 }),
        (queries, keys, block, blocksAChunk) => {
          const rows = keys.length / dim;
          const step = block * blocksAChunk;
          const parts = [];
          for (let at = 0; at < rows; at += step) {
            const chunk = { data: keys.subarray(at * dim), rows: Math.min(step, rows - at) };
            parts.push(partialMass(queries, chunk, dim, block));
          }
          const masses = blockMasses(parts);
          const expected = plain(queries, keys, block);
          expect(masses.length).toBe(expected.length);
          expected.forEach((mass, b) => {
            expect(Math.abs((masses[b] as number) - mass)).toBeLessThan(2e-5 * queries.length);
          });
        },
      ),
      { seed: 5 },
    );
  });

  test('NaN and infinity are named', () => {
    const queries = Float32Array.of(1, 1, 1, 1);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const data = Float32Array.of(1, 2, 3, 4, bad, 1, 1, 1);
      const run = () => blockMasses([partialMass(queries, { data, rows: 2 }, dim, 1)]);
      expect(run).toThrow(expect.objectContaining({ code: 'LS_RETRIEVAL_NONFINITE' }));
    }
  });
});

test('the heaviest blocks come in order of position, ties to the lower, the last may be shorter', () => {
  const masses = Float64Array.of(1, 3, 1, 3);
  expect([...heaviest(masses, 10, 3, 3)]).toEqual([3, 4, 5]);
  expect([...heaviest(masses, 10, 6, 3)]).toEqual([3, 4, 5, 9]);
  expect([...heaviest(masses, 10, 9, 3)]).toEqual([0, 1, 2, 3, 4, 5, 9]);
});

test('a query at the distance scores raw keys as attention does', () => {
  const rotation = { inverseFrequencies: [1, 0.5], factor: 1.5 };
  const [q, k] = [Float32Array.of(1, 2, 3, 4), Float32Array.of(0.5, -1, 2, 1)];
  const turned = (x: Float32Array, position: number) =>
    [0, 1].flatMap((i) => {
      const angle = position * (rotation.inverseFrequencies[i] as number);
      const [a, b] = [x[i] as number, x[i + 2] as number];
      return [a * Math.cos(angle) - b * Math.sin(angle), b * Math.cos(angle) + a * Math.sin(angle)];
    });
  const [at, from] = [turned(q, 7), turned(k, 0)];
  const expected =
    at.reduce((sum, x, i) => sum + x * (from[i] as number), 0) * 1.5 ** 2 * 4 ** -0.5;
  const asked = atDistance(q, 4, 7, rotation);
  const got = asked.reduce((sum, x, i) => sum + x * (k[i] as number), 0);
  expect(got).toBeCloseTo(expected, 5);
});
