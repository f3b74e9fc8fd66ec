// A policy in twenty lines: cut a play where a speech ends, that is, at a blank line.
import { definePolicy, has } from 'lockstep';

export const speeches = definePolicy({
  name: 'speeches',
  // How many speeches make a segment.
  params: { speeches: 2 },
  // Once, when the contract is made: which token ids matter. Text is never looked at again.
  prepare: (vocabulary) => ({
    newline: vocabulary.select((text) => /\n[ \r]*$/.test(text)),
    blank: vocabulary.select((text) => /\n[ \r]*\n[ \r]*$/.test(text)),
  }),
  start: () => ({ newline: false, ended: 0 }),
  push(state, token, { tables, params }) {
    const newline = has(tables.newline, token);
    const ends = has(tables.blank, token) || (newline && state.newline);
    state.newline = newline;
    if (ends) state.ended += 1;
    return ends && state.ended >= params.speeches;
  },
  cut: (state) => {
    state.ended = 0;
  },
});
