// turns: cuts around the answers of a conversation, by the checkpoint's own chat template.
import { definePolicy } from '../define.ts';
import { compileSequences, readSequence, type SequenceTables } from './matcher.ts';

/**
 * Asks for a cut after the header that opens an assistant's answer (`<|im_start|>assistant\n`) and at
 * the end of an answer (after `<|im_end|>\n`), as the chat template writes them.
 *
 * A user's turn ends with the header of its answer: a cut at its own `<|im_end|>` would stand a few
 * tokens before the header's, which `segment.min` would then drop. Outside an answer, an end asks for
 * nothing. The header asks until there is a cut or the answer ends: where it comes too early after the
 * last cut, the next one falls as soon as `segment.min` lets it.
 */
export const turns = definePolicy({
  name: 'turns',
  module: import.meta.url,
  prepare: (vocabulary): SequenceTables => {
    const marks = vocabulary.chat?.();
    if (marks === undefined) throw new Error('turns needs a vocabulary that has a chat template');
    return compileSequences([marks.answer, marks.ends]);
  },
  start: () => ({ at: 0, answering: false, waiting: false }),
  push: (state, token, { tables }) => {
    state.at = readSequence(tables, state.at, token);
    const [answer, ends] = tables.complete as [readonly number[], readonly number[]];
    if (state.at !== 0 && answer.includes(state.at)) {
      state.answering = true;
      state.waiting = true;
    } else if (state.at !== 0 && state.answering && ends.includes(state.at)) {
      state.answering = false;
      state.waiting = false;
      return true;
    }
    return state.waiting;
  },
  cut: (state) => {
    state.waiting = false;
  },
});
