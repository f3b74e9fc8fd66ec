import { expect, it } from 'vitest';
import { compileSequences, readSequence } from './matcher.ts';

/** Lengths of the text after which a sequence of each list is complete. */
function ends(lists: number[][][], text: readonly number[]): number[][] {
  const tables = compileSequences(lists);
  const found: number[][] = lists.map(() => []);
  let at = 0;
  text.forEach((token, i) => {
    at = readSequence(tables, at, token);
    tables.complete.forEach((nodes, list) => {
      if (nodes.includes(at)) found[list]?.push(i + 1);
    });
  });
  return found;
}

it('finds sequences that begin again within themselves', () => {
  expect(ends([[[1, 1, 2]]], [1, 1, 1, 2, 1, 2, 1, 1, 2])).toEqual([[4, 9]]);
  expect(ends([[[1, 2, 1, 3]]], [1, 2, 1, 2, 1, 3])).toEqual([[6]]);
});

it('finds one sequence within another, and keeps lists apart', () => {
  expect(ends([[[5, 1, 2, 6]], [[1, 2]]], [5, 1, 2, 6, 1, 2, 7, 5, 1, 2])).toEqual([
    [4],
    [3, 6, 10],
  ]);
});

it('finds what a search through the text finds', () => {
  const lists = [
    [[0, 1, 0], [2]],
    [
      [1, 0, 1],
      [0, 0],
    ],
  ];
  let seed = 7;
  const text = Array.from({ length: 3000 }, () => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return (seed >> 16) % 4;
  });
  const slow = lists.map((list) =>
    text.flatMap((_, i) =>
      list.some((one) => text.slice(Math.max(0, i + 1 - one.length), i + 1).join() === one.join())
        ? [i + 1]
        : [],
    ),
  );
  expect(slow[0]?.length).toBeGreaterThan(100);
  expect(ends(lists, text)).toEqual(slow);
});

it('has nothing to find in no sequences', () => {
  expect(ends([[], []], [1, 2])).toEqual([[], []]);
});
