import { expect, test } from 'vitest';
import { PlannedCuts, pushInPieces } from './planned.ts';

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

/** Notes how many tokens it is given at once, and cuts after every thousandth. */
class Noted {
  readonly sizes: number[] = [];
  #position = 0;

  pushMany(tokens: ArrayLike<number>): number[] {
    const from = this.#position;
    this.sizes.push(tokens.length);
    this.#position += tokens.length;
    const all = Array.from({ length: 10 }, (_, i) => (i + 1) * 1000);
    return all.filter((cut) => cut > from && cut <= this.#position);
  }
}

test('a long text is planned in pieces, and the event loop turns between them', async () => {
  const noted = new Noted();
  const turns: number[] = [];
  const turn = () => {
    turns.push(noted.sizes.length);
    if (noted.sizes.length < 3) setImmediate(turn);
  };
  setImmediate(turn);
  expect(await pushInPieces(noted, new Int32Array(5000))).toEqual([1000, 2000, 3000, 4000, 5000]);
  expect(noted.sizes).toEqual([2048, 2048, 904]);
  expect(turns).toEqual(expect.arrayContaining([1, 2]));
  expect(await pushInPieces(noted, new Int32Array(0))).toEqual([]);
});

test('planning ends where nobody waits for it any more', async () => {
  const noted = new Noted();
  const leave = new AbortController();
  const planning = pushInPieces(noted, new Int32Array(5000), leave.signal);
  leave.abort(new Error('gone'));
  await expect(planning).rejects.toThrow('gone');
  expect(noted.sizes).toEqual([2048]);
});
