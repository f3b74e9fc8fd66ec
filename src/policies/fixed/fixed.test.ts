import { expect, it } from 'vitest';
import { characters, plannedSegments, segmentsOf } from '../../../test/helpers/policy.ts';
import { fixed } from './fixed.ts';

it('cuts every size tokens', () => {
  expect(segmentsOf(fixed({ size: 3 }), characters('abcdefgh'))).toEqual(['abc', 'def', 'gh']);
});

it('counts from the last actual cut, not from the last request', async () => {
  const limits = { min: 2, max: 4, align: 2 };
  expect(await plannedSegments(fixed({ size: 3 }), characters('abcdefghij'), limits)).toEqual([
    'abcd',
    'efgh',
    'ij',
  ]);
});

it('refuses a size below one', () => {
  expect(() => fixed({ size: 0 })).toThrow('fixed.size: expected an integer >= 1, got 0');
});
