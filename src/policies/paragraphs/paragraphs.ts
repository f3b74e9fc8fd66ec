// paragraphs: a cut at every blank line.
import { definePolicy } from '../define.ts';
import type { TextMachine } from '../text/machine.ts';
import { compileText, cutText, pushText, type TextTables } from '../text/tables.ts';

/** `line`: newlines since the last visible character; `done`: cut already made at this blank line. */
type State = 'text' | 'line' | 'blank' | 'done';

const [VISIBLE, SPACE, NEWLINE] = [0, 1, 2];

const machine: TextMachine<State> = {
  // A text that begins with blank lines has no paragraph to end.
  start: 'done',
  classes: 3,
  classify: (character) =>
    character === '\n' ? NEWLINE : character.trim() === '' ? SPACE : VISIBLE,
  step: (state, read) => {
    if (read === VISIBLE) return 'text';
    if (read === SPACE || state === 'done' || state === 'blank') return state;
    return state === 'text' ? 'line' : 'blank';
  },
  asks: (state) => state === 'blank',
  settle: (state) => (state === 'blank' ? 'done' : state),
};

/** Asks for a cut after the token that completes a blank line (lines of white space count as blank). */
export const paragraphs = definePolicy({
  name: 'paragraphs',
  module: import.meta.url,
  prepare: (vocabulary): TextTables => compileText(vocabulary, machine),
  start: () => ({ at: 0 }),
  push: (state, token, { tables }) => pushText(state, token, tables),
  cut: (state, { tables }) => cutText(state, tables),
});
