import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { argmax, logSoftmax, Sampler } from './sampling.ts';

const logits = Float32Array.of(1, 3, 2, 3, -40);
const frequencies = (sampler: Sampler, draws: number): number[] => {
  const counts = Array.from(logits, () => 0);
  for (let i = 0; i < draws; i++) {
    const { id } = sampler.sample(logits);
    counts[id] = (counts[id] as number) + 1;
  }
  return counts.map((count) => count / draws);
};

describe('Sampler', () => {
  it('takes the best token at temperature 0, the lower id on a tie', () => {
    expect(new Sampler({ temperature: 0 }).sample(logits).id).toBe(1);
  });

  it('draws with the probabilities of the model', () => {
    const expected = logSoftmax(logits).map(Math.exp);
    frequencies(new Sampler({ seed: 1 }), 20_000).forEach((frequency, id) => {
      expect(Math.abs(frequency - (expected[id] as number))).toBeLessThan(0.02);
    });
  });

  it('sharpens with a low temperature', () => {
    const [first = 0, , third = 0] = frequencies(
      new Sampler({ seed: 2, temperature: 0.25 }),
      5_000,
    );
    expect(first).toBeLessThan(0.002);
    expect(third).toBeLessThan(0.02);
  });

  it('keeps to the nucleus, ties by id', () => {
    // The two best have 0.39 each: one suffices for 0.3, both are needed for 0.7.
    expect(frequencies(new Sampler({ seed: 3, topP: 0.3 }), 200)[1]).toBe(1);
    const two = frequencies(new Sampler({ seed: 3, topP: 0.7 }), 500);
    expect([two[0], two[2], two[4]]).toEqual([0, 0, 0]);
    expect(two[3]).toBeGreaterThan(0.4);
  });

  it('finds a nucleus that reaches into small weights', () => {
    const flat = Float32Array.from({ length: 5_000 }, (_, i) => (i === 0 ? 9 : 0));
    const sampler = new Sampler({ seed: 5, topP: 0.9 });
    const drawn = new Set(Array.from({ length: 400 }, () => sampler.sample(flat).id));
    expect(drawn.size).toBeGreaterThan(50);
    expect(Math.max(...drawn)).toBeLessThan(4_000);
  });

  it('repeats itself with the same seed, large seeds too, and differs without', () => {
    const draw = (seed: number | null): number[] => {
      const sampler = new Sampler({ seed });
      return Array.from({ length: 40 }, () => sampler.sample(logits).id);
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(2 ** 40)).toEqual(draw(2 ** 40));
    expect(draw(2 ** 40)).not.toEqual(draw(2 ** 41));
    expect(draw(7)).not.toEqual(draw(8));
    expect(draw(null)).not.toEqual(draw(null));
  });

  it('reports log p of the model and the best alternatives, whatever the temperature', () => {
    const expected = logSoftmax(logits);
    const { id, logprob, top } = new Sampler({ seed: 9, temperature: 0.1, logprobs: 3 }).sample(
      logits,
    );
    expect(logprob).toBeCloseTo(expected[id] as number, 12);
    expect(top.map((one) => one.id)).toEqual([1, 3, 2]);
    expect(top[2]?.logprob).toBeCloseTo(expected[2] as number, 12);
  });

  it('never draws what has no weight', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ noNaN: true, min: -30, max: 30 }), { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 0, max: 2 ** 53 - 1 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        fc.double({ min: 0.01, max: 5, noNaN: true }),
        (values, seed, topP, temperature) => {
          const row = Float32Array.from([...values, -1e30]);
          const { id } = new Sampler({ seed, topP, temperature }).sample(row);
          expect(id).toBeLessThan(values.length);
          expect(argmax(row)).toBeLessThan(values.length);
        },
      ),
      { numRuns: 200 },
    );
  });
});
