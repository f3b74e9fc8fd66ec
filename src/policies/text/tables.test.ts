import { expect, test } from 'vitest';
import type { Vocabulary } from '../policy.ts';
import { compileText } from './tables.ts';

/** Nine states; `a` moves all by one, `b` exchanges two: words of both reach each of their 362,880 orders. */
const machine = {
  start: 0,
  classes: 2,
  classify: (character: string) => (character === 'a' ? 0 : 1),
  step: (state: number, read: number) =>
    read === 0 ? (state + 1) % 9 : state < 2 ? 1 - state : state,
  asks: (state: number) => state === 0,
};

function words(size: number): Vocabulary {
  const text = (id: number): string =>
    ((id * 2_654_435_761) % 2 ** 32).toString(2).replaceAll('1', 'ab').replaceAll('0', 'aab');
  return { size, text, special: () => false } as unknown as Vocabulary;
}

test('as many classes of tokens as a string can number, and no more', () => {
  expect(compileText(words(5_000), machine).maps.length).toBeGreaterThan(1_000);
  expect(() => compileText(words(100_000), machine)).toThrow(
    expect.objectContaining({
      code: 'LS_POLICY_TABLES',
      message: expect.stringMatching(
        /^expected at most 65536 states and classes of tokens, got 9 and \d{5,6}$/,
      ),
    }),
  );
});
