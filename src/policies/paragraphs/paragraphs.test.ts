import { describe, expect, it } from 'vitest';
import { characters, plannedSegments, segmentsOf, words } from '../../../test/helpers/policy.ts';
import { paragraphs } from './paragraphs.ts';

const text = 'One\ntwo\n\nthree\r\n\r\nfour\n \t\nfive\n\n\n\nsix';

describe.each([
  ['characters', characters],
  ['words', words],
])('tokens are %s', (_, split) => {
  it('cuts at blank lines, also of white space', () => {
    const segments = segmentsOf(paragraphs(), split(text));
    expect(segments.map((segment) => segment.trim())).toEqual([
      'One\ntwo',
      'three',
      'four',
      'five',
      'six',
    ]);
  });

  it('asks once for a run of blank lines, and never before the first text', () => {
    expect(segmentsOf(paragraphs(), split('\n\n\na\n\n\n\n\nb'))).toHaveLength(2);
  });
});

it('asks again while the blank line lasts, where a first request was dropped', async () => {
  const limits = { min: 4, max: 100, align: 1 };
  expect(await plannedSegments(paragraphs(), characters('a\n\n\nb'), limits)).toEqual([
    'a\n\n\n',
    'b',
  ]);
});
