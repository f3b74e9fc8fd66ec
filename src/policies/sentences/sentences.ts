// sentences: a cut at the end of a sentence of prose.
import { definePolicy } from '../define.ts';
import { compileText, cutText, pushText, type TextTables } from '../text/tables.ts';
import { sentenceMachine } from './machine.ts';

/** Words whose full stop does not end a sentence. Single letters never end one (but for "I"). */
const abbreviations: readonly string[] = [
  'Mr',
  'Mrs',
  'Ms',
  'Messrs',
  'Mme',
  'Mlle',
  'Dr',
  'Ph',
  'Prof',
  'Rev',
  'Hon',
  'St',
  'Sr',
  'Jr',
  'Esq',
  'Gen',
  'Col',
  'Capt',
  'Lt',
  'Sgt',
  'Gov',
  'Sen',
  'Rep',
  'Pres',
  'vs',
  'viz',
  'etc',
  'cf',
  'al',
  'ca',
  'approx',
  'Fig',
  'fig',
  'Figs',
  'Eq',
  'Vol',
  'vol',
  'pp',
  'Inc',
  'Ltd',
  'Co',
  'Corp',
  'Jan',
  'Feb',
  'Aug',
  'Sept',
  'Oct',
  'Nov',
  'Dec',
];

/**
 * Asks for a cut after a token that ends a sentence: full stop, question or exclamation mark and
 * the closing quotes and brackets after it; a blank line ends a sentence too.
 *
 * Not after `abbreviations`, initials, decimal points and ellipses, nor inside an open quotation or
 * bracket (their end is the sentence's end). Nothing is looked up ahead, so "in 1984." is taken for
 * a number unless the line ends there.
 */
export const sentences = definePolicy({
  name: 'sentences',
  module: import.meta.url,
  params: { abbreviations },
  check: ({ abbreviations }, refuse) => {
    abbreviations.forEach((text, i) => {
      if (!/^\p{L}{1,16}$/u.test(text)) {
        refuse(`abbreviations[${i}]`, 'a word of 1 to 16 letters, without its full stop');
      }
    });
    if (abbreviations.length > 200) refuse('abbreviations', 'at most 200 words');
  },
  prepare: (vocabulary, params): TextTables =>
    compileText(vocabulary, sentenceMachine(params.abbreviations)),
  start: () => ({ at: 0 }),
  push: (state, token, { tables }) => pushText(state, token, tables),
  cut: (state, { tables }) => cutText(state, tables),
});
