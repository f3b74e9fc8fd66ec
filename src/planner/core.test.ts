import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { definePolicy } from '../policies/index.ts';
import { advance, begin, restore, type SegmentLimits, snapshot } from './core.ts';

/** Token 1 asks for a cut, 0 does not; the state counts cuts, to see that each is told. */
const asking = definePolicy({
  name: 'asking',
  start: () => ({ cuts: 0 }),
  push: (_state, token) => token === 1,
  cut: (state) => {
    state.cuts += 1;
  },
})();

function plan(tokens: readonly number[], limits: SegmentLimits): number[] {
  const sequence = begin(asking);
  return tokens.flatMap((token) =>
    advance(asking, null, limits, sequence, token) ? [sequence.position] : [],
  );
}

/** The rule of SEMANTICS.md 5, stated segment by segment over all requests at once. */
function reference(tokens: readonly number[], { min, max, align }: SegmentLimits): number[] {
  const cuts: number[] = [];
  for (let start = 0; ; ) {
    const asked = tokens.findIndex((token, i) => token === 1 && i - start + 1 >= min);
    const wanted = asked === -1 ? Infinity : Math.ceil((asked - start + 1) / align) * align;
    const end = start + Math.min(wanted, max);
    if (end > tokens.length) return cuts;
    cuts.push(end);
    start = end;
    tokens = tokens.map((token, i) => (i < start ? 0 : token));
  }
}

const limits = fc
  .tuple(
    fc.integer({ min: 1, max: 5 }),
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 0, max: 4 }),
  )
  .map(([align, first, more]) => ({ align, min: align * first, max: align * (first + more) }));
const tokens = fc.array(fc.integer({ min: 0, max: 1 }), { maxLength: 120 });

describe('for any requests and limits', () => {
  it('cuts fall where the rule says', () => {
    fc.assert(
      fc.property(tokens, limits, (list, limit) => {
        expect(plan(list, limit)).toEqual(reference(list, limit));
      }),
    );
  });

  it('every closed segment has min <= length <= max and a length that align divides', () => {
    fc.assert(
      fc.property(tokens, limits, (list, limit) => {
        plan(list, limit).forEach((cut, i, cuts) => {
          const length = cut - (cuts[i - 1] ?? 0);
          expect(length).toBeGreaterThanOrEqual(limit.min);
          expect(length).toBeLessThanOrEqual(limit.max);
          expect(length % limit.align).toBe(0);
        });
      }),
    );
  });

  it('the plan of a prefix is a prefix of the plan', () => {
    fc.assert(
      fc.property(tokens, limits, fc.nat(), (list, limit, cut) => {
        const length = list.length === 0 ? 0 : cut % list.length;
        const whole = plan(list, limit).filter((boundary) => boundary <= length);
        expect(plan(list.slice(0, length), limit)).toEqual(whole);
      }),
    );
  });

  it('a snapshot changes nothing, and the policy is told of every cut', () => {
    fc.assert(
      fc.property(tokens, limits, (list, limit) => {
        let sequence = begin(asking);
        const cuts = list.flatMap((token) => {
          sequence = restore(snapshot(sequence));
          return advance(asking, null, limit, sequence, token) ? [sequence.position] : [];
        });
        expect(cuts).toEqual(plan(list, limit));
        expect(sequence.state).toEqual({ cuts: cuts.length });
      }),
    );
  });
});

describe('a state that JSON would change is refused', () => {
  it.each([
    [{ seen: new Map() }, 'expected state.seen to be JSON, got a Map'],
    [{ list: [1, undefined] }, 'expected state.list[1] to be JSON, got undefined'],
    [{ sum: Number.NaN }, 'expected state.sum to be JSON, got NaN'],
    [{ f: () => 1 }, 'expected state.f to be JSON, got a function'],
  ])('%o', (state, message) => {
    const policy = definePolicy({
      name: 'holder',
      start: () => state as object,
      push: () => false,
    })();
    expect(() => begin(policy)).toThrow(message);
  });
});
