// Which segment of which text ends where, what was cached, and how many spans a stage may have.
import { describe, expect, test } from 'vitest';
import type { RunEvent } from '../engines/runner.ts';
import { MOST_SEGMENTS, OpenSegments, SegmentLog } from './segment-log.ts';

type Ran = RunEvent & { type: 'ran' };

function ran(choice: number, from: number, end: number, more: Partial<Ran> = {}): Ran {
  const boundary = { at: end, retrieved: [{ layer: 1, positions: [Int32Array.of(4, 5)] }] };
  return {
    ...{ choice, type: 'ran', prompt: false, from, tokens: new Int32Array(end - from), boundary },
    ...more,
  };
}

describe('open segments', () => {
  test('each text goes on where its own prompt ended', () => {
    const segments = new OpenSegments(2);
    const take = (event: Ran) => {
      const { index, first, end } = segments.take(event) ?? {};
      return [index, first, end];
    };
    expect(take(ran(0, 0, 10, { prompt: true }))).toEqual([0, 0, 10]);
    expect(segments.take(ran(0, 10, 14, { prompt: true, boundary: null }))).toBeNull();
    expect(take(ran(0, 14, 20))).toEqual([1, 10, 20]);
    expect(take(ran(0, 20, 25))).toEqual([2, 20, 25]);
    expect(take(ran(1, 14, 30))).toEqual([1, 10, 30]);
    // The second prompt begins anew.
    expect(take(ran(2, 0, 8, { prompt: true }))).toEqual([0, 0, 8]);
    expect(take(ran(3, 8, 9))).toEqual([1, 8, 9]);
  });
});

describe('the log', () => {
  test('what ran, what was cached, and what ended in the answer', () => {
    const log = new SegmentLog(performance.now());
    const segments = new OpenSegments(1);
    const see = (event: Ran, first?: number) => log.see(event, segments.take(event), first);
    see(ran(0, 0, 10, { prompt: true, cached: true }));
    see(ran(0, 10, 20, { prompt: true }));
    see(ran(0, 20, 25, { prompt: true, boundary: null }));
    const first = performance.now();
    see(ran(0, 25, 30), first);
    expect(log.cached).toBe(1);
    expect(log.prefill.kept).toMatchObject([{ index: 1, first: 10, end: 20, retrieved: 2 }]);
    expect(log.decode.kept).toMatchObject([{ index: 2, first: 20, end: 30, from: first }]);
  });

  test('a stage keeps a bounded number and counts the others', () => {
    const log = new SegmentLog(0);
    const segments = new OpenSegments(1);
    for (let i = 0; i < MOST_SEGMENTS + 3; i++) {
      const event = ran(0, i, i + 1, { prompt: true });
      log.see(event, segments.take(event), undefined);
    }
    expect([log.prefill.kept.length, log.prefill.leftOut]).toEqual([MOST_SEGMENTS, 3]);
    expect(log.decode).toEqual({ kept: [], leftOut: 0 });
  });
});
