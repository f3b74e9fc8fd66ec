import { expect, test } from 'vitest';
import { PlannedCuts } from './planned.ts';

test.each([1, 2, 3, 7, 20])(
  'cuts come with the tokens before them, %i tokens at a time',
  (size) => {
    const cuts = [3, 4, 9, 14];
    const planned = new PlannedCuts(cuts);
    const seen: number[] = [];
    for (let at = 0; at < 15; at += size) {
      const end = Math.min(15, at + size);
      const now = planned.pushMany(new Int32Array(end - at));
      expect(now).toEqual(cuts.filter((cut) => cut > at && cut <= end));
      seen.push(...now);
    }
    expect(seen).toEqual(cuts);
  },
);

test('token by token it says whether the text is cut behind it', () => {
  const planned = new PlannedCuts([2, 3]);
  expect([0, 0, 0, 0].map((id) => planned.push(id))).toEqual([false, true, true, false]);
});
