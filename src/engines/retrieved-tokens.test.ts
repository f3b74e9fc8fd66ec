import { expect, test } from 'vitest';
import { retrievedSpans, retrievedTokens, withoutFilling } from './retrieved-tokens.ts';

const rows = (...lists: number[][]) => lists.map((list) => Int32Array.from(list));

test('tokens are counted over layers and heads, sinks added', () => {
  const retrieved = [
    { layer: 1, positions: rows([0, 1, 5], [1, 2, 5]) },
    { layer: 4, positions: rows([5, 6, 7]) },
  ];
  const found = retrievedTokens({ at: 20, retrieved }, 4);
  expect(found).toMatchObject({ at: 20, heads: 3 });
  expect(Array.from(found.positions)).toEqual([4, 5, 6, 9, 10, 11]);
  expect(Array.from(found.counts)).toEqual([1, 2, 1, 3, 1, 1]);
});

test('neighbours that as many heads took are one span, the strongest first', () => {
  const spans = retrievedSpans({
    at: 100,
    heads: 4,
    positions: Int32Array.of(4, 5, 6, 10, 11, 12, 13, 40, 41),
    counts: Int32Array.of(1, 1, 1, 4, 3, 4, 1, 2, 2),
  });
  expect(spans).toEqual([
    { tokens: [10, 13], weight: 11 / 12 },
    { tokens: [40, 42], weight: 0.5 },
    { tokens: [4, 7], weight: 0.25 },
    { tokens: [13, 14], weight: 0.25 },
  ]);
});

test('a weak end does not join by way of a chain, and spans tile what was taken', () => {
  const counts = Int32Array.of(20, 16, 13, 10, 8, 6, 5, 4, 3, 2, 1);
  const positions = Int32Array.from(counts.keys());
  const spans = retrievedSpans({ at: 11, heads: 20, positions, counts });
  expect(spans[0]).toEqual({ tokens: [0, 2], weight: 0.9 });
  const covered = spans.flatMap(({ tokens: [from, to] }) =>
    Array.from({ length: to - from }, (_, i) => from + i),
  );
  expect(covered.sort((a, b) => a - b)).toEqual(Array.from(positions));
});

test('no head, no row: no span', () => {
  expect(retrievedSpans(retrievedTokens({ at: 9, retrieved: [] }, 4))).toEqual([]);
  const none = retrievedTokens({ at: 4, retrieved: [{ layer: 0, positions: rows([], []) }] }, 4);
  expect(none.heads).toBe(2);
  expect(retrievedSpans(none)).toEqual([]);
});

test('what fills up from the beginning is set aside, head by head', () => {
  const retrieved = [
    { layer: 1, positions: rows([0, 1, 2, 9, 10], [3, 4, 5, 6, 7]) },
    { layer: 2, positions: rows([0, 4, 5, 6, 7]) },
  ];
  const { chosen, filled } = withoutFilling(retrieved);
  expect(filled).toBe(3);
  expect(chosen).toEqual([
    { layer: 1, positions: rows([9, 10], [3, 4, 5, 6, 7]) },
    { layer: 2, positions: rows([4, 5, 6, 7]) },
  ]);
  expect(retrievedTokens({ at: 20, retrieved: chosen }, 0).heads).toBe(3);
});
