import { expect, test } from 'vitest';
import { TimeLimitError, withinTime } from './time-limit.ts';

test('gives what the function gives, by identity', () => {
  const value = { a: 1 };
  expect(withinTime(() => value, 1000, 'it')).toBe(value);
});

test('throws what the function throws', () => {
  const error = new RangeError('mine');
  const run = () =>
    withinTime(
      () => {
        throw error;
      },
      1000,
      'it',
    );
  expect(run).toThrow(error);
});

test('interrupts an endless loop', () => {
  let turns = 0;
  const run = () =>
    withinTime(
      () => {
        for (;;) turns += 1;
      },
      50,
      'it',
    );
  expect(run).toThrow(TimeLimitError);
  expect(turns).toBeGreaterThan(0);
});
