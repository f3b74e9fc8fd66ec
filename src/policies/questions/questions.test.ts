import { describe, expect, it } from 'vitest';
import { characters, plannedSegments, segmentsOf, words } from '../../../test/helpers/policy.ts';
import { after } from '../combinators/after.ts';
import { anyOf } from '../combinators/any-of.ts';
import { sentences } from '../sentences/sentences.ts';
import { questions } from './questions.ts';

/** Each list is one text; the policy shall cut between its items and nowhere else. */
const texts: Record<string, string[]> = {
  'questions among other sentences': ['It rained. Was it cold?', ' Very! No. And why?', ' So. It'],
  'several marks': ['What?!', ' No! Really??', ' Never!?', ' Why.'],
  'closing quotes and brackets': [
    'He said: "Who goes there?"',
    ' Nobody. (Was it late?)',
    ' «Quoi ?»',
    ' “No.” So',
  ],
  'a quotation whose last sentence is none': ['"Who? Me. Why? No." He left. Did he?', ' Yes.'],
  'a question in brackets inside a sentence': ['It rained (did it?) and stopped. Did it?', ' Yes'],
  'a question that quotes a sentence': ['Did he say "Go away."?', ' He did.'],
  'other scripts': ['明日は雨？', '晴れ。¿Qué?', ' ¡Sí! هل تمطر؟', ' نعم'],
  'an open quotation ends with the paragraph': ['She asked, "Who\n\nAre you?', ' I am.\n\nNo'],
  'no question at all': ['One. Two! "Three." (Four.)\n\nFive… Six...\n\nEnd'],
};

describe.each(Object.entries(texts))('%s', (_, expected) => {
  it('is cut after questions alone', () => {
    const cut = segmentsOf(questions(), words(expected.join('')));
    expect(cut.map((text) => text.trim())).toEqual(expected.map((text) => text.trim()));
  });
});

it('asks only where sentences does', () => {
  const tokens = words(Object.values(texts).flat().join(' '));
  const ends = (cut: string[]): number[] => {
    let at = 0;
    return cut.map((text) => {
      at += text.length;
      return at;
    });
  };
  const all = new Set(ends(segmentsOf(sentences({ abbreviations: [] }), tokens)));
  const asked = ends(segmentsOf(questions(), tokens));
  expect(asked.length).toBeGreaterThan(10);
  expect(asked.filter((end) => !all.has(end))).toEqual([]);
  expect(asked.length).toBeLessThan(all.size);
});

it('cuts a mark split from its closer, and one in the same token', () => {
  expect(segmentsOf(questions(), ['"', 'Who', '?', '"', ' I'])).toEqual(['"Who?"', ' I']);
  expect(segmentsOf(questions(), ['"', 'Who', '?"', ' I'])).toEqual(['"Who?"', ' I']);
  expect(segmentsOf(questions(), characters('A? B.'))).toEqual(['A?', ' B.']);
});

it('forgets a question at a special token', () => {
  expect(segmentsOf(questions(), ['"', 'Who', '?', '<end>', '"', ' I', '.'])).toEqual([
    '"Who?<end>" I.',
  ]);
});

it('stands beside sentences with a minimum of their own', async () => {
  const policy = anyOf(after(sentences(), 8), questions());
  const tokens = words('It is so. Is it? Yes. It was so then and it is now. No');
  expect(await plannedSegments(policy, tokens, { min: 1, max: 64, align: 1 })).toEqual([
    'It is so. Is it?',
    ' Yes. It was so then and it is now.',
    ' No',
  ]);
});
