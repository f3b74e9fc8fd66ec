import { expect, it } from 'vitest';
import { characters, segmentsOf } from '../../../test/helpers/policy.ts';
import { delimiters } from '../delimiters/delimiters.ts';
import { fixed } from '../fixed/fixed.ts';
import { paragraphs } from '../paragraphs/paragraphs.ts';
import { sentences } from '../sentences/sentences.ts';
import { after } from './after.ts';
import { anyOf } from './any-of.ts';

const stops = delimiters({ strings: ['.'] });

it('anyOf cuts where one of its policies asks', () => {
  expect(segmentsOf(anyOf(stops, fixed({ size: 4 })), characters('ab.cdefgh.'))).toEqual([
    'ab.',
    'cdef',
    'gh.',
  ]);
});

it('after drops requests until enough tokens have gone by', () => {
  expect(segmentsOf(after(stops, 4), characters('a.b.c.d.e'))).toEqual(['a.b.', 'c.d.', 'e']);
});

it('gives each policy of one anyOf its own minimum', () => {
  const policy = anyOf(after(stops, 6), paragraphs());
  expect(segmentsOf(policy, characters('a.b\n\nc.d.e.f.g'))).toEqual(['a.b\n\n', 'c.d.e.', 'f.g']);
});

it('prints as a tree of names and parameters', () => {
  expect(JSON.parse(JSON.stringify(anyOf(after(stops, 4), fixed({ size: 2 }))))).toEqual({
    kind: 'policy',
    name: 'anyOf',
    params: {
      policies: [
        {
          name: 'after',
          params: {
            tokens: 4,
            policies: [{ name: 'delimiters', params: { tokens: [], strings: ['.'], pattern: '' } }],
          },
        },
        { name: 'fixed', params: { size: 2 } },
      ],
    },
  });
});

it('refuses what is no policy', () => {
  expect(() => anyOf()).toThrow('anyOf: expected at least one policy, got none');
  expect(() => anyOf(sentences as never)).toThrow(
    'anyOf: expected argument 1 to be a policy, got function (a factory: call it, as in sentences())',
  );
  expect(() => after(stops, 0)).toThrow('after.tokens: expected an integer >= 1, got 0');
});
