import { describe, expect, it } from 'vitest';
import { characters, segmentsOf, vocabularyOf } from '../../../test/helpers/policy.ts';
import { delimiters } from './delimiters.ts';

it('cuts after token ids', () => {
  // Ids are given by first appearance: a = 0, b = 1, c = 2.
  expect(segmentsOf(delimiters({ tokens: [1] }), ['a', 'b', 'c', 'b', 'a'])).toEqual([
    'ab',
    'cb',
    'a',
  ]);
});

describe('strings', () => {
  const policy = delimiters({ strings: ['END', '\n--\n', 'NDX'] });

  it('are found in one token and over several', () => {
    expect(segmentsOf(policy, ['aEND', 'bE', 'N', 'D', 'c', '\n-', '-\nd'])).toEqual([
      'aEND',
      'bEND',
      'c\n--\nd',
    ]);
  });

  it('are found where they overlap, and where a false start precedes', () => {
    expect(segmentsOf(policy, characters('EENDXE\n\n--\na'))).toEqual([
      'EEND',
      'X',
      'E\n\n--\n',
      'a',
    ]);
  });

  it('name a special token by its text, among other text and beside other strings', () => {
    const both = delimiters({ strings: ['<end>', 'x.'] });
    expect(segmentsOf(both, ['a', '<end>', 'x', '.', '<e', 'nd>', '<other>', 'b'])).toEqual([
      'a<end>',
      'x.',
      '<end>',
      '<other>b',
    ]);
  });

  it('that go on over a special token are refused with what to write', () => {
    const over = delimiters({ strings: ['a', '<end>\n'] });
    expect(() => over.prepare(vocabularyOf(['a', '<end>', '\n']))).toThrow(
      'delimiters.strings[1]: expected a special token alone or a string without one, got "<end>\\n", which holds "<end>"',
    );
  });

  it('do not span a special token', () => {
    expect(segmentsOf(policy, ['E', 'N', '<end>', 'D', 'x'])).toEqual(['EN<end>Dx']);
  });
});

it('fits a pattern to the text of single tokens, once, and not to special ones', () => {
  const policy = delimiters({ pattern: '[.!]$' });
  expect(policy.prepare(vocabularyOf(['a.', '.', '!?', '<s>', 'b!']))).toEqual({
    tokens: [0, 1, 4],
    strings: null,
  });
  expect(segmentsOf(policy, ['a', '.', 'b!', 'c'])).toEqual(['a.', 'b!', 'c']);
});

it.each([
  [{}, 'delimiters: expected at least one of tokens, strings and pattern'],
  [{ pattern: '(' }, 'delimiters.pattern: expected a regular expression, got "("'],
  [{ tokens: [-1] }, 'delimiters.tokens[0]: expected a token id (an integer >= 0), got -1'],
  [
    { strings: ['a', ''] },
    'delimiters.strings[1]: expected a string of 1 to 64 characters, got ""',
  ],
])('refuses %j', (params, message) => {
  expect(() => delimiters(params)).toThrow(message);
});
