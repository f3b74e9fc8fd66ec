// questions: a cut at the end of a question.
import { definePolicy } from '../define.ts';
import { compileText, cutText, pushText, type TextTables } from '../text/tables.ts';
import { questionMachine } from './machine.ts';

/**
 * Asks for a cut after a token that ends a question: `?`, `？` or `؟`, the closing quotes and brackets
 * after it, and further marks (`?!`).
 *
 * Where `sentences` would cut, and nowhere else: a question inside an open quotation waits for the
 * closer, and asks only if it is the quotation's last sentence; one in brackets inside a sentence does
 * not end it. Nothing is looked up ahead, so a `?` in an address or in code is taken for a question's.
 */
export const questions = definePolicy({
  name: 'questions',
  module: import.meta.url,
  prepare: (vocabulary): TextTables => compileText(vocabulary, questionMachine()),
  start: () => ({ at: 0 }),
  push: (state, token, { tables }) => pushText(state, token, tables),
  cut: (state, { tables }) => cutText(state, tables),
});
