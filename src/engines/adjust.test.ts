import { describe, expect, it } from 'vitest';
import { Adjuster } from './adjust.ts';

const logits = Float32Array.of(1, -1, 2, 0.5);
const row = (adjuster: Adjuster) => Array.from(adjuster.apply(logits));

describe('adjusted logits', () => {
  it('are the same array where nothing changes', () => {
    expect(new Adjuster({ minTokens: 0, repetitionPenalty: 1 }, [1, 2]).apply(logits)).toBe(logits);
    expect(Array.from(logits)).toEqual([1, -1, 2, 0.5]);
  });

  it('bias, then repetition over prompt and answer, then frequency, then presence', () => {
    const adjuster = new Adjuster(
      { bias: { 3: -1 }, repetitionPenalty: 2, frequencyPenalty: 0.25, presencePenalty: 1 },
      [1, 3],
    );
    // The prompt counts for repetition alone: -1 * 2, and (0.5 - 1) * 2.
    expect(row(adjuster)).toEqual([1, -2, 2, -1]);
    adjuster.take(2);
    adjuster.take(2);
    adjuster.take(3);
    // 2 / 2 - 2 * 0.25 - 1, and -1 - 0.25 - 1.
    expect(row(adjuster)).toEqual([1, -2, -0.5, -2.25]);
  });

  it('hold no end before the least number of tokens', () => {
    const adjuster = new Adjuster({ minTokens: 2 }, [0], [2]);
    expect(row(adjuster)).toEqual([1, -1, Number.NEGATIVE_INFINITY, 0.5]);
    adjuster.take(0);
    adjuster.take(0);
    expect(row(adjuster)).toEqual([1, -1, 2, 0.5]);
  });

  it('follow a grammar, which no bias can break', () => {
    const taken: number[] = [];
    const grammar = {
      mask: (own: Float32Array) => own.fill(Number.NEGATIVE_INFINITY, 2),
      accept: (id: number) => taken.push(id),
      close: () => {},
    };
    const adjuster = new Adjuster({ bias: { 2: 100 }, grammar }, [0]);
    expect(row(adjuster).slice(2)).toEqual([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    adjuster.take(1);
    expect(taken).toEqual([1]);
  });
});
