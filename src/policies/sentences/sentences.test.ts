import { describe, expect, it } from 'vitest';
import { characters, plannedSegments, segmentsOf, words } from '../../../test/helpers/policy.ts';
import { sentences } from './sentences.ts';

/** Each list is one text; the policy shall cut between its items and nowhere else. */
const texts: Record<string, string[]> = {
  'plain sentences': ['One day it rained.', ' Was it cold?', ' Very!', ' So'],
  titles: ['Mr. Smith met Mrs. Jones and Dr. Who, Ph.D., at St. Paul.', ' Then'],
  initials: [
    'J. R. R. Tolkien and T.S. Eliot lived in the U.S. and elsewhere, e.g. in Oxford.',
    ' They',
  ],
  decimals: ['It costs 3.14 dollars and .5 cents, in version 1.2.3 of it.', ' Yes'],
  'closing quotes': ['He said, "Go away."', ' She went.', ' “Never mind.”', ' No'],
  'several sentences in one quotation': ['"I came. I saw! Did I conquer?"', ' He asked.', ' Yes'],
  'quotation marks after and before the stop': ['He said "stop".', ' She said ‘no.’', ' So'],
  brackets: [
    'It rained (as it does. Often.) and stopped.',
    ' (It was late.)',
    ' [Really?]',
    ' Yes',
  ],
  ellipsis: ['Well... perhaps not.', ' Hm . . . who knows.', ' So… it goes.', ' Next'],
  'question and exclamation': ['What?!', ' No!!!', ' Why'],
  'the pronoun': ['Nobody is taller than I.', ' True'],
  apostrophes: ["'Tis done, and don't doubt it.", " O'Brien's is 'the' best.", ' So'],
  'a blank line ends all': [
    'An open "quote without its end\n\n',
    'Another (one\n\n',
    'New.',
    ' Start',
  ],
  'a number ends with its line': ['It was 1984.\n', 'War began.', '\nPeace'],
  'CJK and Spanish': ['今日は晴れ。', '明日は雨？', ' ¿Qué?', ' ¡Sí!', ' Bien'],
  'a list of abbreviations': [
    'Apples, pears, etc. are fruit, cf. Fig. 3 on pp. 4 and 5 there.',
    ' Ok',
  ],
};

describe.each(Object.entries(texts))('%s', (_, expected) => {
  it('is cut between sentences where marks are tokens of their own', () => {
    expect(trimmed(segmentsOf(sentences(), words(expected.join(''))))).toEqual(trimmed(expected));
  });
});

it('depends on the text alone where tokens end with the marks', () => {
  const text = 'Mr. Smith said: "Go. Now." Then 3.14 came!\n\nAnd (so. on.) it went. End';
  const fine = segmentsOf(sentences(), words(text));
  const merged = segmentsOf(sentences(), text.match(/\s*\S+/g) ?? []);
  expect(trimmed(merged)).toEqual(trimmed(fine));
  expect(segmentsOf(sentences(), characters('One. Two.'))).toEqual(['One.', ' Two.']);
});

it('lets the white space after a cut ask for nothing', () => {
  expect(segmentsOf(sentences(), ['A', ' cat', '.', '\n', '\n', ' "', 'No', '."', ' So'])).toEqual([
    'A cat.',
    '\n\n "No."',
    ' So',
  ]);
});

it('asks again at the white space where the stop came too early', async () => {
  const limits = { min: 4, max: 100, align: 1 };
  expect(await plannedSegments(sentences(), ['A', ' cat', '.', '\n', 'The'], limits)).toEqual([
    'A cat.\n',
    'The',
  ]);
});

it('takes other abbreviations', () => {
  const tokens = words('See Abb. 3. Mr. X');
  expect(segmentsOf(sentences({ abbreviations: ['Abb'] }), tokens)).toEqual([
    'See Abb. 3. Mr.',
    ' X',
  ]);
  expect(() => sentences({ abbreviations: ['Mr.'] })).toThrow(
    'sentences.abbreviations[0]: expected a word of 1 to 16 letters, without its full stop, got "Mr."',
  );
});

function trimmed(segments: readonly string[]): string[] {
  return segments.map((segment) => segment.trim());
}
