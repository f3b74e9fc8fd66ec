import { describe, expect, it } from 'vitest';
import { LogitsProcessor } from './logits-processor.ts';

const logits = Float32Array.of(1, -1, 2, 0.5);
const row = (processor: LogitsProcessor) => Array.from(processor.apply(logits));

describe('logits', () => {
  it('are the same array where nothing changes', () => {
    expect(new LogitsProcessor({ minTokens: 0, repetitionPenalty: 1 }, [1, 2]).apply(logits)).toBe(
      logits,
    );
    expect(Array.from(logits)).toEqual([1, -1, 2, 0.5]);
  });

  it('bias, then repetition over prompt and answer, then frequency, then presence', () => {
    const processor = new LogitsProcessor(
      { bias: { 3: -1 }, repetitionPenalty: 2, frequencyPenalty: 0.25, presencePenalty: 1 },
      [1, 3],
    );
    // The prompt counts for repetition alone: -1 * 2, and (0.5 - 1) * 2.
    expect(row(processor)).toEqual([1, -2, 2, -1]);
    processor.take(2);
    processor.take(2);
    processor.take(3);
    // 2 / 2 - 2 * 0.25 - 1, and -1 - 0.25 - 1.
    expect(row(processor)).toEqual([1, -2, -0.5, -2.25]);
  });

  it('hold no end before the least number of tokens', () => {
    const processor = new LogitsProcessor({ minTokens: 2 }, [0], [2]);
    expect(row(processor)).toEqual([1, -1, Number.NEGATIVE_INFINITY, 0.5]);
    processor.take(0);
    processor.take(0);
    expect(row(processor)).toEqual([1, -1, 2, 0.5]);
  });

  it('follow a grammar, which no bias can break', () => {
    const taken: number[] = [];
    const grammar = {
      mask: (own: Float32Array) => own.fill(Number.NEGATIVE_INFINITY, 2),
      accept: (id: number) => taken.push(id),
      close: () => {},
    };
    const processor = new LogitsProcessor({ bias: { 2: 100 }, grammar }, [0]);
    expect(row(processor).slice(2)).toEqual([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    processor.take(1);
    expect(taken).toEqual([1]);
  });
});
